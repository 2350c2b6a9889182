"""A graph is held against eager batches: what chance moves is no objection, what it does otherwise is one."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fatbench.data.loader import Plan
from fatbench.training.engine.verification import graph_mismatch

PACE, NUM_TRAIN = (0.5, 0.1), 8


class Net:
    """A thousand weights, a count, and what is remembered of eight images; a batch moves them."""

    def __init__(self, noise: float) -> None:
        self.weights = torch.zeros(1000).requires_grad_()
        self.seen = torch.zeros(NUM_TRAIN, dtype=torch.int64)
        self.count, self.loss, self.step = torch.zeros((), dtype=torch.int64), torch.zeros(()), torch.zeros(())
        self.best = torch.full((NUM_TRAIN, 3), float("inf"))  # the last image's of each batch is never known
        self.best[:, 2] = float("nan")
        self._noise, self._chance = noise, np.random.default_rng(0)  # of kernels: no seed puts it back

    def state(self) -> dict[str, Tensor]:
        return {
            "weights": self.weights,
            "count": self.count,
            "ctx.buffers seen": self.seen,
            "ctx.buffers best": self.best,
            "ctx.step": self.step,
            "loss": self.loss,
        }

    def work(self, plan: Plan, pace: Tensor, fault: str = "") -> None:
        chance = torch.from_numpy(self._chance.normal(0, 1, 1000)).float()
        direction = torch.rand(1000) if fault != "noise" else torch.full((1000,), 0.5)
        with torch.no_grad():
            self.weights.add_(pace[0, 1] * (direction + self._noise * chance))
            if fault == "weights":
                self.weights[:500].mul_(0.5)
            self.seen[plan.rows[: -1 if fault == "images" else None]] += 1
            self.best[plan.rows[:-1], 0] = 2.0 if fault == "best" else 1.0
            self.count.add_(0 if fault == "counts" else 1)
            self.loss.add_(self.weights.sum() * (1.2 if fault == "losses" else 1))


def mismatch(noise: float, fault: str = "", precision: str = "bf16") -> str:
    net = Net(noise)
    plans = [Plan(torch.arange(4) + 4 * k, *(torch.zeros(4, dtype=torch.int64),) * 3) for k in range(2)]
    captured: Any = SimpleNamespace(updates=1, replay=lambda plan, pace: net.work(plan, torch.tensor(pace), fault))
    return graph_mismatch(captured, net.work, plans, PACE, net.state, precision=precision, num_train=NUM_TRAIN)


@pytest.mark.parametrize("noise", [0.0, 0.01, 0.3, 2.0])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_what_eager_batches_differ_by_is_no_objection(noise: float, precision: str) -> None:
    for seed in range(10):
        torch.manual_seed(seed)
        assert mismatch(noise, precision=precision) == ""


FAULTS = {
    "weights": "weights end ",
    "noise": "weights end ",
    "images": "the method's 'seen' end ",
    "best": "the method's 'best' end ",
    "counts": "counts end ",
    "losses": "the losses end ",
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("noise", [0.0, 0.03])
def test_what_a_graph_does_otherwise_is_one(fault: str, noise: float) -> None:
    for seed in range(10):
        torch.manual_seed(seed)
        assert mismatch(noise, fault).startswith(f"captured and eager batches diverge: {FAULTS[fault]}")


def test_a_graph_that_yields_no_number_is_refused() -> None:
    assert "captured and eager batches diverge: weights end nan" in mismatch(float("nan"))
