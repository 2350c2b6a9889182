"""Flags about what is scored and when to doubt it: what they come to, and what is said of those that cannot be."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from fatbench.config.spec import flattened
from tests.cli.conftest import TINY, Said

Fatbench = Callable[..., Said]
RUN = ("run", "-m", "fgsm-rs", *TINY, "--limit-train", "256")
USAGE, INVALID = 2, 4


def _resolved(said: Said) -> dict[str, object]:
    (spec,) = json.loads(said.out)
    return flattened(spec)


def test_an_evaluation_says_on_how_many_images_or_how_precisely(fatbench: Fatbench) -> None:
    wanted = "clean,pgd-20:n=300,autoattack:n=50,precision=2.5"
    spec = _resolved(fatbench(*RUN[:3], "--epochs", "1", "--eval", wanted, "--dry-run"))
    assert spec["evaluations"] == {"clean": None, "pgd-20": 300, "autoattack": 50}
    assert spec["eval_precision"] == {"autoattack": 2.5}


def test_selection_and_overfitting_are_in_the_spec_and_change_its_id(fatbench: Fatbench) -> None:
    plain = _resolved(fatbench(*RUN, "--dry-run"))
    assert (plain["select"], plain["on_overfitting"], plain["eval_engine"]) == ("last", "continue", "exact")
    flags = ("--select", "best", "--select-on", "val:pgd-5", "--on-co", "restore", "--eval-engine", "fast")
    chosen = _resolved(fatbench(*RUN, *flags, "--dry-run"))
    assert (chosen["select"], chosen["select_on"]) == ("best", "pgd-5")
    assert (chosen["on_overfitting"], chosen["eval_engine"]) == ("restore", "fast")


@pytest.mark.parametrize("where", ["val", "val:pgd-10", "pgd-10"])
def test_select_on_val_is_pgd_10_of_the_validation_images(fatbench: Fatbench, where: str) -> None:
    spec = _resolved(fatbench(*RUN, "--select", "best", "--select-on", where, "--dry-run"))
    assert spec["select_on"] == "pgd-10"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--select", "best", "--select-on", "test"), "a model selected on test images has seen them; select on val"),
        (("--select", "best", "--select-on", "test:pgd-20"), "a model selected on test images has seen them"),
        (("--select", "best", "--select-on", "val:autoattack"), "selected by what is looked at every epoch"),
        (("--select", "best", "--select-on", "val:pdg"), "no evaluation 'pdg'"),
        (("--select-on", "val"), "--select-on requires --select best"),
        (("--select", "worst"), "--select must be one of 'last' or 'best', not 'worst'"),
        (("--on-co", "ignore"), "--on-co must be one of 'continue', 'stop' or 'restore', not 'ignore'"),
        (("--eval-engine", "quick"), "--eval-engine must be one of 'exact' or 'fast', not 'quick'"),
        (("--without", "speed"), "--without must be one of 'channels-last', "),
        (("--batch-size", "1"), "--batch-size must be more than 1, not 1"),
        (("--eval", "clean,clean"), "--eval names clean twice"),
        (("--eval", "autoattack:m=3"), "autoattack takes n=IMAGES and precision=POINTS"),
        (("--eval", "autoattack:n=0"), "autoattack takes n=IMAGES and precision=POINTS"),
        (("--eval", "autoattack:precision=60"), "between 0 and 50 points"),
    ],
)
def test_a_mistake_is_one_line(fatbench: Fatbench, flags: tuple[str, ...], message: str) -> None:
    said = fatbench(*RUN, *flags)
    assert (said.code, said.out) == (USAGE, "")
    assert message in said.err
    assert said.err.count("\n") == 1


def test_a_run_that_learned_nothing_is_near_chance(fatbench: Fatbench) -> None:
    said = fatbench(*RUN, "--lr", "1000", "--strict")
    assert said.code == INVALID
    assert said.complaint.startswith("fgsm-rs seed 0: near chance: clean accuracy is ")
    assert "scores" in said.out
    assert "near chance" in fatbench("compare", "results").out
    (record,) = json.loads(fatbench(*RUN, "--lr", "1000", "--json").out)
    assert record["data"]["most_frequent"] == 51
    said = fatbench(*RUN, "--lr", "1000", "--eval", "pgd-2", "--strict")
    assert said.err.startswith("fatbench: fgsm-rs seed 0: near chance: clean accuracy is ")
    weights = Path("results", record["artefacts"]["weights"])
    said = fatbench("eval", weights, "--eval", "clean", "--strict", "-q")
    assert (said.code, "order of classes" in said.err) == (INVALID, True)


def test_strict_exits_with_4_where_there_is_doubt_and_the_result_is_kept(
    fatbench: Fatbench, tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fatbench.evaluation.gradient_masking._LOST", -1.0)  # every model is suspect now
    assert fatbench(*RUN, "--eval", "pgd-1", "-o", f"{tmp_path}/a", "--quiet").code == 0
    said = fatbench(*RUN, "--eval", "pgd-1", "-o", f"{tmp_path}/b", "--strict", "--json")
    assert said.code == INVALID
    (record,) = json.loads(said.out)
    assert (record["status"], record["diagnostics"]["masking"]["verdict"]) == ("finished", "suspect")
    assert "fgsm-rs seed 0" in said.err
    assert "gradient is zero or not finite" in said.err
