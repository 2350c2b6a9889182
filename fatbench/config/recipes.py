"""Recipes: one for all methods, which a fair comparison needs, or each method's own, as its authors train it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fatbench import data, methods
from fatbench.config import presets
from fatbench.config.request import OFFICIAL, UNIFIED, Request
from fatbench.config.spec import Hyper
from fatbench.errors import UsageError

if TYPE_CHECKING:
    from fatbench.methods import Description

DEFAULT_DATASET = "digits"


def recipe(method: str, preset: dict[str, Any], request: Request) -> dict[str, Any]:
    """Return what lies between the dataset's defaults and the flags: the method's official recipe, or the preset.

    Raises:
        UsageError: there is no such kind of recipe, there are two, or the method has no official one.
    """
    if request.recipe == UNIFIED:
        return preset
    if request.recipe != OFFICIAL:
        raise UsageError(f"--recipe must be one of '{UNIFIED}' or '{OFFICIAL}', not '{request.recipe:.40}'")
    if request.preset:
        raise UsageError(f"--recipe official and --preset {request.preset:.60} are two recipes: give one of them")
    if method not in methods_with_recipe():
        there_are = ", ".join(methods_with_recipe())
        raise UsageError(f"{method:.60} has no official recipe; these have one: {there_are}")
    return presets.official(method)


def methods_with_recipe() -> list[str]:
    """Return the registered methods that have an official recipe."""
    return [name for name in methods.names() if name in presets.recipes()]


def dataset(recipe: Mapping[str, Any], request: Request) -> str:
    """Return the dataset of a run: the flag's, else the recipe's, else that which the preset is named after."""
    named = request.preset if request.preset in data.names() else None  # --preset cifar10 means its data too
    given = (request.settings.get("dataset"), recipe.get("dataset"), named, DEFAULT_DATASET)
    return next(one for one in given if one is not None)


def hyper(
    description: Description,
    method: str,
    layers: Sequence[Mapping[str, Any]],
    meant: Mapping[str, Any],
    settings: Mapping[str, Any],
) -> Hyper:
    """Return every hyper-parameter of the method: its defaults, changed by the layers, eps and what the user meant.

    What the authors tie to eps is theirs whatever the recipe, so it stands above the constants of the layers.

    Raises:
        UsageError: an unknown name, or a value that does not fit.
    """
    constants = {
        name: value for layer in layers for name, value in layer.get("hyper", {}).get(description.name, {}).items()
    }
    chosen = description.complete({**constants, **meant})
    return description.complete({**constants, **_at_eps(method, layers[-1], settings, chosen), **meant})


def _at_eps(method: str, recipe: Mapping[str, Any], settings: Mapping[str, Any], chosen: Hyper) -> Hyper:
    """Return what is tied to the eps in `settings`; nothing in l2, or where the authors name nothing."""
    own = recipe.get("tracks", []) if recipe.get("method") == method else []  # of a preset of the user's own
    table = [*presets.official(method).get("tracks", []), *own]
    return presets.at_eps(settings["eps"], settings["dataset"], chosen, table) if settings["norm"] == "linf" else {}
