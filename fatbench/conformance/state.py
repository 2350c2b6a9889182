"""State between batches: nothing but `ctx.buffers`."""

import torch
from torch import Tensor

from fatbench.conformance.report import Verdict, failed, ok
from fatbench.conformance.toy_problem import BATCHES, Case, batches, losses
from fatbench.evaluation.eval_mode import seed_everything
from fatbench.training.state import restore, training_state

State = dict[str, Tensor]
_TWICE = 1e-12  # of a loss in float64, by rounding


def repeats(case: Case) -> Verdict:
    """The same seed gives the same training, bit for bit."""
    states = []
    for _ in range(2):
        seed_everything(3)
        training = case.problem.training(case.method)
        for _ in range(BATCHES):
            training.step_through_batch()
        states.append(training_state(training))
    other = _difference(*states)
    remedy = "draw random numbers with torch only, and keep nothing outside ctx.buffers"
    return failed(f"with the same seed '{other}' differs: {remedy}") if other else ok("bit for bit")


def resumes(case: Case) -> Verdict:
    """A training that is resumed in another process is bit-identical to an uninterrupted one."""
    seed_everything(3)
    whole = case.problem.training(case.method)
    whole.step_through_batch()
    kept = training_state(whole)
    for _ in range(BATCHES - 1):
        whole.step_through_batch()
    seed_everything(4)
    resumed = case.problem.training(case.again())
    restore(resumed, kept)
    for _ in range(BATCHES - 1):
        resumed.step_through_batch()
    other = _difference(training_state(whole), training_state(resumed))
    remedy = "whatever outlives a batch belongs into ctx.buffer(...)"
    return failed(f"a resumed training has another '{other}': {remedy}") if other else ok("bit for bit")


def _difference(one: State, other: State) -> str:
    """The name of a tensor in which the two differ, or ""; weights before what follows from them."""
    names = [*one, *(name for name in other if name not in one)]
    differs = (name for name in names if name not in one or name not in other or not _same(one[name], other[name]))
    return next(differs, "")


def _same(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.equal(one.nan_to_num(), other.nan_to_num())


def repeats_first_loss(case: Case) -> Verdict:
    """The first loss of a batch may be had twice, as --awp does with other weights."""
    model, ctx, method = case.problem.model().double(), case.problem.context(), case.method
    for batch in batches(case.problem, ctx):
        found, state = [], {key: value.clone() for key, value in model.state_dict().items()}
        for _ in range(2):
            seed_everything(5)
            model.load_state_dict(state)
            found.append(float(next(method(model, batch, ctx)).detach()))
        if abs(found[0] - found[1]) > _TWICE * abs(found[0]):
            what = f"a batch's first loss, asked for twice, is {found[0]:.6g} and then {found[1]:.6g}"
            return failed(f"{what}: change buffers after the yield")
        for loss in method(model, batch, ctx):
            loss.backward()  # type: ignore[no-untyped-call]
    return ok("buffers change after the yield")


def keeps_buffers_in_place(case: Case) -> Verdict:
    """Buffers are changed in place, have no graph, and are all there after the first batch."""
    model, ctx = case.problem.model().double(), case.problem.context()
    places: dict[str, tuple[int, torch.Size]] = {}
    for _ in losses(case.problem, case.method, model, ctx):
        found = {name: (buffer.data_ptr(), buffer.shape) for name, buffer in ctx.buffers.items()}
        graph = next((name for name, buffer in ctx.buffers.items() if buffer.requires_grad), None)
        if graph is not None:
            return failed(f"the buffer '{graph}' has a graph: store what is detached")
        moved = next((name for name in places if found.get(name) != places[name]), None)
        if moved is not None:
            return failed(f"the buffer '{moved}' is replaced: change it in place, by copy_() or [ids] =")
        late = next((name for name in found if name not in places and int(ctx.step)), None)
        if late is not None:
            return failed(
                f"the buffer '{late}' comes late: ask for every buffer in every batch, before the first yield"
            )
        places = found
    return ok(f"{len(places)} in place" if places else "none")
