"""Every option that several commands share, once; options of the spec come from its fields."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import typer

from fatbench.config.option import Section
from fatbench.config.parsing import CheckpointInterval, parse_interval, split_requests
from fatbench.config.presets import plain_type
from fatbench.config.spec import OPTIONS, EnginePart, flag_of
from fatbench.errors import UsageError

Command = Callable[..., None]
_PANELS = list(Section)
_EVALUATIONS = "clean, fgsm, pgd-STEPS[-RESTARTS], autoattack by comma; each may say :n=IMAGES and "


def interval(text: str) -> CheckpointInterval:
    """Return what --checkpoint-every says."""
    try:
        return parse_interval(text)
    except ValueError as error:
        raise UsageError(f"--checkpoint-every: {error}") from None


def engine_parts(names: list[str] | None) -> tuple[EnginePart, ...]:
    """Return the parts of the fast engine in --require, in the order given."""
    known: dict[str, EnginePart] = {part: part for part in get_args(EnginePart)}
    unknown = next((name for name in names or () if name not in known), None)
    if unknown is not None:
        raise UsageError(f"--require takes {', '.join(known)}, not '{unknown:.40}'")
    return tuple(known[name] for name in dict.fromkeys(names or ()))


def option(*flags: str, panel: Section, **more: Any) -> Any:
    """Return an option under the heading `panel` of `--help`."""
    return typer.Option(*flags, rich_help_panel=panel, **more)


Checkpointing = Annotated[
    str, option(panel=Section.OUTPUT, help="Checkpoint interval: 60s (or 60), 10m, 1h, 1e (every epoch) or none.")
]
DataDir = Annotated[
    Path | None,
    option(panel=Section.DATA, envvar="FATBENCH_DATA", help="Dataset directory. \\[default: ~/.cache/fatbench]"),
]
Download = Annotated[bool, option("--download", panel=Section.DATA, help="Fetch a missing dataset.")]
Output = Annotated[Path, option("--output", "-o", panel=Section.OUTPUT, help="Folder of records.")]
OptionalOutput = Annotated[
    Path | None, option("--output", "-o", panel=Section.OUTPUT, help="Folder of records. \\[default: results]")
]
Json = Annotated[bool, option("--json", panel=Section.OUTPUT, help="Print JSON, and nothing else, to stdout.")]
DryRun = Annotated[bool, option("--dry-run", panel=Section.OUTPUT, help="Print what would run as JSON, and stop.")]
Quiet = Annotated[bool, option("--quiet", "-q", panel=Section.OUTPUT, help="No progress.")]
Strict = Annotated[
    bool,
    option("--strict", panel=Section.OUTPUT, help="Exit with 4 if there is a reason to distrust a result; it is kept."),
]
Device = Annotated[str, option(panel=Section.ENGINE, help="auto, cpu, cuda, cuda:INDEX or mps.")]
Require = Annotated[
    list[str] | None,
    option(
        panel=Section.ENGINE, help="Fail unless this part of the fast engine is in force, such as graph; repeatable."
    ),
]
Calibration = Annotated[
    float,
    option(panel=Section.ENGINE, min=0, max=60, help="Seconds to find the device's peak, once, for MFU; 0: none."),
]
Hyper = Annotated[
    list[str] | None,
    option("--set", panel=Section.METHOD, help="Hyper-parameter NAME=VALUE or METHOD.NAME=VALUE; repeatable."),
]
Evaluations = Annotated[
    list[str] | None,
    option(
        "--eval",
        panel=Section.EVALUATION,
        help=f"{_EVALUATIONS}:precision=POINTS, as autoattack:n=200,precision=2 (more images until the 95% half-width "
        "is 2 points). `none` trains only. \\[default: clean,pgd-20,autoattack]",
    ),
]
EvalSamples = Annotated[
    str | None,
    option(
        panel=Section.EVALUATION, help="Test images for every evaluation, or all. \\[default: all; AutoAttack a subset]"
    ),
]


def evaluation_names(texts: list[str] | None, *, none: bool) -> dict[str, Any]:
    """Return the settings that --eval, once or several times, comes to; with `none`, that word asks for none."""
    if not texts:
        return {}
    return {"evaluate": [] if none and texts == ["none"] else [one for text in texts for one in split_requests(text)]}


def takes_settings(fields: Iterable[str] = tuple(OPTIONS)) -> Callable[[Command], Command]:
    """Give a command an option for each of these fields of the spec, by their flat names.

    The command receives those that were given as `settings`, by the keys of presets. Options are listed by panels.
    """
    names = [name for name in OPTIONS if name in set(fields)]

    def decorate(command: Command) -> Command:
        hints = get_type_hints(command, include_extras=True)
        own = [
            one.replace(annotation=hints[one.name], kind=inspect.Parameter.KEYWORD_ONLY)
            for one in inspect.signature(command).parameters.values()
            if one.name != "settings"
        ]
        parameters = sorted([*own, *map(_parameter, names)], key=_place)

        @functools.wraps(command)
        def wrapper(**given: Any) -> None:
            said = {name: given.pop(name) for name in names}
            settings = {OPTIONS[name].key or name: value for name, value in said.items() if value not in (None, [])}
            command(**given, settings=settings)

        wrapper.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        wrapper.__annotations__ = {one.name: one.annotation for one in parameters}
        return wrapper

    return decorate


def _parameter(name: str) -> inspect.Parameter:
    """Return the option of a field: its type without constraints, since whatever is wrong is said by the spec."""
    one = OPTIONS[name]
    field: Any = plain_type(name)
    kind: Any = one.cli_type or (str if get_origin(field) is Literal else field)
    flags = one.flags or (flag_of(name),)
    value = option(*flags, panel=one.panel, help=one.help, metavar=one.metavar)
    annotation: Any = Annotated[kind | None, value]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _place(parameter: inspect.Parameter) -> int:
    """Sort options by their panels, arguments first."""
    panels = [getattr(one, "rich_help_panel", None) for one in get_args(parameter.annotation)[1:]]
    panel = next((one for one in panels if one in _PANELS), None)
    return -1 if panel is None else _PANELS.index(panel)


def once(name: str, values: list[str] | None) -> str | None:
    """Return the value of an option that may be given once; click would keep the last of several without a word."""
    if values and len(values) > 1:
        raise UsageError(
            f"a run has one {name}: --{name} {' and '.join(values)} are {len(values)}, leave out all but one"
        )
    return values[0] if values else None
