"""What the engine tests share: small colour nets and images, and trainings on the embedded digits by either engine."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fatbench import methods
from fatbench.config.request import Request
from fatbench.config.resolve import resolve
from fatbench.config.spec import RunSpec
from fatbench.evaluation.eval_mode import isolated_rng
from fatbench.interface import Batch
from fatbench.models.classifier import Classifier
from fatbench.record.parts import EngineInfo
from fatbench.runner.setup import RunContext, set_up
from fatbench.training.loop import Training, TrainStatus
from fatbench.training.passes import count_passes
from fatbench.training.preparation import prepare
from tests.methods import NUM_TRAIN
from tests.methods.test_equivalence import load_twin

CPU = torch.device("cpu")
CASES = [(name, norm) for name in methods.names() for norm in methods.describe(name).norms]
EPS = {"linf": "51/255", "l2": "1.0"}
LIMITED = {"limit_train": 128, "epochs": 1, "schedule": "cyclic"}  # a run of four steps, at a rate that moves
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


def colour_net(activation: Callable[[], nn.Module] = nn.Softplus) -> nn.Sequential:
    """The same net for 3x6x6 images at every call, in train mode; smooth, so that rounding cannot send twins apart."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), activation(), nn.Conv2d(4, 6, 3, stride=2)]
    return nn.Sequential(*layers, nn.BatchNorm2d(6), nn.Tanh(), nn.Flatten(), nn.Linear(24, 5))


def colour_batches(count: int = 3, size: int = 6, dtype: torch.dtype = torch.float64) -> list[Batch]:
    """Batches of 3x6x6 images, black and white pixels among them; images come back."""
    random = torch.Generator().manual_seed(1)
    images = torch.rand(NUM_TRAIN, 3, 6, 6, generator=random).mul(1.6).sub(0.3).clamp(0, 1).to(dtype)
    labels = torch.randint(5, (NUM_TRAIN,), generator=random)
    rows = [torch.randperm(NUM_TRAIN, generator=random)[:size] for _ in range(count)]
    return [Batch(images[ids], labels[ids], ids) for ids in rows]


def classifier(net: nn.Module, precision: str = "fp32") -> Classifier:
    return Classifier(net, MEAN, STD, precision)  # type: ignore[arg-type]


def leaves(tensor: Tensor) -> set[int]:
    """The addresses of all tensors at which the graph of `tensor` would leave gradients."""
    found, queue, seen = set(), [tensor.grad_fn], set()
    while queue:
        node = queue.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            found.add(node.variable.data_ptr())
        queue += [parent for parent, _ in node.next_functions]
    return found


@dataclass
class Trial:
    """A training on digits by the engine that its spec names, ready to run."""

    spec: RunSpec
    context: RunContext
    training: Training
    updates: int  # optimiser steps that a batch is worth
    info: EngineInfo | None = None

    def prepare(self) -> "Trial":
        with isolated_rng(self.spec.seed, self.context.device):
            self.info = prepare(self.training, self.updates, self.spec.training)
        return self

    def run(self, batches: int) -> list[float]:
        """Train on so many batches from a fixed place in the random stream, and return their losses, each a sum."""
        torch.manual_seed(7)
        losses = []
        for _ in range(batches):
            before = float(self.training.loss_sum)
            self.training.step_through_batch()
            losses.append(float(self.training.loss_sum) - before)
        return losses

    def finish(self) -> dict[str, Tensor]:
        """Train to the end of the budget; the state there, with loss, steps and the place in the random stream."""
        torch.manual_seed(7)
        pulses: list[TrainStatus] = []
        self.training.run(lambda _: None, lambda status: bool(pulses.append(status)))
        counts = {"steps": pulses[-1].steps, "batches": pulses[-1].batches, "loss": pulses[-1].loss}
        random = {"random": torch.get_rng_state()}
        return self.state | random | {name: torch.tensor(value) for name, value in counts.items()}

    @property
    def state(self) -> dict[str, Tensor]:
        """What training builds on: weights and statistics, momentum, the method's buffers."""
        slots = self.training.optimizer.state
        named = self.context.model.named_parameters()
        momentum = {f"momentum of {name}": slots[value]["momentum_buffer"] for name, value in named}
        buffers = {f"buffer {name}": value for name, value in self.training.ctx.buffers.items()}
        everything = self.context.model.state_dict() | momentum | buffers
        return {name: value.detach().clone() for name, value in everything.items()}


def make_spec(
    method: str, norm: str = "linf", *, hyper: list[str] | None = None, device: str = "cpu", **flags: object
) -> RunSpec:
    """A run on digits; by default the method's hyper-parameters are its twin's: few steps, all off their defaults."""
    if hyper is None:
        hyper = [f"{name}={value}" for name, value in load_twin(method)[1].items()]
    budget = {} if {"epochs", "time_budget"} & flags.keys() else {"epochs": 5}
    steady = {"lr": 0.125, "schedule": "constant"}  # no rate that float32 would round
    settings = {"evaluate": [], "batch_size": 32, "norm": norm, "eps": EPS[norm], **budget, **steady, **flags}
    return resolve(Request([method], settings=settings, hyper=hyper), device=device)[0]


def make_trial(spec: RunSpec, *, double: bool = False) -> Trial:
    """The training of `spec`, cold; `double`: its weights in float64, where two right answers agree to ten digits."""
    context = set_up(spec, data_dir=None, download=False)
    with isolated_rng(spec.seed, context.device):
        updates = count_passes(context.model, context.method, context.loader.batch(0), context.method_context()).updates
    if double:
        context.model.double()
    return Trial(spec, context, context.training(), updates)
