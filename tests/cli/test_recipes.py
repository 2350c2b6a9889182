"""--recipe, what eps fills in, and the word of warning about what nobody has published."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fatbench import methods
from fatbench.config import presets
from fatbench.config.spec import flattened
from tests.cli.conftest import Said

Fatbench = Callable[..., Said]
USAGE = 2
METHOD = '''
def mine(model, batch, ctx, *, weight: float = 0.1, base: str = "rs"):
    """Mine.

    Args:
        weight: of it.
        base: which.
    """
    yield model(batch.x).sum()
'''
PRESET = """
method = "./mine.py"
dataset = "cifar10"
[hyper.mine]
weight = 0.5
[[tracks]]
eps = ["8/255", "12/255"]
hyper = { weight = 1.0 }
[[tracks]]
eps = ["12/255"]
when = { base = "n" }
hyper = { weight = 2.0 }
[[tracks]]
eps = ["12/255"]
datasets = ["cifar100"]
hyper = { weight = 3.0 }
"""


def specs(said: Said) -> list[dict[str, Any]]:
    assert said.code == 0, said.err
    return [flattened(spec) for spec in json.loads(said.out)]


def test_official_gives_each_method_its_own(fatbench: Fatbench) -> None:
    said = fatbench("run", "--recipe", "official", "-m", "trades", "-m", "fgsm-rs", "-m", "free-at", "--dry-run")
    trades, fgsm_rs, free_at = specs(said)
    assert (trades["model"], trades["epochs"], trades["weight_decay"], trades["eps"]) == (
        "wrn-34-10",
        76,
        2e-4,
        "0.031",
    )
    assert (trades["schedule"], trades["milestones"]) == ("piecewise", ["37/38"])
    assert (fgsm_rs["model"], fgsm_rs["epochs"], fgsm_rs["lr"]) == ("preact-resnet18", 15, 0.2)
    assert (free_at["epochs"], free_at["lr"], free_at["schedule"]) == (80, 0.04, "cyclic")
    assert {one["dataset"] for one in (trades, fgsm_rs, free_at)} == {"cifar10"}
    assert "warning: eps 0.031 is not 8/255" in said.err  # whichever method it is of


def test_unified_gives_all_the_same_and_is_the_default(fatbench: Fatbench) -> None:
    flags = ("run", "-m", "trades", "-m", "fgsm-rs", "-d", "cifar10", "--dry-run")
    default, unified = (specs(fatbench(*flags, *more)) for more in ((), ("--recipe", "unified")))
    assert default == unified
    of_the_method = ("method", "hyper")
    trades, fgsm_rs = ({key: value for key, value in one.items() if key not in of_the_method} for one in default)
    assert trades == fgsm_rs


def test_flags_overrule_official_recipes(fatbench: Fatbench) -> None:
    flags = ("run", "--recipe", "official", "-m", "trades", "-m", "pgd-at", "--dry-run")
    for one in specs(fatbench(*flags, "--time-budget", "10m", "--eps", "8/255", "--model", "resnet18")):
        assert (one["epochs"], one["train_seconds"], one["eps"], one["model"]) == (None, 600.0, "8/255", "resnet18")
    for one in specs(fatbench(*flags, "--epochs", "3", "-d", "digits", "--set", "alpha=0.5")):
        assert (one["epochs"], one["dataset"], one["pad"], one["hyper"]["alpha"]) == (3, "digits", 0, 0.5)


def test_another_schedule_turns_where_it_always_does(fatbench: Fatbench) -> None:
    flags = ("run", "--recipe", "official", "-m", "trades", "--dry-run")
    (cyclic,) = specs(fatbench(*flags, "--schedule", "cyclic"))
    assert (cyclic["schedule"], cyclic["milestones"], cyclic["peak"]) == ("cyclic", ["1/2", "3/4"], None)
    (later,) = specs(fatbench(*flags, "--milestones", "0.5,150/200,.9"))
    assert (later["schedule"], later["milestones"]) == ("piecewise", ["1/2", "3/4", "9/10"])
    (early,) = specs(fatbench("run", "-m", "fgsm", "--peak", "0.4", "--dry-run"))
    assert (early["schedule"], early["peak"]) == ("cyclic", "2/5")


def test_an_official_run_is_that_of_the_preset(fatbench: Fatbench) -> None:
    official = specs(fatbench("run", "--recipe", "official", "-m", "bs-trades", "--dry-run"))
    assert official == specs(fatbench("run", "--preset", "chen2022-bs-trades", "--dry-run"))


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("-m", "./mine.py", "--recipe", "official"), "./mine.py has no official recipe; these have one: "),
        (("-m", "fgsm", "--recipe", "their"), "--recipe must be one of 'unified' or 'official', not 'their'"),
        (
            ("-m", "pgd-at", "--recipe", "official", "--preset", "rice2020-pgd-at"),
            "--recipe official and --preset rice2020-pgd-at are two recipes: give one of them",
        ),
        (("--recipe", "official"), "which method? Give --method NAME: "),
        (
            ("-m", "fgsm", "--milestones", "0.5"),
            "--milestones are where --schedule piecewise drops, and cyclic has none",
        ),
        (
            ("-m", "fgsm", "--schedule", "piecewise", "--milestones", "50,75"),
            "a milestone or peak is a fraction of the training such as 0.75 or 100/110, not '50'",
        ),
        (("-m", "fgsm", "--peak", "0"), "a milestone or peak is a fraction of the training"),
    ],
)
def test_mistakes(fatbench: Fatbench, tmp_path: Path, arguments: tuple[str, ...], line: str) -> None:
    (tmp_path / "mine.py").write_text(METHOD)
    said = fatbench("run", *arguments, "--dry-run")
    assert line in said.complaint
    assert said.code == USAGE


@pytest.mark.parametrize(
    ("flags", "weight"),
    [
        ((), 1.0),  # eps is 8/255 there
        (("--eps", "10/255"), 0.5),
        (("--eps", "12/255"), 1.0),
        (("--eps", "24/510"), 1.0),
        (("--eps", "12/255", "--set", "base=n"), 2.0),
        (("--eps", "12/255", "-d", "cifar100"), 3.0),
        (("--eps", "12/255", "--set", "weight=7"), 7.0),
    ],
)
def test_eps_fills_in_what_is_tied_to_it(
    fatbench: Fatbench, tmp_path: Path, flags: tuple[str, ...], weight: float
) -> None:
    (tmp_path / "mine.py").write_text(METHOD)
    (tmp_path / "mine.toml").write_text(PRESET)
    (spec,) = specs(fatbench("run", "--preset", "mine.toml", *flags, "--dry-run"))
    assert spec["hyper"]["weight"] == weight
    (another,) = specs(fatbench("run", "--preset", "mine.toml", "-m", "standard", "-d", "digits", "--dry-run"))
    assert another["method"] == "standard"  # though [hyper.mine] is not of it


TIED = [name for name in methods.names() if presets.official(name).get("tracks")]


@pytest.mark.parametrize("method", TIED)
@pytest.mark.parametrize("recipe", ["unified", "official"])
def test_what_authors_tie_to_eps_is_filled_in_whatever_the_recipe(fatbench: Fatbench, method: str, recipe: str) -> None:
    tied = presets.official(method)["tracks"][0]
    flags = ("run", "-m", method, "-d", "cifar10", "--recipe", recipe, "--eps", tied["eps"][0], "--dry-run")
    said = fatbench(*flags)
    (spec,) = specs(said)
    assert tied["hyper"].items() <= spec["hyper"].items()
    assert not said.err
    name = next(iter(tied["hyper"]))
    assert f"{name}={tied['hyper'][name]}" in " ".join(fatbench("show", method).out.split())


@pytest.mark.parametrize("method", TIED)
def test_an_eps_that_its_authors_do_not_name_is_noticed_unless_the_user_has_chosen(
    fatbench: Fatbench, method: str
) -> None:
    flags = ("run", "-m", method, "--eps", "11/255", "--dry-run")
    name = next(iter(presets.official(method)["tracks"][0]["hyper"]))
    (value,) = {spec["hyper"][name] for spec in specs(fatbench(*flags))}
    assert not fatbench(*flags).err  # on digits
    assert f"warning: {method}: its authors name no " in fatbench(*flags, "-d", "cifar10").err
    assert not fatbench(*flags, "-d", "cifar10", "--set", f"{name}={value}").err
    assert not fatbench(*flags, "-d", "cifar10", "--set", f"{method}.{name}={value}").err


def test_what_lies_outside_the_published_range_is_noticed(fatbench: Fatbench) -> None:
    said = fatbench(
        "run", "-m", "bs-trades", "-m", "fgsm-rs", "--set", "bs-trades.beta=12", "--seeds", "0,1", "--dry-run"
    )
    line = "fatbench: warning: bs-trades: beta=12 lies outside the published 6 to 10 (Chen et al., AAAI 2022)"
    assert said.err.splitlines() == [line]
    assert not fatbench("run", "-m", "bs-trades", "--set", "beta=8", "--dry-run").err


@pytest.mark.parametrize("method", methods.names())
@pytest.mark.parametrize("dataset", ["digits", "cifar10", "cifar100"])
def test_defaults_are_never_warned_of(fatbench: Fatbench, method: str, dataset: str) -> None:
    assert not fatbench("run", "-m", method, "-d", dataset, "--dry-run").err


def test_show_tells_of_the_recipe(fatbench: Fatbench) -> None:
    said = " ".join(fatbench("show", "bs-trades").out.split())
    assert "official recipe: chen2022-bs-trades (fatbench run --recipe official -m bs-trades)" in said
    assert "published: beta 6 to 10" in said


@pytest.mark.parametrize("order", [("beta=1", "trades.beta=2"), ("trades.beta=2", "beta=1")])
def test_what_is_set_for_one_method_stands_above_what_is_set_for_all(
    fatbench: Fatbench, order: tuple[str, str]
) -> None:
    settings = [word for text in order for word in ("--set", text)]
    said = fatbench("run", "-m", "trades", "-m", "bs-trades", *settings, "--dry-run")
    assert [spec["hyper"]["beta"] for spec in specs(said)] == [2.0, 1.0]
