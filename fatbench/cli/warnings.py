"""Warnings about an eps or hyper-parameters that no paper has tried like that."""

from collections.abc import Iterable, Iterator, Sequence

import typer

from fatbench.config import presets
from fatbench.config.spec import RunSpec

_OF_THE_PAPERS = {"cifar10", "cifar100", "svhn", "tiny-imagenet"}  # elsewhere an eps of one's own is nothing unusual
_USUAL = 8 / 255


def warn_about_published(specs: Sequence[RunSpec], assignments: Iterable[str]) -> None:
    """Print a line for each hyper-parameter outside its published range, and for an eps that its authors do not name.

    Args:
        specs: of the runs; each method is looked at once for each eps.
        assignments: what the user said, as NAME=VALUE or METHOD.NAME=VALUE.
    """
    said = {_said(text) for text in assignments}
    different = {(spec.method, spec.eps): spec for spec in specs}.values()
    found = [f"{spec.method}: {line}" for spec in different for line in (*_outside(spec), *_untied(spec, said))]
    for line in dict.fromkeys(found):
        typer.echo(f"fatbench: warning: {line}", err=True)


def range_in_words(values: Sequence[float] | Sequence[str]) -> str:
    """Return "6 to 10", "1", or the words there are."""
    numbers = [value for value in values if not isinstance(value, str)]
    if not numbers:
        return ", ".join(map(str, values))
    low, high = min(numbers), max(numbers)
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def _outside(spec: RunSpec) -> Iterator[str]:
    official = presets.official(spec.method)
    for name, values in official.get("published", {}).items():
        value = spec.training.hyper.get(name, values[0])
        if not _inside(value, values):
            shown = value if isinstance(value, str) else f"{value:g}"
            yield f"{name}={shown} lies outside the published {range_in_words(values)} ({official['source']})"


def _inside(value: float | str, values: Sequence[float] | Sequence[str]) -> bool:
    numbers = [one for one in values if not isinstance(one, str)]
    return value in values if isinstance(value, str) or not numbers else min(numbers) <= value <= max(numbers)


def _untied(spec: RunSpec, said: set[tuple[str, str]]) -> Iterator[str]:
    """What the authors tie to eps, where they name nothing for this one and the user has not chosen either."""
    table = presets.official(spec.method).get("tracks", []) if spec.norm == "linf" else []
    names = [name for name in presets.tied_names(table) if name in spec.training.hyper]
    chosen = {(method, name) for method in ("", spec.method) for name in names} & said
    if (
        chosen
        or spec.dataset not in _OF_THE_PAPERS
        or presets.at_eps(spec.eps, spec.dataset, spec.training.hyper, table)
    ):
        return
    if names:
        values = ", ".join(f"{name}={spec.training.hyper[name]}" for name in names)
        yield f"its authors name no {', '.join(names)} for eps {spec.eps}; {values} is meant for another"


def _said(assignment: str) -> tuple[str, str]:
    """The method, or "" for all of them, and the name in "[METHOD.]NAME=VALUE"."""
    method, _, name = assignment.partition("=")[0].strip().rpartition(".")
    return method.replace("_", "-"), name


def warn_about_eps(spec: RunSpec) -> None:
    """Print a warning if eps is nearly 8/255: papers that trained at 0.031 are compared with those that meant 8/255."""
    if spec.norm == "linf" and spec.epsilon != _USUAL and abs(spec.epsilon / _USUAL - 1) < 0.05:
        line = f"fatbench: warning: eps {spec.eps} is not 8/255 = {_USUAL:.5f}; write --eps 8/255 for that"
        typer.echo(line, err=True)
