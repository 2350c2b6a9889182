"""Tracks: the hyper-parameters that a method's authors tie to eps, 8, 12 and 16/255 among them."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict

from fatbench.config.parsing import parse_eps
from fatbench.config.spec import Hyper


class Track(BaseModel):
    """One line of the authors' table."""

    model_config = ConfigDict(extra="forbid", strict=True)

    eps: list[Annotated[str, BeforeValidator(parse_eps)]]  # of the L-infinity norm
    datasets: list[str] = []  # where it holds; none named: everywhere
    when: Hyper = {}  # what else it presupposes of the method's hyper-parameters
    hyper: Hyper  # what to set


def tied(tracks: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the names of the hyper-parameters that the tracks set."""
    return list(dict.fromkeys(name for track in tracks for name in track["hyper"]))


def at(eps: str, dataset: str, chosen: Hyper, tracks: Iterable[Mapping[str, Any]]) -> Hyper:
    """Return what the tracks set at `eps` for `dataset`, where the hyper-parameters are otherwise `chosen`.

    Of two that fit, the later one prevails: what holds for one dataset stands behind what holds everywhere.
    """
    found: Hyper = {}
    for track in tracks:
        here = not track.get("datasets") or dataset in track["datasets"]
        if eps in track["eps"] and here and track.get("when", {}).items() <= chosen.items():
            found |= track["hyper"]
    return found


def describe(track: Mapping[str, Any]) -> str:
    """Return the track in a line: "eps 8/255 (cifar100, base=n): weight=1.5"."""
    conditions = [*track.get("datasets", []), *_assignments(track.get("when", {}))]
    where = f" ({', '.join(conditions)})" if conditions else ""
    return f"eps {', '.join(track['eps'])}{where}: {' '.join(_assignments(track['hyper']))}"


def _assignments(hyper: Hyper) -> list[str]:
    return [f"{name}={value}" for name, value in hyper.items()]
