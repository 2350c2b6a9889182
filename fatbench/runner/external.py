"""External: score weights that were trained elsewhere, exactly as a run's own are."""

from pathlib import Path

import torch

from fatbench import data, models
from fatbench.config.request import RunOptions
from fatbench.config.spec import EXTERNAL, RunSpec
from fatbench.errors import UsageError
from fatbench.evaluation.eval_mode import seed_everything
from fatbench.models.matching import put_in
from fatbench.models.weights import Weights, read_weights
from fatbench.record import Record
from fatbench.record.parts import Finding, MethodInfo
from fatbench.runner.claim import claim_run
from fatbench.runner.evaluate import score
from fatbench.runner.memory import evaluation_memory_explained
from fatbench.runner.observer import Observer
from fatbench.runner.record_writer import begin_record, failures_recorded
from fatbench.runner.resume import load_stopped
from fatbench.runner.setup import EvalContext
from fatbench.runner.threads import sensible_threads, threads
from fatbench.threat import make_ball
from fatbench.training.clock import Clock


def evaluate(spec: RunSpec, checkpoint: Path, options: RunOptions, *, observer: Observer | None = None) -> Record:
    """Score the weights in `checkpoint` as `spec` says, write <id>.json as it goes, and return the final record.

    An identical finished evaluation is returned as it is stored, unless `options.force`; an interrupted AutoAttack
    resumes where it was.

    Raises:
        FatbenchError: model, data or weights are not to be had as asked, or the evaluation fails on the way.
        KeyboardInterrupt: after the record has been written with status "interrupted", once it has been started.
    """
    observer = observer or Observer()
    observer.stage("setting up")
    with threads(spec.threads), evaluation_memory_explained(spec):
        context, findings = _set_up(spec, checkpoint, options.data_dir, options.download)
    for note in [*context.dataset.notes, *context.model.notes, *(finding.detail for finding in findings)]:
        observer.warning(note)
    method = MethodInfo(name=EXTERNAL, hyper={}, sha256=spec.checkpoint or "", source="")
    with (
        threads(spec.threads or sensible_threads(context)),
        claim_run(context, method.sha256, options.output, force=options.force) as known,
    ):
        if known is not None:
            observer.reused(known)
            return known
        stopped = None if options.force else load_stopped(context, method.sha256, options.output)
        writer = stopped or begin_record(context, method, options.output)
        if stopped:
            context.clock.resume_from(dict(stopped.record.timing))
            budget = stopped.record.budget.model_copy(update={"stopped_by": None})
            writer.note(status="running", error=None, budget=budget)
        with failures_recorded(writer), evaluation_memory_explained(spec):
            score(context, writer, observer, findings)
            writer.close("finished")
    return writer.record


def _set_up(
    spec: RunSpec, checkpoint: Path, data_dir: Path | None, download: bool
) -> tuple[EvalContext, list[Finding]]:
    """The weights in their network, with the data, and findings about the checkpoint."""
    device = torch.device(spec.device)
    clock = Clock(device)
    with clock.phase("setup"):
        weights = _read(spec, checkpoint)
        dataset = data.load(spec.dataset, seed=spec.seed, data_dir=data_dir, download=download, test_only=True)
        mean, std = _normalisation(spec, dataset.shape[0])
        seed_everything(spec.seed)  # for what a model of the user's own may draw and not keep among its weights
        model = models.build(
            spec.model, num_classes=dataset.num_classes, shape=dataset.shape, mean=mean, std=std, trainable=False
        )
        own = put_in(model, weights.tensors, f"{checkpoint} does not fit --model {spec.model}", weights.entry)
        if own and spec.normalize is not None:
            raise UsageError(f"{checkpoint} brings its own normalisation: leave out --normalize")
        context = EvalContext(
            spec=spec,
            dataset=dataset.to(device),
            model=model.to(device),
            ball=make_ball(spec.norm, spec.epsilon),
            device=device,
            clock=clock,
        )
        return context, _several(weights, checkpoint)


def _several(weights: Weights, checkpoint: Path) -> list[Finding]:
    if not weights.others:
        return []
    rest = ", ".join(f"{name:.40}" for name in weights.others[:4])
    text = f"{checkpoint} holds several models: its '{weights.entry:.40}' is scored, not {rest} (--checkpoint-key)"
    return [Finding(code="several-models", detail=text)]


def _read(spec: RunSpec, checkpoint: Path) -> Weights:
    weights = read_weights(checkpoint, spec.checkpoint_key)
    if weights.sha256 != spec.checkpoint:
        raise UsageError(f"{checkpoint} changed while it was read: try again when it is complete")
    return weights


def _normalisation(spec: RunSpec, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and std for each channel; without any the network is given the images in [0, 1] as they are."""
    if spec.normalize is None:
        return (0.0,) * channels, (1.0,) * channels
    mean, std = (values * channels if len(values) == 1 else values for values in spec.normalize)
    if not len(mean) == len(std) == channels:
        given, want = f"{len(mean)} means and {len(std)} deviations", f"{channels} channel{'s' * (channels != 1)}"
        raise UsageError(f"--normalize gives {given}, but the images have {want}: give one of each, or one per channel")
    return mean, std
