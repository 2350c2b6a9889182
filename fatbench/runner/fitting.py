"""Fitting: train to the end of the budget, look at the model every epoch, and keep the weights."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fatbench.environment import PeakMemory, reset_peak_memory
from fatbench.errors import ResourceError, UsageError
from fatbench.evaluation.measuring import isolated_randomness
from fatbench.interface import Context
from fatbench.metering.flops import counted_flops
from fatbench.record import Event, Probe, Score
from fatbench.runner.accounting import Account
from fatbench.runner.bench import Bench
from fatbench.runner.goal import Goal
from fatbench.runner.journal import Journal
from fatbench.runner.keeper import Keeper, Weights, weights_of
from fatbench.runner.memory import evaluation_memory_explained, named_peaks
from fatbench.runner.observer import Observer
from fatbench.runner.overfitting import Sentinel
from fatbench.runner.requirements import check_required
from fatbench.runner.saved import Saved
from fatbench.runner.saving import Saver, Subject
from fatbench.spec import Toggle
from fatbench.stop import Interrupted
from fatbench.training.checkpoint import FILE, LAST_FILE, save_weights
from fatbench.training.loop import Enough, Pulse, StoppedBy, Training
from fatbench.training.passes import count_passes
from fatbench.training.preparation import fast_kernels, prepare
from fatbench.training.state import restore

_TRIFLE = 0.02  # of a budget of time


def fit(
    bench: Bench,
    journal: Journal,
    observer: Observer,
    saver: Saver,
    states: Iterable[Saved] = (),
    require: Sequence[Toggle] = (),
) -> None:
    """Train, and save the weights that are to be scored; `journal.record.budget.stopped_by` says how it ended.

    Who asks it to leave off while it saves these is heard too, once they are saved.

    Args:
        bench: the run that is set up.
        journal: of the run.
        observer: hears how far it is.
        saver: keeps its state.
        states: it goes on from the first that is one of such a training; without one, from the beginning.
        require: parts of the fast engine that must be in force.

    Raises:
        FatbenchError: it cannot be trained, or not as required.
        Interrupted: it was asked to leave off.
    """
    training, watchers = _prepared(bench, journal, observer)
    try:
        check_required(journal.record.engine, require)
    except ResourceError:
        for saved in states:  # what was trained before is not lost for that
            journal.go_on_from(saved)
            break
        raise
    for saved in states:
        if _goes_on(training, watchers, saved, observer):
            saver.gone_on_from(saved)
            journal.go_on_from(saved)
            break
    observer.stage("training")
    with saver.stop.heeding():
        with saver.following(Subject(bench, training, watchers.keeper, watchers.account)):
            stopped_by = _train(bench, training, watchers, journal, observer, saver)
        _conclude(bench, training, journal, watchers.keeper, stopped_by)
    if saver.stop.asked and stopped_by != "diverged":  # which is a result already
        raise Interrupted


@dataclass(frozen=True)
class Watchers:
    """Those who look at a training while it runs."""

    account: Account
    goal: Goal
    sentinel: Sentinel
    keeper: Keeper
    peak: PeakMemory

    def check(self, saved: Saved) -> None:
        """Look at what `carry` relies on: a state may be anybody's.

        Raises:
            UsageError: it is of another training.
        """
        history = saved.facts.record.history
        if any(not set(self.goal.probes) <= probe.scores.keys() for probe in history):
            raise UsageError("it was not looked at as this one is")
        if not saved.facts.entries.possible:
            raise UsageError("no training takes its steps so")
        if saved.kept:
            self.keeper.check(saved.kept)

    def carry(self, saved: Saved) -> None:
        """Let them know what those of an earlier process knew."""
        history = saved.facts.record.history
        for probe in history:
            self.sentinel.look(probe)
        kept = next(((probe, saved.kept) for probe in history if probe.step == saved.facts.kept_step), None)
        self.keeper.carry(history[-1] if history else None, kept, overfitted=self.sentinel.overfitted)
        self.account.carry(saved.facts.entries)


def _prepared(bench: Bench, journal: Journal, observer: Observer) -> tuple[Training, Watchers]:
    """Return the training, warmed up and not begun, and those who look at it."""
    reset_peak_memory(bench.device)
    observer.stage("warming up")
    ctx = bench.context()
    account = _warm_up(bench, ctx)
    journal.note(memory={**journal.record.memory, **_remembered(ctx, bench.device, observer)})
    del ctx  # the training's own takes the same room
    with bench.clock.phase("warmup"), isolated_randomness(bench.spec.seed, bench.device), fast_kernels(bench.spec):
        training, peak = bench.training(), PeakMemory(bench.device)
        journal.note(engine=prepare(training, account.cost.updates, bench.spec, peak))
    return training, Watchers(account, Goal(bench.spec), Sentinel(), Keeper(bench.model, bench.spec), peak)


def _conclude(bench: Bench, training: Training, journal: Journal, keeper: Keeper, stopped_by: StoppedBy) -> None:
    """Say how the training ended, and save the weights that are to be scored."""
    if stopped_by == "diverged":
        journal.note(events=[*journal.record.events, _divergence(training.pulse())])
    else:
        if training.average is not None:
            with bench.clock.phase("train"):  # a model is not trained before it has its statistics
                training.average.put_on(training.loader)
        if stopped_by == "time":
            journal.note(events=[*journal.record.events, *_missed_budget(bench, training, journal.record.history[-1])])
        _keep_weights(bench, journal, keeper)
    # Last: whoever finds a record that says how training ended may rely on the weights beside it.
    journal.note(budget=journal.record.budget.model_copy(update={"stopped_by": stopped_by}))


def _goes_on(training: Training, watchers: Watchers, saved: Saved, observer: Observer) -> bool:
    """Put the training into the state, if it is one of such a training, and say which it is."""
    try:
        watchers.check(saved)
        restore(training, saved.training)
    except UsageError as error:
        observer.remark(f"cannot go on from step {saved.steps}: {error}")
        return False
    watchers.carry(saved)
    observer.remark(f"goes on from step {saved.steps}, after {saved.train_seconds:.1f} s of training")
    return True


def _train(
    bench: Bench, training: Training, watchers: Watchers, journal: Journal, observer: Observer, saver: Saver
) -> StoppedBy:
    """Run the training, and settle its account however it ends."""
    account, peak = watchers.account, watchers.peak

    def watch(pulse: Pulse) -> None:
        account.watch(pulse)
        observer.training(pulse, pulse.steps * bench.spec.batch_size / max(pulse.train_seconds, 1e-9))

    def end_epoch(pulse: Pulse) -> Enough | None:
        measuring = evaluation_memory_explained(bench.spec)
        with account.energy.paused(), peak.paused(), measuring, training.scored_weights():
            probe = _probe(bench, pulse, watchers.goal.probes)
            overfitted = watchers.sentinel.look(probe)
            watchers.keeper.look(probe, overfitted=overfitted)
        observer.probed(probe)
        journal.note_often(history=[*journal.record.history, probe], **account.effort(training))
        if overfitted and bench.spec.on_overfitting != "continue":
            return "overfitting"
        return "target" if watchers.goal.reached(probe) else None

    try:
        with fast_kernels(bench.spec), account.energy.on():
            return training.run(watch, end_epoch, saver.after_batch)
    finally:  # an interrupted or failed run has its account settled too
        events = [*journal.record.events, *account.events(), *watchers.sentinel.events]
        memory = {**journal.record.memory, **named_peaks(peak.found, "training")}
        journal.note(**account.settled(training), events=events, target=watchers.goal.info, memory=memory)


def _keep_weights(bench: Bench, journal: Journal, keeper: Keeper) -> None:
    """Save the weights that are to be scored, and the last ones beside them where these are others."""
    chosen = keeper.choose()
    with bench.clock.phase("checkpoint"):
        if chosen is not None:
            _save(bench, journal, "last-weights", LAST_FILE, weights_of(bench.model))
            bench.model.load_state_dict(chosen[1])
        _save(bench, journal, "weights", FILE, weights_of(bench.model))
    journal.note(selection=chosen[0] if chosen is not None else keeper.last())


def _save(bench: Bench, journal: Journal, name: str, file: str, weights: Weights) -> None:
    sha256 = save_weights(weights, journal.artefact(file), {"id": bench.spec.id, "model": bench.spec.model})
    journal.keep(name, journal.artefact(file), sha256)


def _remembered(ctx: Context, device: torch.device, observer: Observer) -> dict[str, int]:
    """Say how much the method remembers of single images, and return it for the record: nothing, for most."""
    tensors = [buffer for buffer in ctx.buffers.values() if isinstance(buffer, Tensor)]  # an own method may do worse
    memory = [buffer for buffer in tensors if buffer.shape[:1] == (ctx.num_train,)]
    size = sum(buffer.nbytes for buffer in memory)
    if size:
        kinds = ", ".join(sorted({str(buffer.dtype).removeprefix("torch.") for buffer in memory}))
        each = f"{size / ctx.num_train / 2**10:,.1f} KiB of each of {ctx.num_train:,} training images"
        observer.remark(f"remembers {each}: {size / 2**20:,.1f} MiB on {device.type} ({kinds})")
    return {"remembered_images": size} if size else {}


def _warm_up(bench: Bench, ctx: Context) -> Account:
    """Run one batch without stepping, which pays for lazy initialisation and counts its cost; leave no trace.

    The cost is the model's own: an engine that computes the same with more or fewer operations is not credited.
    """
    kernels, randomness = fast_kernels(bench.spec), isolated_randomness(bench.spec.seed, bench.device)
    with bench.clock.phase("warmup"), kernels, randomness, counted_flops() as flops:
        cost = count_passes(bench.model, bench.method, bench.loader.batch(0), ctx)
    return Account(bench, cost, flops.total)


def _probe(bench: Bench, pulse: Pulse, names: Sequence[str]) -> Probe:
    exam = bench.exam_on(bench.dataset.x_val, bench.dataset.y_val)

    def look(name: str) -> Score:
        score = exam.sit(name, bench.model, lambda _: None).score
        return Score(correct=score.correct, total=score.total)

    return Probe(
        epoch=pulse.epoch,
        step=pulse.steps,
        train_seconds=pulse.train_seconds,
        lr=pulse.lr,
        loss=pulse.loss,
        scores={name: look(name) for name in names},
    )


def _missed_budget(bench: Bench, training: Training, last: Probe) -> Iterator[Event]:
    """Yield the event that a budget of time was missed by more than a trifle, as batches are long beside it."""
    budget, spent = bench.spec.train_seconds or 0.0, bench.clock.seconds("train")
    if abs(spent - budget) > _TRIFLE * budget:
        each = f"a batch takes {spent / training.batches:.2g} s"
        detail = f"trained for {spent:.3g} s where {budget:.3g} s were the budget: {each}"
        yield Event(kind="missed-budget", step=last.step, epoch=last.epoch, train_seconds=spent, detail=detail)


def _divergence(pulse: Pulse) -> Event:
    return Event(
        kind="diverged",
        step=pulse.steps,
        epoch=pulse.epoch,
        train_seconds=pulse.train_seconds,
        detail="the loss or a weight is no longer finite; noticed at this step",
    )
