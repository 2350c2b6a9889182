"""`fatbench time`: how long an optimiser step of each method takes here, and how much longer than another's."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from json import dumps
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.table import Table
from rich.text import Text

from fatbench.cli import options
from fatbench.cli.console import echo, make_console
from fatbench.cli.options import option, takes_settings
from fatbench.config.option import Section
from fatbench.config.request import Request
from fatbench.config.resolve import resolve
from fatbench.config.spec import RunSpec, short_name
from fatbench.record.parts import Environment

if TYPE_CHECKING:
    from fatbench.runner.timing import Estimate, StepTime

_ENDLESS = 10**6  # epochs: no timed batch may be cut short by the budget's end


@takes_settings(("dataset", "model", "batch_size", "engine", "precision", "without", "compile", "threads"))
def time_steps(
    *,
    method: Annotated[
        list[str],
        typer.Argument(metavar="METHOD...", help="Methods, or paths of methods' .py files; ratios are to the first."),
    ],
    interleave: Annotated[
        bool,
        option(
            "--interleave/--no-interleave", panel=Section.WHAT, help="Let the methods take turns: ratios then hold."
        ),
    ] = True,
    runs: Annotated[int, option(panel=Section.WHAT, min=1, help="Timed runs of each method.")] = 5,
    batches: Annotated[
        int | None, option(panel=Section.WHAT, min=1, help="Batches in a run. \\[default: what takes 0.3 s]")
    ] = None,
    set_: options.Hyper = None,
    data_dir: options.DataDir = None,
    download: options.Download = False,
    device: options.Device = "auto",
    require: options.Require = None,
    json: options.Json = False,
    settings: dict[str, Any],
) -> None:
    """Time one optimiser step of each method: passes, milliseconds, images per second, ratios. Records nothing."""
    parts = options.engine_parts(require)
    request = Request(method, settings={**settings, "epochs": _ENDLESS}, hyper=set_ or (), require=parts)
    resolve(request, device="cpu")  # answers a user's mistake before torch is imported, which takes seconds
    from fatbench.environment import resolve_device

    specs = resolve(request, device=resolve_device(device))
    times, environment = _measure(
        specs, runs=runs, batches=batches, interleave=interleave, data_dir=data_dir, download=download, require=parts
    )
    if json:
        echo(dumps(_as_dict(times, environment, interleave), indent=1))
        return
    console = make_console()
    console.print(Text(_heading(times[0].spec, environment), style="bold"))
    console.print(_table(times, interleave))
    console.print(Text(_legend(times, interleave), style="dim"))


def _measure(specs: list[RunSpec], **options: Any) -> tuple[list[StepTime], Environment]:
    import torch

    from fatbench.environment import describe_environment
    from fatbench.runner.threads import threads
    from fatbench.runner.timing import time_methods

    # What a user's own method or model prints is no result: stdout is for the table.
    with redirect_stdout(sys.stderr), make_console(stderr=True).status("") as status:
        times = time_methods(specs, watch=lambda line: status.update(Text(line)), **options)
    with threads(times[0].threads):  # which the environment tells of
        return times, describe_environment(torch.device(specs[0].device))


def _heading(spec: RunSpec, environment: Environment) -> str:
    """What the rows share."""
    train = spec.training
    parts = [short_name(spec.dataset), short_name(spec.model), f"batch {train.batch_size}"]
    parts += [f"{train.engine} engine", *(f"without {part}" for part in train.without), *["compiled"] * train.compile]
    parts += [train.precision, environment.device]
    if spec.device == "cpu":
        parts.append(f"{environment.cpu_threads} thread{'s' * (environment.cpu_threads != 1)}")
    return ", ".join([*parts, f"torch {environment.torch}"])


def _table(times: list[StepTime], interleaved: bool) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("method", overflow="fold")
    for column in ("passes", "ms/update", "images/s", f"x {short_name(times[0].spec.method)}"):
        table.add_column(column, justify="right")
    for one in times:
        time = one.estimate
        table.add_row(
            short_name(one.spec.method),
            f"{sum(one.passes.values()):g}",
            _spread(time, 1e3),
            f"{one.images_per_second:,.0f}",
            _ratio(one, times[0], interleaved),
        )
    return table


def _ratio(one: StepTime, first: StepTime, interleaved: bool) -> str:
    if one is first:
        return "1"
    return _spread(one.ratio_to(first)) if interleaved else f"{one.estimate.median / first.estimate.median:.3g}"


def _spread(value: Estimate, unit: float = 1.0) -> str:
    return f"{value.median * unit:.3g} [{value.low * unit:.3g}, {value.high * unit:.3g}]"


def _legend(times: list[StepTime], interleaved: bool) -> str:
    runs, confidence = len(times[0].seconds), times[0].estimate.confidence
    turns = "that took turns, ratios turn by turn" if interleaved else "one method after the other: ratios are rough"
    return (
        f"medians [{confidence:.0%} intervals by order statistics] of {runs} run{'s' * (runs != 1)} {turns}; "
        "passes: images sent forward, back to the input and back to the weights, per image of an update"
    )


def _as_dict(times: list[StepTime], environment: Environment, interleaved: bool) -> dict[str, Any]:
    return {
        "environment": environment.model_dump(),
        "interleaved": interleaved,
        "methods": [
            {
                "spec": one.spec.model_dump(mode="json"),
                "passes": one.passes,
                "batches_per_run": one.batches,
                "seconds_per_update": one.seconds,
                "estimate": vars(one.estimate),
                "images_per_second": one.images_per_second,
                "ratio_to_first": vars(one.ratio_to(times[0])) if interleaved else None,
            }
            for one in times
        ],
    }
