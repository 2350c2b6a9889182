"""`fatbench eval`: attack weights that were trained here or elsewhere, and record what came out."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Annotated, Any

import typer

from fatbench.cli import options
from fatbench.cli.console import echo, json_list, make_console, say
from fatbench.cli.options import option, takes_settings
from fatbench.cli.resume_hint import report_interrupted
from fatbench.cli.show import print_result
from fatbench.cli.signals import cancel_on_signals
from fatbench.cli.warnings import warn_about_eps
from fatbench.config.option import Section
from fatbench.config.parsing import parse_normalization
from fatbench.config.request import DEFAULT_OUTPUT, RunOptions
from fatbench.config.resolve import resolve_evaluation, usage
from fatbench.config.spec import EVAL_OPTIONS, RunSpec
from fatbench.errors import InvalidRunError
from fatbench.models.checkpoint_metadata import known_settings, merged_settings, sha256_of
from fatbench.record import Record
from fatbench.report.validity import reasons_to_distrust


@takes_settings(EVAL_OPTIONS)
def evaluate(
    *,
    checkpoint: Annotated[
        Path, typer.Argument(help="Weights: .safetensors, or what torch.save wrote of a state dict.")
    ],
    normalize: Annotated[
        str | None,
        option(
            panel=Section.WHAT,
            metavar="MEAN,STD",
            help="What the network expects to be normalised by, for pixels in [0, 1]: one number each, or one per "
            "channel with spaces between, as '0.49 0.48 0.45, 0.25 0.24 0.26'. \\[default: nothing]",
        ),
    ] = None,
    checkpoint_key: Annotated[
        str | None,
        option(
            panel=Section.WHAT,
            metavar="KEY",
            help="Which weights of the file, as model_ema, state_dict.model, or a prefix of their names. "
            "\\[default: the only ones, or the plain ones before averages]",
        ),
    ] = None,
    data_dir: options.DataDir = None,
    download: options.Download = False,
    evaluations: options.Evaluations = None,
    eval_samples: options.EvalSamples = None,
    device: options.Device = "auto",
    output: options.Output = DEFAULT_OUTPUT,
    force: Annotated[bool, option("--force", panel=Section.OUTPUT, help="Score again what is stored already.")] = False,
    strict: options.Strict = False,
    json: options.Json = False,
    dry_run: options.DryRun = False,
    quiet: options.Quiet = False,
    settings: dict[str, Any],
) -> None:
    """Attack and record trained weights, wherever they come from; for those of `fatbench run` the file is enough."""
    weights = {
        "checkpoint": sha256_of(checkpoint),
        "checkpoint_key": checkpoint_key,
        "normalize": None if normalize is None else usage(parse_normalization, normalize),
    }
    given = merged_settings(
        known_settings(checkpoint), settings | options.evaluation_names(evaluations, none=False), checkpoint
    )
    resolve_evaluation(given, eval_samples, "cpu", **weights)  # answers a user's mistake before torch is imported
    from fatbench.environment import resolve_device

    spec = resolve_evaluation(given, eval_samples, resolve_device(device), **weights)
    warn_about_eps(spec)
    if dry_run:
        echo(json_list([spec]))
        return
    how = RunOptions(output=output, force=force, data_dir=data_dir, download=download)
    with cancel_on_signals() as signals:
        try:
            result = _score(spec, checkpoint, how, quiet=quiet or json)
        except KeyboardInterrupt:
            raise typer.Exit(report_interrupted(spec, how, signals.exit_code)) from None
    if json:
        echo(json_list([result]))
    else:
        print_result(make_console(), result, output / f"{result.id}.json")
    raise typer.Exit(_print_reasons(result) if strict else 0)


def _score(spec: RunSpec, checkpoint: Path, how: RunOptions, *, quiet: bool) -> Record:
    from fatbench.cli.progress import ProgressObserver
    from fatbench.runner import external

    # What a user's own model prints is no result: stdout is for records and panels.
    with (
        redirect_stdout(sys.stderr),
        ProgressObserver(make_console(stderr=True), checkpoint.name, quiet, "eval") as observer,
    ):
        return external.evaluate(spec, checkpoint, how, observer=observer)


def _print_reasons(result: Record) -> int:
    """Say why the result is not to be relied on, and return the exit code."""
    found = reasons_to_distrust(result)
    for reason in found:
        say(reason.detail)
    return InvalidRunError.exit_code if found else 0
