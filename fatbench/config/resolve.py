"""From flags and presets to complete specs: a dataset's defaults, changed by a preset, changed by flags."""

import hashlib
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, get_args

from fatbench import data, methods, models
from fatbench.config import presets, recipes
from fatbench.config.assignments import assignments
from fatbench.config.lists import ALL, method_names, parse_radii, parse_seeds
from fatbench.config.parsing import parse_request, split_requests
from fatbench.config.request import Request
from fatbench.config.spec import EXTERNAL, OPTIONS, PLACES, EnginePart, Norm, RunSpec, SettingError, build_spec
from fatbench.errors import UsageError
from fatbench.io.safe_read import is_directory, path_exists, read_file
from fatbench.methods import check_compatible

Parsed = TypeVar("Parsed")
DEFAULT_EVALUATIONS = ("clean", "pgd-20", "autoattack")
_BUDGETS = {"epochs", "time_budget"}
_TURNS = {"milestones", "peak"}
_LARGEST = 2**24  # bytes of a file of code
_FIELD_OF_KEY = {one.key: name for name, one in OPTIONS.items() if one.key}
_UNIVERSAL: dict[str, Any] = {"momentum": 0.9, "threads": None}


def resolve(request: Request, device: str) -> list[RunSpec]:
    """Return one spec per method, eps and seed, methods first; `device` is resolved already.

    Raises:
        UsageError: the first thing that cannot be right, in one line.
    """
    preset = presets.load(request.preset) if request.preset else {}
    names = method_names(request.methods, methods.built_in) or ([preset["method"]] if preset.get("method") else [])
    if not names:
        raise UsageError(f"which method? Give --method NAME: {', '.join(methods.names())}")
    described = {name: methods.describe(name) for name in names}
    own = Path(preset.get("method", "")).stem.replace("_", "-")
    others = set(preset.get("hyper", {})) - {own, *(description.name for description in described.values())}
    known = methods.names() if others else []  # looks through installed packages
    for name in sorted(others.difference(known)):
        raise UsageError(f"{request.preset}: [hyper.{name:.40}] is of no method; there are {', '.join(known)}")
    assigned = assignments(request.hyper, described.values())
    seeds = usage(parse_seeds, request.seeds)
    specs = []
    for name, description in described.items():
        recipe = recipes.recipe(name, preset, request)
        dataset = recipes.dataset(recipe, request)
        defaults = presets.for_dataset(dataset)
        settings = _settings((defaults, recipe), dataset, request, device)
        meant = assigned.get(None, {}) | assigned.get(description.name, {})  # what is said of one method stands above
        sources = {
            "method_source": description.sha256 if description.package else source_sha256(name),
            "model_source": source_sha256(settings["model"]),
        }
        with _blamed_on_preset(recipe, request):
            radii = _radii(settings)
        for eps in radii:
            settings["eps"] = eps
            hyper = recipes.hyper(description, name, (defaults, recipe), meant, settings)
            with _blamed_on_preset(recipe, request):
                specs += [build_spec(**settings, **sources, method=name, hyper=hyper, seed=seed) for seed in seeds]
        _check_compatible(description, specs[-1], request)
    return specs


def resolve_evaluation(settings: Mapping[str, Any], eval_samples: str | None, device: str, **weights: Any) -> RunSpec:
    """Return the spec of an evaluation of weights that were trained elsewhere.

    Args:
        settings: `model` and `dataset` at least; else the dataset's defaults hold.
        weights: the spec's `checkpoint`, `checkpoint_key` and `normalize`.

    Raises:
        UsageError: the first thing that cannot be right, in one line.
    """
    dataset = settings["dataset"]
    request = Request(settings=settings, eval_samples=eval_samples)
    merged = _settings((presets.for_dataset(dataset), {}), dataset, request, device)
    radii = _radii(merged)
    if len(radii) > 1:
        raise UsageError(f"an evaluation has one eps, not {' and '.join(radii)}: run it once for each")
    scored = {name: value for name, value in merged.items() if PLACES[name][0] != "train"} | {"eps": radii[0]}
    return build_spec(**scored, **weights, method=EXTERNAL, seed=0, model_source=source_sha256(merged["model"]))


def _radii(settings: Mapping[str, Any]) -> list[str]:
    try:
        return parse_radii(settings["eps"])
    except ValueError as error:
        raise SettingError(str(error), "eps") from None


def _check_compatible(description: methods.Description, spec: RunSpec, request: Request) -> None:
    """Raise where the method is not made for what the spec asks of it, with the remedy for one of very many."""
    try:
        check_compatible(description, spec)
    except UsageError as error:
        if description.name in request.methods or ALL not in ",".join(request.methods).split(","):
            raise
        raise UsageError(f"{error}: name the methods to run instead of --method {ALL}") from None


@contextmanager
def _blamed_on_preset(recipe: Mapping[str, Any], request: Request) -> Iterator[None]:
    """Name the preset in the line of an error about a setting that is the preset's, and not the user's."""
    try:
        yield
    except UsageError as error:
        fields = {_FIELD_OF_KEY.get(key, key) for key in recipe.keys() - request.settings.keys()}
        if request.preset and isinstance(error, SettingError) and error.field in fields:
            raise UsageError(f"{request.preset}: {error}") from None
        raise


def _settings(layers: Sequence[Mapping[str, Any]], dataset: str, request: Request, device: str) -> dict[str, Any]:
    """Return the fields of a spec that are neither the method's nor the seed: defaults, recipe and flags, in order."""
    settings = _merge(_UNIVERSAL, *layers, request.settings)
    settings |= {"dataset": dataset, "device": device}
    for key in presets.OF_THE_METHOD:
        settings.pop(key, None)
    if "eps" not in settings:
        meant = f"{layers[0]['eps']} is meant for {layers[0]['norm']}"
        raise UsageError(f"--norm {settings['norm']} needs --eps: {meant}")
    if "select_on" in request.settings and settings.get("select") != "best":
        raise UsageError("--select-on requires --select best")
    _fill_in_engine(settings, device, request.require)
    settings |= evaluations(settings, request.eval_samples)
    _check_names(settings["model"], dataset)
    return {_FIELD_OF_KEY.get(key, key): value for key, value in settings.items()}


def _fill_in_engine(settings: dict[str, Any], device: str, require: Sequence[EnginePart]) -> None:
    """On a GPU the fast engine in bf16 is what nobody would go without; elsewhere plain float32 is the default."""
    on_gpu = device.startswith("cuda")
    wants_fast = on_gpu or settings.get("without") or settings.get("compile") or require
    settings.setdefault("engine", "fast" if wants_fast else "reference")
    settings.setdefault("precision", "bf16" if on_gpu and settings["engine"] == "fast" else "fp32")


def _merge(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Return the layers on top of each other.

    One that sets a kind of budget removes the other kind below; one that sets a schedule, where another one turned; one
    that sets another norm, the radius.
    """
    merged: dict[str, Any] = {}
    for layer in layers:
        replaced = (_BUDGETS if _BUDGETS & layer.keys() else set()) | (_TURNS if "schedule" in layer else set())
        if layer.get("norm", merged.get("norm")) in set(get_args(Norm)) - {merged.get("norm")}:
            replaced = replaced | {"eps"}
        merged = {key: value for key, value in merged.items() if key not in replaced}
        merged.update(layer)
    return merged


def usage(parse: Callable[[str], Parsed], text: str) -> Parsed:
    """Return what `parse` makes of a text.

    Raises:
        UsageError: it makes nothing of it.
    """
    try:
        return parse(text)
    except ValueError as error:
        raise UsageError(str(error)) from None


def evaluations(settings: dict[str, Any], eval_samples: str | None) -> dict[str, Any]:
    """Take `evaluate` and `autoattack_samples` out of the settings, and return the spec's fields that they come to.

    Raises:
        UsageError: an evaluation is asked for in a way that cannot be right, or twice.
    """
    asked = settings.pop("evaluate", DEFAULT_EVALUATIONS)
    if not isinstance(asked, (str, list, tuple)):
        raise UsageError(f"evaluate takes names, as 'clean' or ['clean', 'pgd-20:n=500'], not a {type(asked).__name__}")
    requested = [usage(parse_request, text) for text in (split_requests(asked) if isinstance(asked, str) else asked)]
    autoattack_samples = settings.pop("autoattack_samples", None)
    if eval_samples not in (None, "all") and not re.fullmatch("0*[1-9][0-9]*", eval_samples):
        raise UsageError(f"--eval-samples takes a number of images or all, not '{eval_samples:.40}'")
    samples = None if eval_samples in (None, "all") else int(eval_samples)
    sparing = {"autoattack": autoattack_samples} if eval_samples is None else {}
    twice = next((one.name for one in requested if [other.name for other in requested].count(one.name) > 1), None)
    if twice is not None:
        raise UsageError(f"--eval names {twice} twice: one number of images each")
    return {
        "evaluations": {one.name: one.images or sparing.get(one.name, samples) for one in requested},
        "eval_precision": {one.name: one.precision for one in requested if one.precision is not None},
    }


def _check_names(model: str, dataset: str) -> None:
    """Know a misspelt name before torch is imported; what is in a file or a module is looked at when it is needed."""
    file, colon, _ = model.rpartition(":")
    if colon and file.endswith(".py") and not path_exists(Path(file)):
        raise UsageError(f"no model file {file}")
    if ":" not in model and not model.endswith(".py"):
        models.describe(model)
    if not (dataset.endswith(".npz") or {"/", os.sep} & set(dataset) or is_directory(Path(dataset))):
        data.describe(dataset)


def source_sha256(name: str) -> str | None:
    """Return the sha256 of the user's own file that a name stands for, or None for what fatbench brings.

    Such are "my_idea.py", "net.py:factory" and "package.module:factory"; the module is looked for, not imported.
    """
    path, colon, _ = name.rpartition(":")
    file = Path(path if colon else name)
    if colon and file.suffix != ".py":
        inside = Path(*path.split("."))
        places = [Path(folder) / inside for folder in sys.path]
        found = (one for place in places for one in (place.with_suffix(".py"), place / "__init__.py") if one.is_file())
        file = next(found, file)
    if file.suffix != ".py" or not path_exists(file):
        return None
    return hashlib.sha256(read_file(file, _LARGEST)).hexdigest()
