"""A run that is stopped while it is scored is not trained again, and ends with the same scores."""

from pathlib import Path

import pytest
import safetensors.torch
import torch

from fatbench.config.spec import RunSpec
from fatbench.models.classifier import Classifier
from fatbench.record import Record, load
from fatbench.record.samples import load_samples, save_samples
from fatbench.runner.observer import Observer
from tests.runner.test_resume import make_spec
from tests.runner.test_runner import run


class _Witness(Observer):
    def __init__(self) -> None:
        self.stages: list[str] = []

    def stage(self, name: str) -> None:
        self.stages.append(name)


def _stopped_at(place: str, spec: RunSpec, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run `spec`, with Ctrl-C pressed where the function `place` would be called."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(place, interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(spec, output=folder)


def _counts(record: Record) -> dict[str, int]:
    return {name: score.correct for name, score in record.scores.items()}


def test_a_run_stopped_in_its_evaluation_goes_on_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = make_spec("fgsm-rs", epochs=2)
    undisturbed = run(spec, output=tmp_path / "undisturbed")

    _stopped_at("fatbench.runner.score", spec, tmp_path, monkeypatch)
    stopped = load(tmp_path / f"{spec.id}.json")
    assert (stopped.status, stopped.budget.stopped_by) == ("interrupted", "epochs")
    torch.manual_seed(99)
    witness = _Witness()
    record = run(spec, output=tmp_path, observer=witness)
    assert "training" not in witness.stages
    assert (record.status, record.error, _counts(record)) == ("finished", None, _counts(undisturbed))
    assert record.timing.train == stopped.timing.train
    assert record.timing.setup > stopped.timing.setup
    assert record.history == stopped.history


def test_a_run_stopped_before_its_weights_were_saved_trains_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = make_spec("standard")

    _stopped_at("fatbench.runner.train._keep_weights", spec, tmp_path, monkeypatch)
    witness = _Witness()
    assert run(spec, output=tmp_path, observer=witness).status == "finished"
    assert "training" in witness.stages


def test_evaluations_that_are_known_are_not_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = make_spec("standard", epochs=6, select="best", evaluate=["clean", "fgsm", "pgd-3:n=100"])
    undisturbed = run(spec, output=tmp_path / "undisturbed")
    _stopped_at("fatbench.runner.score_last", spec, tmp_path, monkeypatch)
    stopped = load(tmp_path / f"{spec.id}.json")
    witness = _Witness()
    record = run(spec, output=tmp_path, observer=witness)
    assert [stage for stage in witness.stages if stage.startswith("evaluating")] == [
        f"evaluating {name}" for name in spec.eval.evaluations
    ]  # of the last weights; the best ones' are known
    assert record.scores == stopped.scores  # seconds included
    assert _counts(record) == _counts(undisturbed)
    assert record.selection is not None
    assert record.selection.last_scores.keys() == record.scores.keys()
    samples = [load_samples(tmp_path / where / spec.id / "samples.npz") for where in ("", "undisturbed")]
    for name in spec.eval.evaluations:
        assert (samples[0].outcomes[name].broken_by == samples[1].outcomes[name].broken_by).all()


def test_a_finding_outlives_a_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NaN for few images, none of them in the first batch that the contract is looked at on."""
    spec = make_spec("standard", evaluate=["clean", "fgsm"], eval_batch_size=400)
    broken = Classifier.forward

    def forward(self: Classifier, x: torch.Tensor) -> torch.Tensor:
        logits = broken(self, x)
        return logits * float("nan") if len(x) == 97 and not self.training else logits  # the last of 497 images

    monkeypatch.setattr(Classifier, "forward", forward)
    _stopped_at("fatbench.runner.score_last", spec, tmp_path, monkeypatch)
    record = run(spec, output=tmp_path)
    assert record.diagnostics is not None
    assert [(one.code, one.evaluation) for one in record.diagnostics.findings] == [("non-finite-logits", "clean")]


def test_outcomes_that_do_not_fit_the_record_are_found_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = make_spec("standard", evaluate=["clean", "fgsm"])
    undisturbed = run(spec, output=tmp_path / "undisturbed")
    _stopped_at("fatbench.runner.score_last", spec, tmp_path, monkeypatch)
    file = tmp_path / spec.id / "samples.npz"
    kept = load_samples(file)
    kept.outcomes["fgsm"].broken_by[:50] = 0  # they stand, says somebody
    save_samples(kept, file)
    witness = _Witness()
    assert _counts(run(spec, output=tmp_path, observer=witness)) == _counts(undisturbed)
    assert "evaluating fgsm" in witness.stages
    assert "evaluating clean" not in witness.stages


def test_weights_of_another_model_leave_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = make_spec("standard")
    undisturbed = run(spec, output=tmp_path / "undisturbed")
    _stopped_at("fatbench.runner.score", spec, tmp_path, monkeypatch)
    file = tmp_path / spec.id / "model.safetensors"
    weights = {name: tensor + 1 for name, tensor in safetensors.torch.load_file(file).items()}
    del weights["net.0.weight"]
    file.write_bytes(safetensors.torch.save(weights, {"id": spec.id}))
    record = run(spec, output=tmp_path)
    assert (_counts(record), record.history[-1].loss) == (_counts(undisturbed), undisturbed.history[-1].loss)


def test_damaged_weights_are_trained_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = make_spec("standard")

    _stopped_at("fatbench.runner.score", spec, tmp_path, monkeypatch)
    file = tmp_path / load(tmp_path / f"{spec.id}.json").artefacts["weights"]
    file.write_bytes(file.read_bytes()[:1000])
    assert run(spec, output=tmp_path).status == "finished"


def test_every_image_has_its_outcome_beside_the_record(tmp_path: Path) -> None:
    record = run(make_spec("fgsm-rs", epochs=3, evaluate=["clean", "fgsm", "pgd-3:n=100"]), output=tmp_path)
    samples = load_samples(tmp_path / record.artefacts["samples"])
    assert len(samples.labels) == len(samples.hashes) == 497
    for name, score in record.scores.items():
        outcome = samples.outcomes[name]
        assert (outcome.standing.sum(), outcome.evaluated.sum()) == (score.correct, score.total), name
    assert samples.outcomes["pgd-3"].parts == ("clean", "pgd-3")
    assert record.scores["pgd-3"].total == 100


def test_a_precision_is_met_with_no_more_images_than_it_takes(tmp_path: Path) -> None:
    spec = make_spec("fgsm-rs", epochs=3, evaluate=["fgsm:n=30,precision=8"])
    record = run(spec, output=tmp_path)
    assert record.scores["fgsm"].total in (120, 240)  # 30 give 16 points, 60 give 12
    assert record.scores["fgsm"].attack["precision"] == 8.0
    fixed = run(make_spec("fgsm-rs", epochs=3, evaluate=[f"fgsm:n={record.scores['fgsm'].total}"]), output=tmp_path)
    assert fixed.scores["fgsm"].correct == record.scores["fgsm"].correct  # blocks are nested subsets
