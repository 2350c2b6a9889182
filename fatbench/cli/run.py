"""`fatbench run`: train, attack and record; print what came out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from fatbench.cli.checkpoints import EVERY_HELP, checkpoint_interval
from fatbench.cli.session import json_list, run_all
from fatbench.cli.warnings import warn_about_eps, warn_about_published
from fatbench.config.parsing import split_requests
from fatbench.config.request import UNIFIED, Request
from fatbench.config.resolve import engine_parts, resolve, validation_evaluation
from fatbench.config.spec import Toggle
from fatbench.errors import UsageError


def run(
    method: Annotated[
        list[str] | None, typer.Option("--method", "-m", help="Method, or path of a method's .py file; repeatable.")
    ] = None,
    dataset: Annotated[
        str | None, typer.Option("--dataset", "-d", help="Name, .npz file or image folder. \\[default: digits]")
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", help="Name, package.module:factory or file.py:factory.")
    ] = None,
    preset: Annotated[str | None, typer.Option(help="Published settings; `fatbench list presets` names them.")] = None,
    recipe: Annotated[
        str, typer.Option(help="unified: the same schedule for all methods; official: each as its authors train it.")
    ] = UNIFIED,
    epochs: Annotated[int | None, typer.Option(help="Budget: N x len(loader) optimiser steps.")] = None,
    time_budget: Annotated[str | None, typer.Option(help="Budget: training seconds, as 90s, 10m or 1h.")] = None,
    seeds: Annotated[str, typer.Option(help="One run each, as 0,1,2.")] = "0",
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Hyper-parameter NAME=VALUE or METHOD.NAME=VALUE; repeatable.")
    ] = None,
    eps: Annotated[str | None, typer.Option(help="Radius for pixels in [0, 1], as 8/255.")] = None,
    norm: Annotated[str | None, typer.Option(help="linf or l2.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images per batch.")] = None,
    lr: Annotated[float | None, typer.Option(help="Peak learning rate.")] = None,
    schedule: Annotated[str | None, typer.Option(help="piecewise, cyclic, onecycle, cosine or constant.")] = None,
    milestones: Annotated[
        str | None, typer.Option(help="Where piecewise drops to a tenth, as 0.5,0.75 or 100/110,105/110 of the budget.")
    ] = None,
    peak: Annotated[
        str | None, typer.Option(help="Where cyclic and onecycle have their peak, as 0.4. \\[default: 0.5, 0.3]")
    ] = None,
    momentum: Annotated[float | None, typer.Option(help="SGD momentum.")] = None,
    weight_decay: Annotated[float | None, typer.Option(help="SGD weight decay.")] = None,
    pad: Annotated[int | None, typer.Option(help="Random crop: pixels of padding; 0 is none.")] = None,
    flip: Annotated[bool | None, typer.Option("--flip/--no-flip", help="Random horizontal flip.")] = None,
    label_smoothing: Annotated[
        float | None,
        typer.Option(
            metavar="P", help="The true class's probability, as 0.6 (torch's label_smoothing: 0.444 for ten classes)."
        ),
    ] = None,
    ema: Annotated[
        float | None, typer.Option(metavar="T", help="Score an exponential average of the weights, as 0.9995.")
    ] = None,
    swa: Annotated[
        float | None,
        typer.Option(metavar="START", help="Score the mean of epochs' weights from this fraction of the budget on."),
    ] = None,
    awp: Annotated[
        float | None,
        typer.Option(metavar="GAMMA", help="Adversarial weight perturbation, as 0.01: every loss with worse weights."),
    ] = None,
    limit_train: Annotated[int | None, typer.Option(help="Train on N images only; labelled subset everywhere.")] = None,
    evaluate: Annotated[
        str | None,
        typer.Option(
            "--eval",
            help="clean, fgsm, pgd-STEPS[-RESTARTS], autoattack by comma, or none; each may say :n=IMAGES and "
            ":precision=POINTS, as autoattack:n=200,precision=2 (more images until the 95% half-width is 2 points).",
        ),
    ] = None,
    eval_samples: Annotated[
        str | None, typer.Option(help="Test images for every evaluation, or all. \\[default: all; AutoAttack a subset]")
    ] = None,
    eval_batch_size: Annotated[
        int | None, typer.Option(help="Images at a time in evaluation. \\[default: 250]")
    ] = None,
    eval_engine: Annotated[
        str | None,
        typer.Option(help="AutoAttack's: exact, or fast (every success confirmed exactly). \\[default: exact]"),
    ] = None,
    on_co: Annotated[
        str | None,
        typer.Option(help="On catastrophic overfitting: continue, stop, or restore the last healthy weights and stop."),
    ] = None,
    select: Annotated[str | None, typer.Option(help="Score the last or the best weights. \\[default: last]")] = None,
    select_on: Annotated[
        str | None, typer.Option(help="What is best: val (PGD-10 on validation images) or val:EVALUATION.")
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 4 if there is reason to doubt a result; it is kept.")
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:INDEX or mps.")] = "auto",
    engine: Annotated[
        str | None, typer.Option(help="reference or fast. \\[default: fast on a GPU, reference elsewhere]")
    ] = None,
    precision: Annotated[
        str | None, typer.Option(help="fp32 or bf16 in training; evaluation is fp32. \\[default: bf16 on a GPU]")
    ] = None,
    without: Annotated[
        list[str] | None,
        typer.Option(help=f"Leave out a part of the fast engine: {', '.join(get_args(Toggle))}; repeatable."),
    ] = None,
    require: Annotated[
        list[str] | None,
        typer.Option(help="Fail unless this part of the fast engine is in force, such as graph; repeatable."),
    ] = None,
    compile_: Annotated[bool, typer.Option("--compile", help="torch.compile in the fast engine.")] = False,
    calibration: Annotated[
        float,
        typer.Option(min=0, max=60, help="Seconds to find the device's peak, once, for MFU; 0: none."),
    ] = 5.0,
    target: Annotated[
        str | None, typer.Option(help="Stop once the validation probe reaches it, as 'pgd-10>=0.45'.")
    ] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads.")] = None,
    data_dir: Annotated[
        Path | None, typer.Option(envvar="FATBENCH_DATA", help="Where datasets lie. \\[default: ~/.cache/fatbench]")
    ] = None,
    download: Annotated[bool, typer.Option("--download", help="Fetch a missing dataset.")] = False,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of records.")] = Path("results"),
    force: Annotated[bool, typer.Option("--force", help="Run again what is stored already.")] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with runs that were interrupted; others start at the beginning.")
    ] = False,
    checkpoint_every: Annotated[str, typer.Option(help=EVERY_HELP)] = "1e",
    json: Annotated[
        bool, typer.Option("--json", help="Print the records as JSON, and nothing else, to stdout.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the resolved runs as JSON and stop.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Train, attack and record: one result for each method and seed."""
    if select_on is not None and select != "best":
        raise UsageError("--select-on says what is best: it goes with --select best")
    if epochs is not None and time_budget is not None:
        raise UsageError("a run has one budget: give --epochs or --time-budget, not both")
    interval = checkpoint_interval(checkpoint_every)
    flags: dict[str, Any] = {
        "dataset": dataset,
        "model": model,
        "epochs": epochs,
        "time_budget": time_budget,
        "eps": eps,
        "norm": norm,
        "batch_size": batch_size,
        "lr": lr,
        "schedule": schedule,
        "milestones": None if milestones is None else milestones.split(","),
        "peak": peak,
        "momentum": momentum,
        "weight_decay": weight_decay,
        "pad": pad,
        "flip": flip,
        "label_smoothing": label_smoothing,
        "ema": ema,
        "swa": swa,
        "awp": awp,
        "limit_train": limit_train,
        "engine": engine,
        "precision": precision,
        "without": without or None,
        "compile": compile_ or None,
        "target": target,
        "threads": threads,
        "evaluate": _names(evaluate),
        "eval_batch_size": eval_batch_size,
        "eval_engine": eval_engine,
        "on_overfitting": on_co,
        "select": select,
        "select_on": None if select_on is None else validation_evaluation(select_on),
    }
    given = {name: value for name, value in flags.items() if value is not None}
    parts = engine_parts(require)
    request = Request(method or (), preset, given, set_ or (), seeds, eval_samples, recipe, parts)
    resolve(request, device="cpu")  # answers a user's mistake before torch is imported, which takes seconds
    from fatbench.environment import resolve_device
    from fatbench.runner.requirements import check_requirable

    specs = resolve(request, device=resolve_device(device))
    for spec in specs:
        check_requirable(spec, parts)
    for spec in {spec.eps: spec for spec in specs}.values():
        warn_about_eps(spec)
    warn_about_published(specs, request.hyper)
    if dry_run:
        typer.echo(json_list(specs))
        return
    options: dict[str, Any] = {"output": output, "force": force, "data_dir": data_dir, "download": download}
    options |= {"calibration_seconds": calibration, "resume": resume, "checkpoint_every": interval, "require": parts}
    raise typer.Exit(run_all(specs, json=json, quiet=quiet, strict=strict, **options))


def _names(evaluate: str | None) -> list[str] | None:
    if evaluate is None:
        return None
    return [] if evaluate == "none" else split_requests(evaluate)
