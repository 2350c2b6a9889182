"""Evaluate: run every evaluation of a spec on its share of the test images, and diagnose; each goes into the record."""

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from fatbench.config.parsing import PGD, attack_strength, parse_evaluation
from fatbench.data.loader import to_float
from fatbench.environment import peak_memory, reset_peak_memory
from fatbench.evaluation.eval_result import EvalProgress, EvalResult, concatenated
from fatbench.evaluation.forecast import autoattack_seconds
from fatbench.evaluation.gradient_masking import look_for_signs, verdict
from fatbench.evaluation.microbatch import MicroBatch
from fatbench.evaluation.model_contract import contract_findings
from fatbench.record.parts import Diagnostics, Finding, Masking
from fatbench.record.paths import LAST_WEIGHTS, SAMPLES
from fatbench.record.samples import save_samples
from fatbench.runner.eval_results import Results, SubsetResult, stored_results
from fatbench.runner.memory import named_peaks
from fatbench.runner.observer import Observer
from fatbench.runner.record_writer import RecordWriter
from fatbench.runner.setup import EvalContext
from fatbench.statistics import wilson
from fatbench.training.weights_file import load_weights

FIRST_BLOCK = 200  # images that a growing evaluation begins with by default
_STATE = "evaluation"  # the folder in which evaluations that are not complete keep what they have found
_STATE_OF_LAST = "evaluation-of-last"


def run_evaluations(
    context: EvalContext,
    observer: Observer,
    state: Path,
    done: Callable[[str, Results], None],
    known: Mapping[str, SubsetResult] | None = None,
) -> Results:
    """Return the results of every evaluation of the spec; the model contract is checked before the first.

    Args:
        state: a folder in which long evaluations keep what they have found; what lies there is resumed.
        done: called after each evaluation with all results so far.

    Raises:
        InvalidRunError: model or images are such that no score would mean anything.
    """
    results = Results(dict(known or {}), check_contract(context) if context.spec.eval.evaluations else [])
    for name, images in context.spec.eval.evaluations.items():
        if name in results.by_name:
            continue
        observer.stage(f"evaluating {name}")
        if name == "autoattack" and not (state / f"{name}.npz").exists():
            _forecast(context, images, results, observer)

        def watch(progress: EvalProgress, name: str = name) -> None:
            observer.evaluating(name, progress)

        with context.clock.phase("evaluation"):
            results.by_name[name] = _evaluate(context, name, images, watch, state)
        observer.scored(name, results.by_name[name].eval_result.score)
        done(name, results)
    return results


def check_contract(context: EvalContext) -> list[Finding]:
    """Return what the first batch of test images shows of the contract; the model is left unchanged.

    Raises:
        InvalidRunError: no score would mean anything.
    """
    first, data = slice(context.spec.eval.batch_size), context.dataset
    x, y = to_float(data.x_test[first]), data.y_test[first]
    microbatch = MicroBatch(len(y), context.device)

    def look(size: int) -> list[Finding]:
        return contract_findings(context.model, x[:size], y[:size], num_classes=data.num_classes, ball=context.ball)

    with context.clock.phase("evaluation"):
        return microbatch.run(len(y), look)


def _forecast(context: EvalContext, images: int | None, results: Results, observer: Observer) -> None:
    """Say how long AutoAttack will take, where PGD has shown the pace: by the exact engine on a CPU."""
    spec = context.spec.eval
    if context.device.type != "cpu" or spec.engine != "exact" or "autoattack" in spec.precision:
        return
    for name, result in results.by_name.items():
        what = parse_evaluation(name)
        if isinstance(what, PGD):
            wanted = len(context.dataset.test_subset(images))
            score = result.eval_result.score
            seconds = autoattack_seconds(wanted, context.dataset.num_classes, what, score)
            observer.expecting("autoattack", wanted, seconds, name)
            return


def _evaluate(
    context: EvalContext, name: str, images: int | None, watch: Callable[[EvalProgress], None], state: Path
) -> SubsetResult:
    """One evaluation: of a fixed number of images, or block by block until its interval is narrow enough."""
    dataset, precision = context.dataset, context.spec.eval.precision.get(name)
    if precision is None:
        rows = dataset.test_subset(images).cpu()
        return SubsetResult(rows, context.evaluator(rows).evaluate(name, context.model, watch, state / f"{name}.npz"))
    eval_results: list[EvalResult] = []
    order = dataset.test_order.cpu()
    for block in _blocks(min(images or FIRST_BLOCK, len(order)), len(order)):
        evaluator = context.evaluator(order[block])
        eval_results.append(evaluator.evaluate(name, context.model, watch, state / f"{name}-{block.stop}.npz"))
        score = concatenated(eval_results).score
        low, high = wilson(score.correct, score.total)
        if 100 * (high - low) / 2 <= precision:
            break
    whole = concatenated(eval_results)
    if 100 * (high - low) / 2 <= precision:
        whole.attack["precision"] = precision
    else:
        whole.warnings.append(f"all {len(order)} test images do not narrow the interval to {precision:g} points")
    return SubsetResult(order[: len(whole.broken_by)], whole)


def _blocks(first: int, total: int) -> Iterator[slice]:
    """So many images, then as many again, and so on: each block doubles what has been seen."""
    seen = 0
    while seen < total:
        until = min(max(2 * seen, first), total)
        yield slice(seen, until)
        seen = until


def score(context: EvalContext, writer: RecordWriter, observer: Observer, findings: Sequence[Finding] = ()) -> None:
    """Run every evaluation that the spec names, and diagnose; each result goes into the record at once.

    What the record and the samples beside it hold already is not run again. `findings` are there already.
    """
    reset_peak_memory(context.device)
    state, file = writer.artefact(_STATE), writer.artefact(SAMPLES)
    known = stored_results(context, writer.record, file)
    writer.note(scores={name: result.eval_result.score for name, result in known.items()})

    def done(name: str, results: Results) -> None:
        save_samples(results.samples(context), file)  # before the score, which is believed only beside them
        writer.keep("samples", file)
        scores = {**writer.record.scores, name: results.by_name[name].eval_result.score}
        writer.note(scores=scores, diagnostics=Diagnostics(findings=[*findings, *results.findings]))

    results = run_evaluations(context, observer, state, done, known)
    observer.stage("diagnosing")
    with context.clock.phase("evaluation"):
        masking = _masking(context, results)
    memory = {**writer.record.memory, **named_peaks(peak_memory(context.device), "evaluation")}
    writer.note(diagnostics=Diagnostics(findings=[*findings, *results.findings], masking=masking), memory=memory)
    shutil.rmtree(state, ignore_errors=True)


def score_last(context: EvalContext, writer: RecordWriter, observer: Observer) -> None:
    """Where the scores are not of the last weights, score these too, beside them: both numbers stay in the record."""
    selection = writer.record.selection
    if "last-weights" not in writer.record.artefacts or selection is None:
        return
    written = writer.record.digests.get("last-weights")
    load_weights(context.model, writer.artefact(LAST_WEIGHTS), context.spec.id, written)
    state = writer.artefact(_STATE_OF_LAST)
    results = run_evaluations(context, observer, state, lambda *_: None)
    scores = {name: result.eval_result.score for name, result in results.by_name.items()}
    writer.note(selection=selection.model_copy(update={"last_scores": scores}))
    shutil.rmtree(state, ignore_errors=True)


def _masking(context: EvalContext, results: Results) -> Masking | None:
    """Whether gradients are masked, seen on images of the two strongest attacks; None if nothing attacked."""
    attacks = [name for name in results.by_name if name != "clean"]
    if not attacks:
        return None
    rows = _common(results, sorted(attacks, key=attack_strength)[-2:])
    on_rows = {name: found for name in results.by_name if (found := results.of(name, rows)) is not None}
    return verdict(look_for_signs(context.evaluator(rows), context.model), on_rows)


def _common(results: Results, attacks: Sequence[str]) -> Tensor:
    """The rows that all these attacks were about; those of the last where they share none."""
    rows = [set(results.by_name[name].rows.tolist()) for name in attacks]
    return torch.tensor(sorted(set.intersection(*rows) or rows[-1]))
