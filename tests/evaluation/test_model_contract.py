"""Every way in which a model or its images can make scores meaningless is said before any score is taken."""

import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fatbench.errors import InvalidRunError
from fatbench.evaluation.attacks import survives_fgsm, survives_pgd
from fatbench.evaluation.constraints import check_attack
from fatbench.evaluation.model_contract import contract_findings
from fatbench.models.classifier import Classifier
from fatbench.record.parts import Finding
from fatbench.threat import L2, Ball, Linf

K, EPS = 3, 8 / 255
X = torch.rand(12, 1, 4, 4, generator=torch.Generator().manual_seed(0))
Y = torch.arange(12) % K


class Net(nn.Module):
    """A sound network with batch norm and dropout; the tests spoil its forward."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3)
        self.norm = nn.BatchNorm2d(8)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(32, K)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.drop(self.norm(self.conv(x)).relu().flatten(1)))


def found(net: nn.Module, x: Tensor = X, y: Tensor = Y, ball: Ball | None = None) -> list[Finding]:
    return contract_findings(Classifier(net, [0.0], [1.0]), x, y, num_classes=K, ball=ball or Linf(EPS))


def codes(net: nn.Module) -> list[str]:
    return [finding.code for finding in found(net)]


def after(change: object) -> nn.Module:
    """A net whose logits are changed by a function."""

    class Changed(Net):
        def forward(self, x: Tensor) -> Tensor:
            return change(super().forward(x))  # type: ignore[operator, no-any-return]

    return Changed()


@pytest.mark.parametrize("training", [False, True])
def test_a_sound_model_raises_no_doubt_and_is_left_as_it_was(training: bool) -> None:
    net = Net().train(training)
    net.norm.eval()  # partly frozen, as in fine-tuning
    net.conv.weight.requires_grad_(False)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    streams = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # type: ignore[index]
    assert found(net) == []
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert (net.drop.training, net.norm.training) == (training, False)
    assert [p.requires_grad for p in net.parameters()] == [False, *[True] * 5]
    assert all(parameter.grad is None for parameter in net.parameters())
    assert torch.equal(streams[0], torch.get_rng_state())
    assert streams[1:] == (np.random.get_state()[1].tolist(), random.getstate())  # type: ignore[index]


def test_log_softmax_is_fine() -> None:
    assert codes(after(lambda logits: logits.log_softmax(1))) == []


def test_probabilities_are_not() -> None:
    (finding,) = found(after(lambda logits: logits.softmax(1)))
    assert finding.code == "softmax-outputs"
    assert "return logits, attacks need them" in finding.detail


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_logits_that_are_not_finite(value: float) -> None:
    def spoil(logits: Tensor) -> Tensor:
        return torch.cat([logits[:-2], torch.full_like(logits[-2:], value)]) if len(logits) > 2 else logits

    (finding,) = found(after(spoil))
    assert finding.code == "non-finite-logits"
    assert "2 of 12 images" in finding.detail


def test_a_forward_that_switches_to_train_mode() -> None:
    class Trains(Net):
        def forward(self, x: Tensor) -> Tensor:
            self.train()
            return super().forward(x)

    net = Trains().eval()
    before = net.norm.running_mean.clone()  # type: ignore[union-attr]
    findings = found(net)
    assert [finding.code for finding in findings] == ["train-mode", "randomised-outputs"]
    assert "net (Trains) is in train mode although the model was put in eval mode" in findings[0].detail
    assert torch.equal(net.norm.running_mean, before)  # type: ignore[arg-type]
    assert not net.training


def test_a_module_that_refuses_eval_mode() -> None:
    class Stubborn(nn.BatchNorm2d):
        def train(self, mode: bool = True) -> "Stubborn":
            return super().train(True)

    net = Net()
    net.norm = Stubborn(8)
    (finding,) = found(net)
    assert finding.code == "train-mode"
    assert "net.norm (Stubborn)" in finding.detail


def test_buffers_that_a_forward_changes() -> None:
    class Functional(Net):
        def forward(self, x: Tensor) -> Tensor:
            features = F.batch_norm(self.conv(x), self.norm.running_mean, self.norm.running_var, training=True)
            return self.head(features.flatten(1))

    net = Functional()
    (finding,) = found(net)
    assert finding.code == "train-mode"
    assert "net.norm.running_mean" in finding.detail
    assert float(net.norm.running_mean.abs().max()) == 0  # type: ignore[union-attr]


def test_outputs_that_depend_on_the_rest_of_the_batch() -> None:
    net = Net()
    net.norm = nn.BatchNorm2d(8, track_running_stats=False)
    assert codes(net) == ["batch-dependent-outputs"]


def test_randomised_outputs() -> None:
    assert codes(after(lambda logits: logits + 0.1 * torch.randn_like(logits))) == ["randomised-outputs"]


class Pair(Net):
    def forward(self, x: Tensor) -> Tensor:
        return [x.shape, super().forward(x)]  # type: ignore[return-value]


class Blind(Net):
    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            return super().forward(x)


@pytest.mark.parametrize(
    ("net", "line"),
    [
        (Pair(), "the network returned a list of Size, Tensor, not one tensor of logits: let its forward return"),
        (after(lambda logits: logits[:, :2]), "a batch of 12 to float32 of shape (12, 2), expected float logits of"),
        (after(lambda logits: logits.long()), "a batch of 12 to int64 of shape (12, 3)"),
        (after(torch.squeeze), "the model maps a batch of 1 to float32 of shape (3,), expected float logits"),
        (Blind(), "the model's outputs carry no gradient, without which attacks are blind"),
    ],
    ids=["tuple", "too few", "integers", "squeezed", "no gradient"],
)
def test_outputs_that_cannot_be_scored(net: nn.Module, line: str) -> None:
    with pytest.raises(InvalidRunError) as error:
        found(net)
    assert line in str(error.value)


@pytest.mark.parametrize(
    ("x", "line"),
    [
        ((X * 255).to(torch.uint8), "the images are uint8, expected floats in [0, 1]: divide 8-bit pixels by 255"),
        (X * 255, "expected [0, 1]: divide 8-bit pixels by 255"),
        ((X - 0.5) / 0.25, "normalise inside the model (--normalize MEAN,STD)"),
        (X / 0, "they hold NaN or infinity"),
        (X[:, 0], "the images have shape (12, 4, 4), expected (B, C, H, W)"),
        (X[:0], "at least 1 image"),
    ],
    ids=["bytes", "0..255", "normalised", "infinite", "no channels", "none"],
)
def test_images_that_are_not_in_the_unit_box(x: Tensor, line: str) -> None:
    with pytest.raises(InvalidRunError) as error:
        found(Net(), x)
    assert line in str(error.value)


@pytest.mark.parametrize(
    ("y", "line"),
    [
        (Y.int(), "the labels are int32 of shape (12,), expected int64 of shape (12,): use y.long()"),
        (Y[:3], "the labels are int64 of shape (3,)"),
        (Y + 1, "the labels span 1..3, but the model tells 0..2 apart"),
    ],
)
def test_labels_that_are_none(y: Tensor, line: str) -> None:
    with pytest.raises(InvalidRunError) as error:
        found(Net(), y=y)
    assert line in str(error.value)


def test_an_eps_of_8_is_refused_for_linf_alone() -> None:
    with pytest.raises(InvalidRunError, match="did you mean 8/255"):
        found(Net(), ball=Linf(8.0))
    assert found(Net(), ball=L2(8.0)) == []


def test_an_attack_that_leaves_ball_or_box_is_refused() -> None:
    check_attack((X + EPS).clamp(0, 1), X, Linf(EPS), "ours")
    with pytest.raises(InvalidRunError, match=r"ours moved an image by 0\.1, more than eps 0\.05"):
        check_attack(X * 0 + 0.6, X * 0 + 0.5, Linf(0.05), "ours")
    with pytest.raises(InvalidRunError, match=r"left the pixels' range \[0, 1\]"):
        check_attack(X * 0 + 1.02, X * 0 + 1, Linf(0.05), "ours")


class _Careless(Linf):
    """A ball whose projection forgets the ball."""

    def project(self, z: Tensor, x: Tensor) -> Tensor:
        return z.clamp(0, 1)


def test_pgd_and_fgsm_are_held_to_it() -> None:
    model = Classifier(Net(), [0.0], [1.0]).eval()
    y = model(X).argmax(1)
    with pytest.raises(InvalidRunError, match="PGD moved an image"):
        survives_pgd(model, X, y, _Careless(1e-4), steps=20, restarts=1)
    survives_fgsm(model, X, y, Linf(EPS))
    survives_pgd(model, X, y, L2(0.1), steps=3, restarts=2)


@pytest.mark.parametrize("ball", [Linf(EPS), L2(0.5)])
def test_nan_gradients_are_found_and_end_no_run(ball: Ball) -> None:
    class Sharp(Net):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) + (x.flatten(1)[:, :1] * 0).sqrt()  # finite, but its gradient is NaN

    model = Classifier(Sharp(), [0.0], [1.0]).eval()
    (finding,) = contract_findings(model, X, Y, num_classes=K, ball=ball)
    assert finding.code == "non-finite-gradients"
    assert "12 of 12 images" in finding.detail
    survives_pgd(model, X, model(X).argmax(1), ball, steps=2, restarts=1)
