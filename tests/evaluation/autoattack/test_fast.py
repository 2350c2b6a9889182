"""The fast engine: a surrogate attacks, and what falls is confirmed by the model itself."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from benchmarks.shortened import shortened
from fatbench import models
from fatbench.evaluation.autoattack import surrogate as surrogate_module
from fatbench.evaluation.autoattack.adapter import Adapter
from fatbench.evaluation.autoattack.attackers import Exact, Fast
from fatbench.evaluation.autoattack.plan import enlarged_batch_size, largest_batch
from fatbench.evaluation.autoattack.surrogate import Surrogate, SurrogateKind, surrogate_kinds, trusted_surrogate
from fatbench.evaluation.eval_mode import eval_mode
from fatbench.evaluation.evaluator import Evaluator
from fatbench.models.classifier import Classifier
from fatbench.models.folding import fold_batch_norms
from fatbench.threat import Linf
from tests.evaluation.autoattack.subjects import Subject, fitted, trained

HAS_BF16 = any(kind.arithmetic == "bf16" for kind in surrogate_kinds(torch.device("cpu")))


def classifier(name: str) -> tuple[Classifier, Tensor]:
    """A model whose batch norms have seen something, and images."""
    channels, size = (1, 8) if name == "small-cnn" else (3, 16)
    model = models.build(
        name, num_classes=10, shape=(channels, size, size), mean=[0.5] * channels, std=[0.25] * channels,
        precision="fp32",
    )  # fmt: skip
    x = torch.rand(8, channels, size, size)
    for _ in range(3):
        model(x)
    return model.eval(), x


@pytest.mark.parametrize(("name", "folds"), [("small-cnn", 3), ("resnet18", 20), ("preact-resnet18", 8)])
def test_folding_changes_nothing(name: str, folds: int) -> None:
    model, x = classifier(name)
    before = model(x)
    assert fold_batch_norms(model.net) == folds
    torch.testing.assert_close(model(x), before, rtol=1e-4, atol=1e-4)


class Odd(nn.Module):
    """A convolution and its batch norm, and a forward that does something else with them too."""

    def __init__(self, forward: Callable[["Odd", Tensor], Tensor]) -> None:
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)
        self.linear = nn.Linear(4, 3)
        self.norm.running_mean, self.norm.running_var = torch.rand(4), 4 * torch.rand(4)
        self._forward = forward

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self._forward(self, x).mean((2, 3)))


def _reads_twice(net: Odd, x: Tensor) -> Tensor:
    features = net.convolution(x)
    return net.norm(features) + features


def _depends_on_data(net: Odd, x: Tensor) -> Tensor:
    return net.norm(net.convolution(x)) if x.mean() > -9 else x


def _uses_the_weight(net: Odd, x: Tensor) -> Tensor:
    features = nn.functional.conv2d(x, net.convolution.weight)
    return net.norm(net.convolution(x)) + features


ODD = [_reads_twice, _depends_on_data, _uses_the_weight]


@pytest.mark.parametrize("forward", ODD)
def test_a_surrogate_of_an_unusual_network_answers_as_it_does(forward: Callable[[Odd, Tensor], Tensor]) -> None:
    model, x = Classifier(Odd(forward), [0.5], [0.3]).eval(), torch.rand(16, 1, 6, 6)
    surrogate, _ = trusted_surrogate(model, x)
    assert surrogate is not None
    difference = (surrogate(x) - model(x)).norm() / model(x).norm()
    assert difference < 0.05
    assert not (surrogate.kind.folded and forward is _uses_the_weight)


def test_what_cannot_be_copied_has_no_surrogate_and_is_attacked_itself() -> None:
    subject = fitted(4, images=6)
    subject.model.net.keep = torch.zeros(1, requires_grad=True) * 2  # torch copies leaves only
    with shortened(0.01):
        found, exact = (subject.evaluate(engine=engine) for engine in ("fast", "exact"))
    assert torch.equal(found.broken_by, exact.broken_by)
    assert found.attack["arithmetic"] == "fp32"
    (note,) = set(found.warnings) - set(exact.warnings)
    assert note.startswith(
        "the fast engine attacked the network itself: a copy of it fails (RuntimeError: Only Tensors"
    )


def test_a_surrogate_that_answers_otherwise_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    subject = fitted(4, images=6)
    monkeypatch.setattr(surrogate_module, "Surrogate", Disagreeing)
    with eval_mode(subject.model):
        found, why_not = trusted_surrogate(subject.model, subject.x)
    assert found is None
    assert why_not == "a copy of it answers otherwise in fp32"


def test_memory_that_ends_while_surrogates_are_tried_is_no_reason_against_them(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []

    class Hungry(Surrogate):
        def forward(self, x: Tensor) -> Tensor:
            tried.append(len(x))
            if len(x) > 3:
                raise MemoryError
            return super().forward(x)

    subject = fitted(4, images=6)
    monkeypatch.setattr(surrogate_module, "Surrogate", Hungry)
    with shortened(0.01):
        eval_result = subject.evaluate(batch_size=6, engine="fast")
    assert tried[:2] == [6, 3]
    assert str(eval_result.attack["arithmetic"]).endswith("folded")
    assert not any("the network itself" in text for text in eval_result.warnings)


@pytest.mark.skipif(not HAS_BF16, reason="this processor has no bfloat16")
def test_a_surrogate_computes_in_bfloat16_but_for_normalisation_and_logits() -> None:
    model, x = classifier("small-cnn")
    surrogate = Surrogate(model, SurrogateKind("bf16", folded=True))
    dtypes = [parameter.dtype for parameter in surrogate.parameters()]
    assert dtypes == [torch.bfloat16] * 6 + [torch.float32] * 2
    leaf = x.requires_grad_()
    logits = surrogate(leaf)
    assert logits.dtype == torch.float32
    logits.sum().backward()
    assert leaf.grad is not None
    assert leaf.grad.is_contiguous()


def test_the_fast_engine_says_what_it_did_and_agrees(digits: Subject) -> None:
    images = (digits.x * 255).round().to(torch.uint8)
    evaluator = Evaluator(images, digits.y, 10, digits.ball, batch_size=40, engine="fast")
    with shortened(0.02):
        exact = digits.evaluate(batch_size=40)
        fast = evaluator.evaluate("autoattack", digits.model, lambda _: None)
    assert fast.attack["version"] == "standard, fast"
    assert fast.attack["engine"] == "fast"
    assert str(fast.attack["arithmetic"]).endswith("folded")
    assert fast.attack["batch_size"] == 40
    assert (fast.standing != exact.standing).sum() <= 1
    assert 0 < fast.standing.sum() < 40


@pytest.mark.slow  # four minutes: every iteration of every attack, twice
def test_counts_stay_within_a_fifth_of_a_point_on_the_whole_test_set(tmp_path: Path) -> None:
    subject = trained(tmp_path, 497)
    found = {engine: subject.evaluate(batch_size=250, engine=engine).standing.sum() for engine in ("exact", "fast")}
    assert abs(found["fast"] - found["exact"]) <= 1  # of 497


class Disagreeing(Surrogate):
    """Sees another class wherever the first pixel is bright, and so falls where the model does not."""

    def forward(self, x: Tensor) -> Tensor:
        logits = super().forward(x)
        bright = (x[:, 0, 0, 0] > 0.5).unsqueeze(1)
        return torch.where(bright, logits.roll(1, 1), logits)


@pytest.mark.usefixtures("short")
def test_what_only_the_surrogate_gets_wrong_is_attacked_on_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    subject = fitted(ball=Linf(0.1))
    exact = subject.evaluate(batch_size=10)
    with eval_mode(subject.model):
        right = subject.model(subject.x).argmax(1).eq(subject.y)
        adapter = Adapter(subject.model, subject.ball, 10, 0, subject.x.device)
        surrogate = Disagreeing(subject.model, SurrogateKind("fp32", folded=False))
        mine = Adapter(surrogate, subject.ball, 10, 0, subject.x.device)
        exactly = Exact(subject.model, adapter, subject.ball)
        fast = Fast(exactly, surrogate, surrogate.arithmetic, mine, exact_batch=10)
        fallen = fast.breaks("apgd-ce", subject.x[right], subject.y[right])
    by_apgd = exact.broken_by[right].eq(2)
    assert (subject.x[right][:, 0, 0, 0] > 0.5).any(), "the surrogate must be wrong somewhere"
    assert torch.equal(fallen, by_apgd)


@pytest.mark.usefixtures("short")
def test_memory_that_ends_halves_the_larger_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    subject, seen = fitted(), []
    breaks = Fast.breaks

    def hungry(self: Fast, attack: str, x: Tensor, y: Tensor) -> Tensor:
        seen.append(len(x))
        if len(x) > 5:
            raise torch.OutOfMemoryError
        return breaks(self, attack, x, y)

    monkeypatch.setattr(Fast, "breaks", hungry)
    monkeypatch.setattr("fatbench.evaluation.autoattack.plan.enlarged_batch_size", lambda *_: 16)
    eval_result = subject.evaluate(batch_size=4, engine="fast")
    assert seen[:3] == [10, 8, 4]
    assert eval_result.attack["batch_size"] == 4
    monkeypatch.setattr(Fast, "breaks", lambda *_: (_ for _ in ()).throw(torch.OutOfMemoryError()))
    with pytest.raises(torch.OutOfMemoryError):  # there is no room for a single image
        subject.evaluate(batch_size=4, engine="fast")


def test_batches_grow_while_there_are_images_and_memory() -> None:
    assert largest_batch(250, 10_000, bytes_each=2**20, bytes_free=2**40) == 2000
    assert largest_batch(250, 400, bytes_each=2**20, bytes_free=2**40) == 500
    assert largest_batch(250, 10_000, bytes_each=2**20, bytes_free=2**30) == 500
    assert largest_batch(250, 10_000, bytes_each=2**20, bytes_free=2**20) == 250
    assert enlarged_batch_size(nn.Identity(), torch.zeros(4, 1, 8, 8), images=100, batch_size=4) == 4  # a CPU
