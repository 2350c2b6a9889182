"""A method's faults are found before a graph is trusted, and said with their place; what is no fault is captured."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from .training import METHOD, SMALL, gpu_with_a_padded_stem, make_spec, make_trial, trained, trial

LINE = METHOD[: METHOD.index("{line}")].count("\n") + 1

WAITS = {
    "a number for the host": "x = x * (1.0 if x.sum().item() > -1 else 2.0)",
    "a branch": "x = x if (y >= 0).all() else -x",
    "a list": "x = x * len(y.tolist()) / len(y)",
    "a copy to the host": "x = x + 0 * x.cpu().mean().item()",
    "a mask": "x, y = x[y >= 0], y[y >= 0]",
    "an index on the host": "order = torch.arange(len(x)); x, y = x[order], y[order]",
    "a number from the host": "x = x + torch.tensor([0.0], device=x.device)",
    "noise from the host": "x = x + 0.01 * torch.rand(x.shape).to(x.device)",
    "classes to be found": "x = x + 0 * F.one_hot(y).float().mean()",
    "unique labels": "x = x + 0 * len(y.unique())",
    "nonzero": "x = x[(y >= 0).nonzero()[:, 0]]",
    "counts": "x = x + 0 * torch.bincount(y, minlength=10).float().mean()",
    "progress": "x = x * (1.0 if float(ctx.progress) < 2 else 2.0)",
    "a number by index": "ctx.buffer('seen', torch.zeros(ctx.num_train, device=x.device))[ids] = 1",
}
OTHERWISE = {
    "a replaced buffer": (
        "ctx.buffers['mean'] = ctx.buffer('mean', like=x.mean(0)) * 0.5 + x.mean(0)",
        "'ctx.buffers mean' is replaced in every batch, not changed in place",
    ),
    "a count on the host": (
        "calls.append(1); x = x if len(calls) % 2 else 1 - x",
        "captured and eager batches diverge: ",
    ),
    "the device's attention": ("torch.cuda.synchronize()", "capture failed: RuntimeError: CUDA error: "),
}
REFUSED = {
    "noise on the host": ("x = x + 0.01 * torch.rand(x.shape)", RuntimeError, "same device"),
    "numpy": ("x = x + x.numpy().mean()", TypeError, "can't convert cuda:0"),
}
HARMLESS = {
    "nothing": "pass",
    "noise": "x = x + 0.01 * torch.rand_like(x)",
    "a number by mask": "x = x.clone(); x[x > 0.9] = 0.9",
    "an index": "order = torch.randperm(len(x), device=x.device); x, y = x[order], y[order]",
    "known classes": "x = x + F.one_hot(y, 10).float().mean()",
    "a choice": "x = torch.where(ctx.progress < 0.5, x, 1 - x)",
    "memory of images": "ctx.buffer('last', torch.zeros(ctx.num_train, 64, device=x.device))[ids] = x.flatten(1)",
    "a running mean": "ctx.buffer('mean', like=x.mean(0)).mul_(0.5).add_(x.mean(0))",
}


@pytest.fixture
def own(tmp_path: Path) -> Callable[[str], str]:
    def write(line: str) -> str:
        (tmp_path / "mine.py").write_text(METHOD.format(line=line))
        return str(tmp_path / "mine.py")

    return write


@pytest.mark.parametrize("fault", WAITS)
def test_a_method_that_waits_is_run_and_the_line_said(own: Callable[[str], str], fault: str) -> None:
    with gpu_with_a_padded_stem():
        one = trial(own(WAITS[fault]), hyper=[])
    assert one.info is not None
    assert not one.info.in_force["graph"]
    assert one.info.notes["graph"].startswith("it waits for the device: called a synchronizing CUDA operation: ")
    assert f" at mine.py:{LINE}" in one.info.notes["graph"]


@pytest.mark.parametrize("fault", OTHERWISE)
def test_a_method_that_a_graph_would_train_otherwise_is_run_and_that_is_said(
    own: Callable[[str], str], fault: str
) -> None:
    line, why = OTHERWISE[fault]
    with gpu_with_a_padded_stem():
        one = trial(own(line), hyper=[])
        trained(one)  # goes on
    assert one.info is not None
    assert one.training.captured is None
    assert one.info.notes["graph"].startswith(why)


NET = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.linear = nn.Linear(64, num_classes)
        self.register_buffer("mean", torch.zeros(64))

    def forward(self, x):
        x = x.flatten(1)
        if self.training:
            self.mean = 0.5 * self.mean + x.detach().mean(0)
        return self.linear(x - self.mean)
"""


def test_a_network_that_replaces_a_buffer_is_run_and_that_is_said(tmp_path: Path) -> None:
    """A graph would read and write where nobody looks any more."""
    (tmp_path / "net.py").write_text(NET)
    flags = {"model": f"{tmp_path / 'net.py'}:Net", "precision": "fp32"}
    with gpu_with_a_padded_stem():
        one = trial("standard", **flags)
        mine = trained(one)
    assert one.info is not None
    assert "is replaced in every batch, not changed in place" in one.info.notes.get("graph", "nothing said")
    plain = make_trial(make_spec("standard", engine="fast", **SMALL, **flags))
    for _ in range(3):
        plain.run(1)
    assert_close({name: mine[name] for name in plain.state}, plain.state, rtol=0, atol=0)


@pytest.mark.parametrize("fault", REFUSED)
def test_a_method_that_no_gpu_can_run_is_refused(own: Callable[[str], str], fault: str) -> None:
    line, error, why = REFUSED[fault]
    with gpu_with_a_padded_stem(), pytest.raises(error, match=why):
        trial(own(line), hyper=[])


@pytest.mark.parametrize("line", HARMLESS.values(), ids=HARMLESS)
def test_a_harmless_method_is_captured_and_trains_as_on_a_cpu(own: Callable[[str], str], line: str) -> None:
    """With the device's noise left out: its generator is its own."""
    method, flags = own(line), {"hyper": [], "precision": "fp32", "without": ["pad-stem"]}
    with gpu_with_a_padded_stem() as gpu:
        one = trial(method, **flags)
        assert one.training.captured is not None
        mine = trained(one)
        gpu.waits.clear()
        one.training.step_through_batch()
        assert not gpu.waits
        mine = {name: value for name, value in mine.items() if not name.startswith("logits")}
    if "rand" not in line:
        plain = make_trial(make_spec(method, engine="fast", **SMALL, **flags))
        losses = {f"loss {number}": torch.tensor(plain.run(1), dtype=torch.float64) for number in range(3)}
        assert_close(mine, losses | plain.state, rtol=0, atol=0)
