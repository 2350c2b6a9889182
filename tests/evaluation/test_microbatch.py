"""Out of memory, fewer images go through the model at once, and every verdict stays what it was."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from benchmarks.shortened import shortened
from fatbench.config.spec import EvalEngine
from fatbench.evaluation.evaluator import Evaluator
from fatbench.evaluation.gradient_masking import look_for_signs
from fatbench.evaluation.microbatch import MicroBatch, MicroBatched, in_chunks
from fatbench.models.classifier import Classifier
from fatbench.threat import Linf
from tests.cli.conftest import Said, fatbench

__all__ = ["fatbench"]
NAMES = ["clean", "fgsm", "pgd-5", "pgd-5-3"]
FAILURES = [
    torch.OutOfMemoryError("CUDA out of memory"),
    MemoryError(),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
]


class Net(nn.Module):
    """A small network on a device that has room for `room` images."""

    def __init__(self, room: int, failure: Exception = FAILURES[0]) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3))
        self.room, self.failure, self.most = room, failure, 0

    def forward(self, x: Tensor) -> Tensor:
        if len(x) > self.room:
            raise self.failure
        self.most = max(self.most, len(x))
        logits: Tensor = self.body(x)
        return logits


def classifier(room: int, failure: Exception = FAILURES[0]) -> Classifier:
    return Classifier(Net(room, failure), [0.5], [0.5])


def evaluator(model: Classifier) -> Evaluator:
    """Return images that the model classifies correctly, most of them."""
    draw = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (90, 1, 4, 4), generator=draw, dtype=torch.uint8)
    body = model.net.get_submodule("body")
    y = body((x.float() / 255 - 0.5) / 0.5).argmax(1)
    y[::7] = (y[::7] + 1) % 3
    return Evaluator(x, y, 3, Linf(0.03), batch_size=40)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("room", [39, 20, 7, 1])
def test_the_verdicts_are_those_of_a_larger_device(name: str, room: int) -> None:
    roomy, tight = classifier(1000), classifier(room)
    expected = evaluator(roomy).evaluate(name, roomy, lambda _: None)
    found = evaluator(tight).evaluate(name, tight, lambda _: None)
    assert torch.equal(found.broken_by, expected.broken_by)
    assert 0 < expected.standing.sum() < 90
    assert found.attack == expected.attack
    assert expected.warnings == []
    size = next(size for size in (40, 20, 10, 5, 2, 1) if size <= room)
    assert found.warnings == [f"out of memory with 40 images at once: {size} at once, with the noise drawn for as many"]


@pytest.mark.parametrize("failure", FAILURES, ids=str)
def test_every_way_in_which_memory_ends(failure: Exception) -> None:
    model = classifier(10, failure)
    assert evaluator(model).evaluate("pgd-5", model, lambda _: None).warnings


@pytest.mark.parametrize("engine", ["exact", "fast"])
@pytest.mark.parametrize("room", [39, 7, 1])
def test_autoattack_is_that_of_a_larger_device(room: int, engine: EvalEngine) -> None:
    roomy, tight = classifier(1000), classifier(room)
    with shortened(0.01):
        expected = replace(evaluator(roomy), engine=engine).evaluate("autoattack", roomy, lambda _: None)
        found = replace(evaluator(tight), engine=engine).evaluate("autoattack", tight, lambda _: None)
    assert torch.equal(found.broken_by, expected.broken_by)
    assert 0 < expected.standing.sum() < 90
    assert found.attack == expected.attack
    size = next(size for size in (40, 20, 10, 5, 2, 1) if size <= room)
    note = f"out of memory with 40 images at once: {size} at once, with the noise drawn for as many"
    assert set(found.warnings) - set(expected.warnings) == {note}


@pytest.mark.parametrize("failure", FAILURES, ids=str)
def test_every_way_in_which_memory_ends_in_autoattack(failure: Exception) -> None:
    model = classifier(10, failure)
    with shortened(0.01):
        warnings = evaluator(model).evaluate("autoattack", model, lambda _: None).warnings
    assert any("out of memory with" in text for text in warnings)


def test_a_portioned_model_has_the_models_gradients_and_keeps_no_activations() -> None:
    model, microbatch = classifier(7).double(), MicroBatch(40, torch.device("cpu"))
    microbatch.size = 7
    x, kept = torch.rand(40, 1, 4, 4, dtype=torch.float64), []
    leaf = x.clone().requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(lambda one: kept.append(one.numel()) or one, lambda one: one):
        logits = MicroBatched(model, microbatch)(leaf)
    assert sum(kept) <= x.numel()
    (found,) = torch.autograd.grad(logits.square().sum(), leaf)
    leaf = x.clone().requires_grad_()
    model.net.room = 1000  # type: ignore[assignment]
    (expected,) = torch.autograd.grad(model(leaf).square().sum(), leaf)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_the_signs_of_masking_are_those_of_a_larger_device() -> None:
    roomy, tight = classifier(1000), classifier(9)
    expected, found = look_for_signs(evaluator(roomy), roomy), look_for_signs(evaluator(tight), tight)
    for name in ("clean", "noise", "fgsm", "lost"):
        assert torch.equal(getattr(found, name), getattr(expected, name))


def test_no_room_for_one_image_is_a_failure() -> None:
    model = classifier(0)
    with pytest.raises(torch.OutOfMemoryError):
        evaluator(model).evaluate("clean", model, lambda _: None)


def test_another_failure_is_not_tried_again() -> None:
    sizes: list[int] = []

    def fail(size: int) -> None:
        sizes.append(size)
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes"):
        MicroBatch(8, torch.device("cpu")).run(8, fail)
    assert sizes == [8]


def test_what_was_drawn_is_drawn_again() -> None:
    def look(size: int) -> Tensor:
        drawn = torch.rand(3)
        if size > 2:
            raise MemoryError
        return drawn

    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    assert torch.equal(MicroBatch(8, torch.device("cpu")).run(8, look), expected)


def test_parts_are_whole() -> None:
    x = torch.arange(10)
    for size in (None, 1, 3, 10, 99):
        assert torch.equal(in_chunks(size, torch.add, x, x), 2 * x)


OWN = """
import torch
from torch import nn
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(64, 10)
    def forward(self, x):
        if len(x) > ROOM:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self.head(x.flatten(1))
def net(): return Net()
"""


def test_from_the_command_line(fatbench: Callable[..., Said], tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(OWN.replace("ROOM", "10**9"))
    torch.manual_seed(0)
    torch.save({"head.weight": torch.randn(10, 64), "head.bias": torch.zeros(10)}, "weights.pt")
    ask = ("eval", "weights.pt", "--model", "net.py:net", "-d", "digits", "--eval", "clean,pgd-2", "-q")
    roomy = fatbench(*ask, "--json")
    (tmp_path / "net.py").write_text(OWN.replace("ROOM", "30"))
    tight = fatbench(*ask, "--json", "--force")
    assert (roomy.code, tight.code) == (0, 0)
    (one,), (other,) = json.loads(roomy.out), json.loads(tight.out)
    assert "out of memory with 250 images at once: 15 at once" in tight.out
    for name in ("clean", "pgd-2"):
        assert one["scores"][name]["correct"] == other["scores"][name]["correct"]
        assert other["scores"][name]["attack"].get("batch_size", 250) == 250
