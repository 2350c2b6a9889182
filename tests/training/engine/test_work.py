"""What the fast engine really executes: no pass and no cast of a weight more than there must be."""

from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.graph import increment_version
from torch.utils._python_dispatch import TorchDispatchMode

from fatbench import methods
from fatbench.config.spec import EnginePart, Precision
from fatbench.interface import Batch
from fatbench.training.engine.fast_model import FastModel
from tests.methods import make_context
from tests.training.test_passes import optimum

from . import classifier, colour_batches

every_method = pytest.mark.parametrize("name", methods.names())
aten = torch.ops.aten
IMAGES = 6


class Witness(TorchDispatchMode):
    """Sees what is executed: passes of the convolution from 4 to 5 channels, casts, copies and batch norms."""

    def __init__(self, weights: list[Tensor] | None = None) -> None:
        super().__init__()
        self.passes: Counter[str] = Counter()
        self.casts: Counter[int] = Counter()  # how often each weight became bfloat16, one tensor at a time
        self.refreshed: Counter[int] = Counter()  # how often each weight was copied into bfloat16, many at a time
        self.copies = self.batch_norms = 0
        self._weights = {weight.data_ptr(): index for index, weight in enumerate(weights or [])}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is aten.convolution.default and args[1].shape[:2] == (5, 4):
            self.passes["forward"] += len(args[0])
        if func is aten.convolution.default and [len(one) for one in args[:2]] == [4, 5]:
            self.passes["weight_backward"] += args[0].shape[1]  # of a backward pass twice: images are the channels
        if func is aten.convolution_backward.default and args[2].shape[:2] == (5, 4):
            to_input, to_weight, _ = args[10]
            self.passes["input_backward"] += len(args[1]) * to_input
            self.passes["weight_backward"] += len(args[1]) * to_weight
        if func is aten._to_copy.default and kwargs.get("dtype") is torch.bfloat16:
            self.casts.update(self._weights[place] for place in [args[0].data_ptr()] if place in self._weights)
        if func is aten._foreach_copy_.default:
            self.copies += 1
            sources = [source.data_ptr() for to, source in zip(*args[:2], strict=True) if to.dtype is torch.bfloat16]
            self.refreshed.update(self._weights[place] for place in sources if place in self._weights)
        self.batch_norms += "batch_norm" in str(func) and "backward" not in str(func)
        return func(*args, **kwargs)


def net() -> nn.Sequential:
    """Its second convolution is the one to watch: only an attack goes back through it to the images."""
    layers = [nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU()]
    layers += [nn.Conv2d(4, 5, 3, padding=1), nn.BatchNorm2d(5), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(5 * 36, 5))


class Bystander:
    """A training that can be watched, one optimiser step at a time."""

    def __init__(self, name: str, precision: Precision, without: tuple[EnginePart, ...] = ()) -> None:
        torch.manual_seed(0)
        self.model = FastModel(classifier(net(), precision), without)
        self.weights = list(self.model.parameters())
        self._method, self._context = methods.load(name), make_context("linf")
        self._opt = torch.optim.SGD(self.weights, lr=0.1, momentum=0.9, fused=True)
        self._opt.register_step_post_hook(lambda *_: increment_version(self.weights))

    def batch(self, batch: Batch) -> list[Witness]:
        """Train on `batch`, and return what was seen of every step, from the end of the one before."""
        seen, losses = [], self._method(self.model, batch, self._context)
        while True:
            with Witness(self.weights) as witness:
                loss = next(losses, None)
                if loss is None:
                    return seen
                self._opt.zero_grad()
                loss.backward()
                self._opt.step()
            seen.append(witness)


def second_batch(name: str, precision: Precision, without: tuple[EnginePart, ...] = ()) -> list[Witness]:
    """What a method's steps of a second batch do: in the first, much is done that never is again."""
    first, second, *_ = colour_batches(size=IMAGES, dtype=torch.float32)
    bystander = Bystander(name, precision, without)
    bystander.batch(first)
    return bystander.batch(second)


@pytest.mark.parametrize(("precision", "without"), [("fp32", ()), ("bf16", ()), ("bf16", ("fold",))])
@every_method
def test_passes_are_optimal(name: str, precision: Precision, without: tuple[EnginePart, ...]) -> None:
    steps = second_batch(name, precision, without)
    total = sum((step.passes for step in steps), Counter())
    expected = [passes * len(steps) * IMAGES for passes in optimum(name)]
    assert [total[key] for key in ("forward", "input_backward", "weight_backward")] == expected


@every_method
def test_a_weight_becomes_bfloat16_once_per_step_in_one_go_with_the_others(name: str) -> None:
    names = [name for name, _ in net().named_parameters()]
    for step in second_batch(name, "bf16"):
        assert not step.casts
        once = {names[index]: times for index, times in step.refreshed.items()}
        assert once == {"0.weight": 1, "3.weight": 1, "3.bias": 1}  # the last layer is computed in float32
        assert step.copies <= 2  # of these; and of the folded ones, for an attack in eval mode


def test_the_witness_sees_casts_where_there_are_no_shadows() -> None:
    (step,) = second_batch("pgd-at", "bf16", ("shadow",))
    assert step.casts[3] == 11  # of the second convolution's weight
    assert not step.refreshed


def test_shadows_follow_every_replay() -> None:
    assert [step.refreshed[0] for step in second_batch("free-at", "bf16")] == [1] * 8


@pytest.mark.parametrize(("without", "left"), [((), 4), (("fold",), 26)])
def test_an_attack_in_eval_mode_has_no_batch_norm(without: tuple[EnginePart, ...], left: int) -> None:
    """TRADES: eleven forwards in its attack and two in its loss; two batch norms in each."""
    (step,) = second_batch("trades", "fp32", without)
    assert step.batch_norms == left
