"""From flags and presets to complete specs: a dataset's defaults, changed by a preset, changed by flags."""

from collections.abc import Mapping, Sequence
from typing import Any

from fatbench import methods, presets
from fatbench.errors import UsageError
from fatbench.spec import RunSpec, build_spec, parse_evaluation

DEFAULT_DATASET = "digits"
DEFAULT_EVALUATIONS = ("clean", "pgd-20", "autoattack")
_BUDGETS = {"epochs", "train_seconds"}
_UNIVERSAL: dict[str, Any] = {"momentum": 0.9, "threads": None, "limit_train": None}


def resolve(
    *,
    method_names: Sequence[str],
    preset: str | None,
    flags: Mapping[str, Any],
    hyper: Sequence[str],
    seeds: Sequence[int],
    eval_samples: str | None,
    device: str,
) -> list[RunSpec]:
    """Return one spec per method and seed, methods first.

    Args:
        flags: what the user set, under RunSpec's field names, and `evaluate`, a list of names.
        hyper: NAME=VALUE, or METHOD.NAME=VALUE for one method among several.
        eval_samples: a number, "all", or None for the defaults.
        device: resolved already.

    Raises:
        UsageError: the first thing that cannot be right, in one line.
    """
    chosen = presets.load(preset) if preset else {}
    dataset = flags.get("dataset") or chosen.get("dataset") or DEFAULT_DATASET
    settings = _merge(_UNIVERSAL, presets.for_dataset(dataset), chosen, flags, {"dataset": dataset, "device": device})
    default_hyper = settings.pop("set", {})
    default_method = settings.pop("method", None)
    names = list(method_names) or ([default_method] if default_method else [])
    if not names:
        raise UsageError(f"which method? Give --method NAME: {', '.join(methods.names())}")
    settings["evaluations"] = _evaluations(settings, eval_samples)
    assigned = [_assignment(text) for text in hyper]
    specs = []
    for name in dict.fromkeys(names):
        description = methods.describe(name)
        own = _settings_of(description, assigned, default_hyper if name == default_method else {}, names)
        complete = description.complete(own)
        specs += [build_spec(**settings, method=name, hyper=complete, seed=seed) for seed in dict.fromkeys(seeds)]
        if specs[-1].norm not in description.norms:
            raise UsageError(f"{description.name} is defined for --norm {', '.join(description.norms)} only")
    return specs


def parse_seeds(text: str) -> list[int]:
    """Return the whole numbers in "0,1,2".

    Raises:
        UsageError: it is not such a list.
    """
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(f"--seeds takes whole numbers such as 0,1,2, not '{text}'") from None


def _merge(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Return the layers on top of each other; a layer that sets one kind of budget removes the other kind below."""
    merged: dict[str, Any] = {}
    for layer in layers:
        if _BUDGETS & layer.keys():
            merged = {key: value for key, value in merged.items() if key not in _BUDGETS}
        merged.update(layer)
    return merged


def _evaluations(settings: dict[str, Any], eval_samples: str | None) -> dict[str, int | None]:
    """Take `evaluate` and `autoattack_samples` out of the settings, and return images per evaluation."""
    names = settings.pop("evaluate", DEFAULT_EVALUATIONS)
    autoattack_samples = settings.pop("autoattack_samples", None)
    for name in names:
        try:
            parse_evaluation(name)
        except ValueError as error:
            raise UsageError(str(error)) from None
    samples = None if eval_samples in (None, "all") else _positive(str(eval_samples))
    sparing = {"autoattack": autoattack_samples} if eval_samples is None else {}
    return {name: sparing.get(name, samples) for name in names}


def _positive(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise UsageError(f"--eval-samples takes a number of images or all, not '{text}'")
    return int(text)


def _assignment(text: str) -> tuple[str | None, str, str]:
    """Return (method or None, name, value) from "[METHOD.]NAME=VALUE"."""
    key, equals, value = text.partition("=")
    method, _, name = key.strip().rpartition(".")
    if not equals or not name:
        raise UsageError(f"--set takes NAME=VALUE, or METHOD.NAME=VALUE, not '{text}'")
    return method or None, name, value


def _settings_of(
    description: methods.Description,
    assigned: Sequence[tuple[str | None, str, str]],
    preset: Mapping[str, Any],
    names: Sequence[str],
) -> dict[str, Any]:
    """Return the hyper-parameters meant for this method: the preset's, then those of --set."""
    known = {methods.describe(name).name for name in names}
    for method, name, _ in assigned:
        if method is not None and method not in known:
            raise UsageError(f"--set {method}.{name}: {method} is not among the methods to run ({', '.join(known)})")
    meant = {name: value for method, name, value in assigned if method in (None, description.name)}
    return {**preset, **meant}
