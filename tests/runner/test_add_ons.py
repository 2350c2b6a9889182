"""What the trainer adds to any method: whole runs with averaged weights, perturbed weights and smoothed labels."""

import io
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from rich.console import Console

from fatbench.errors import UsageError
from fatbench.report import comparison
from fatbench.report.render.panel import panel
from fatbench.report.run import Run
from fatbench.runner.setup import set_up
from tests.runner.test_resume import PER_EPOCH, SMALL, assert_alike, leave_off, make_spec
from tests.runner.test_runner import run, weights

ADD_ONS = [
    {"ema": 0.9},
    {"swa": 0.3},
    {"awp": 0.01},
    {"label_smoothing": 0.7},
    {"ema": 0.9, "awp": 0.01, "precision": "bf16"},
]
names = [" ".join(one) for one in ADD_ONS]


@pytest.mark.parametrize(("add_on", "engine"), [*((one, "reference") for one in ADD_ONS), (ADD_ONS[-1], "fast")])
def test_a_run_with_it_goes_on_bit_for_bit(tmp_path: Path, add_on: dict[str, object], engine: str) -> None:
    spec = make_spec("bs-trades", epochs=3, engine=engine, evaluate=["clean"], **add_on)
    run(spec, output=tmp_path / "a")
    leave_off(spec, tmp_path / "b", PER_EPOCH + 3)
    leave_off(spec, tmp_path / "b", PER_EPOCH + 2, resume=True)
    run(spec, output=tmp_path / "b", resume=True)
    assert_alike(tmp_path / "a", tmp_path / "b", spec)


@pytest.mark.parametrize("add_on", ADD_ONS, ids=names)
def test_it_makes_another_model_and_another_run(tmp_path: Path, add_on: dict[str, object]) -> None:
    plain = make_spec("fgsm-rs", epochs=2, evaluate=[], **({"precision": "bf16"} if "precision" in add_on else {}))
    spec = make_spec("fgsm-rs", epochs=2, evaluate=[], **add_on)
    assert plain.id != spec.id
    without, with_it = run(plain, output=tmp_path), run(spec, output=tmp_path)
    assert not torch.equal(weights(tmp_path, without)["net.0.weight"], weights(tmp_path, with_it)["net.0.weight"])


def test_averaged_weights_are_probed_kept_and_scored_and_training_goes_its_own_way(tmp_path: Path) -> None:
    spec = make_spec("standard", epochs=4, evaluate=["clean"], ema=0.99, select="best", select_on="clean")
    record = run(spec, output=tmp_path)
    plain = run(make_spec("standard", epochs=4, evaluate=["clean"]), output=tmp_path)
    assert [probe.loss for probe in record.history] == [probe.loss for probe in plain.history]
    assert [p.scores["clean"].correct for p in record.history] != [p.scores["clean"].correct for p in plain.history]
    context = set_up(spec, None, download=False)
    context.model.load_state_dict(weights(tmp_path, record))
    context.model.eval()
    right = context.model(context.dataset.x_val / 255.0).argmax(1).eq(context.dataset.y_val).sum().item()
    best = max(probe.scores["clean"].correct for probe in record.history)
    assert right == best


def test_an_average_costs_no_passes_and_awp_those_of_another_loss(tmp_path: Path) -> None:
    costs = {}
    for name, add_on in {"plain": {}, "ema": {"ema": 0.9}, "awp": {"awp": 0.01}}.items():
        costs[name] = run(make_spec("fgsm-rs", evaluate=[], **add_on), output=tmp_path).passes.model_dump().values()
    images = SMALL["batch_size"] * PER_EPOCH
    assert [count / images for count in costs["plain"]] == [count / images for count in costs["ema"]] == [2, 2, 1]
    assert [count / images for count in costs["awp"]] == [3, 3, 2]


def test_what_the_true_class_keeps_is_exact() -> None:
    """The papers' factor 0.6 is the true class's probability; torch's label_smoothing=0.4 would make it 0.64."""
    smoothing = set_up(make_spec("standard", label_smoothing=0.6), None, download=False).method_context().smoothing
    assert smoothing == pytest.approx(4 / 9)
    logits, y = torch.randn(5, 10), torch.arange(5)
    target = torch.full((5, 10), 0.4 / 9)
    target[torch.arange(5), y] = 0.6
    torch.testing.assert_close(F.cross_entropy(logits, y, label_smoothing=smoothing), F.cross_entropy(logits, target))


@pytest.mark.parametrize(
    ("method", "flags", "message"),
    [
        ("free-at", {"awp": 0.01}, "--awp: free-at takes several steps of a batch: every replay's attack is"),
        ("standard", {"label_smoothing": 0.1}, "--label-smoothing 0.1 leaves the true class no more than the other 9"),
        ("standard", {"ema": 0.9, "swa": 0.5}, "one average of the weights is scored: --ema or --swa"),
        ("standard", {"ema": 1.5}, "--ema must be less than 1, not 1.5"),
        ("standard", {"awp": 0.0}, "--awp must be more than 0, not 0.0"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, method: str, flags: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        run(make_spec(method, evaluate=[], **flags), output=tmp_path)


def test_a_method_that_does_not_heed_smoothing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import torch.nn.functional as F\n\n\ndef mine(model, batch, ctx):\n"
        '    """Mine."""\n    yield F.cross_entropy(model(batch.x), batch.y)\n'
    )
    with pytest.raises(UsageError, match=r"--label-smoothing: mine does not use ctx\.smoothing"):
        make_spec(str(tmp_path / "mine.py"), evaluate=[], label_smoothing=0.8)


def test_the_average_is_of_weights_as_they_are_between_batches_and_not_of_perturbed_ones() -> None:
    training = set_up(make_spec("fgsm", awp=0.3, ema=0.5), None, download=False).training()
    assert training.average is not None
    expected = [parameter.detach().clone() for parameter in training.model.parameters()]
    for n in range(4):
        training.step_through_batch()
        keep = min(0.5, (1 + n) / (10 + n))
        now = [parameter.detach() for parameter in training.model.parameters()]
        expected = [keep * one + (1 - keep) * weight for one, weight in zip(expected, now, strict=True)]
    taken, *averages = training.average.state().values()
    assert taken == 4
    for average, wanted in zip(averages, expected, strict=True):
        torch.testing.assert_close(average, wanted, rtol=1e-5, atol=1e-6)


def test_an_added_thing_is_named_wherever_the_result_is(tmp_path: Path) -> None:
    record = run(make_spec("fgsm-rs", evaluate=["clean"], ema=0.9, awp=0.01, label_smoothing=0.8), output=tmp_path)
    console = Console(file=io.StringIO(), width=120)
    console.print(panel(record, None))
    assert "the true class keeps 0.8, ema 0.9, awp 0.01" in console.file.getvalue()  # type: ignore[attr-defined]
    (group,) = comparison.compare([Run(record)])
    assert [row.label for row in group.rows] == ["fgsm-rs label_smoothing=0.8 ema=0.9 awp=0.01"]
