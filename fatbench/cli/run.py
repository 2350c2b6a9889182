"""`fatbench run`: train, attack and record; print what came out."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from fatbench.cli import options
from fatbench.cli.console import echo, json_list
from fatbench.cli.options import option, takes_settings
from fatbench.cli.session import run_all
from fatbench.cli.warnings import warn_about_eps, warn_about_published
from fatbench.config.option import Section
from fatbench.config.request import DEFAULT_OUTPUT, UNIFIED, Request, RunOptions
from fatbench.config.resolve import resolve
from fatbench.errors import UsageError


@takes_settings()
def run(
    *,
    method: Annotated[
        list[str] | None,
        option("--method", "-m", panel=Section.WHAT, help="Method, or a method's .py file; several by comma, or all."),
    ] = None,
    preset: Annotated[
        str | None, option(panel=Section.WHAT, help="Published settings; `fatbench list presets` names them.")
    ] = None,
    recipe: Annotated[
        str,
        option(
            panel=Section.WHAT,
            help="unified: the same schedule for all methods; official: each as its authors train it.",
        ),
    ] = UNIFIED,
    seeds: Annotated[
        list[str] | None,
        option("--seeds", "--seed", panel=Section.WHAT, help="One run per seed, as 0,1,2 or 0-4. \\[default: 0]"),
    ] = None,
    set_: options.Hyper = None,
    data_dir: options.DataDir = None,
    download: options.Download = False,
    evaluate: options.Evaluations = None,
    eval_samples: options.EvalSamples = None,
    device: options.Device = "auto",
    require: options.Require = None,
    calibration: options.Calibration = RunOptions.calibration_seconds,
    output: options.Output = DEFAULT_OUTPUT,
    force: Annotated[bool, option("--force", panel=Section.OUTPUT, help="Run again what is stored already.")] = False,
    resume: Annotated[
        bool, option("--resume", panel=Section.OUTPUT, help="Resume interrupted runs; others start at the beginning.")
    ] = False,
    checkpoint_every: options.Checkpointing = "1e",
    strict: options.Strict = False,
    panel: Annotated[
        bool, option("--panel", panel=Section.OUTPUT, help="Print each of several results in full, not in a line.")
    ] = False,
    json: options.Json = False,
    dry_run: options.DryRun = False,
    quiet: options.Quiet = False,
    settings: dict[str, Any],
) -> None:
    """Train, attack and record: one result for each method, eps and seed."""
    if seeds and len(seeds) > 1:
        raise UsageError(f"--seeds is given {len(seeds)} times: write --seeds {','.join(seeds):.60}")
    interval = options.interval(checkpoint_every)
    request = Request(
        methods=method or (),
        preset=preset,
        settings=settings | options.evaluation_names(evaluate, none=True),
        hyper=set_ or (),
        seeds=seeds[0] if seeds else Request.seeds,
        eval_samples=eval_samples,
        recipe=recipe,
        require=options.engine_parts(require),
    )
    resolve(request, device="cpu")  # answers a user's mistake before torch is imported, which takes seconds
    from fatbench.environment import resolve_device
    from fatbench.runner.requirements import check_requirable

    specs = resolve(request, device=resolve_device(device))
    for spec in specs:
        check_requirable(spec, request.require)
    for spec in {spec.eps: spec for spec in specs}.values():
        warn_about_eps(spec)
    warn_about_published(specs, request.hyper)
    if dry_run:
        echo(json_list(specs))
        return
    how = RunOptions(
        output=output,
        data_dir=data_dir,
        download=download,
        force=force,
        resume=resume,
        checkpoint_every=interval,
        require=request.require,
        calibration_seconds=calibration,
    )
    raise typer.Exit(run_all(specs, how, json=json, quiet=quiet, strict=strict, panels=panel))
