"""Whether a captured batch trains as an eager one does, tried before it is trusted."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from fatbench.data.loader import Plan
from fatbench.rng import rng_state, set_rng_state
from fatbench.training.engine.capture import CapturedBatch, Work

_TOLERANCE = {"fp32": 0.02, "bf16": 0.05}  # of how far training moves: replays do the same operations as eager batches
_AGAIN = 3.0  # times as far apart as eager trials, whose kernels need not add in the same order
_BUFFER = "the method's "
_BUFFER_AGAIN = 10.0  # a method may remember signs, of which a few turn
_EAGER_TRIALS = 4  # at most, before a difference is the graph's and not chance's

State = dict[str, Tensor]


def graph_mismatch(
    captured: CapturedBatch,
    work: Work,
    plans: Sequence[Plan],
    pace: tuple[float, float],
    state: Callable[[], State],
    *,
    precision: str,
    num_train: int,
) -> str:
    """Return what differs between captured and eager batches, or "".

    Both take the same batches from the same state of weights, buffers and generators. Where they end apart, eager
    batches are tried again, for kernels that do not repeat themselves. State and generators are left as the last trial
    leaves them: whoever calls restores them. Two copies of the state are held, of what a method remembers of single
    images only the rows of these batches.

    Args:
        work: the eager batch that it was captured from.
        pace: progress and learning rate of their steps; a rate of 0 would show nothing.
    """
    trials = _Trials(plans, state, num_train)
    rates = torch.tensor([pace] * captured.updates, device=trials.device)

    def eager(plan: Plan) -> None:
        work(plan, rates)

    trials.run(eager)
    usual = _copied(trials.seen())
    groups = _groups(state())
    again = {what: _BUFFER_AGAIN if what.startswith(_BUFFER) else _AGAIN for what in groups}
    moved = _distances(trials.start, usual, groups, finite=True)
    trials.run(lambda plan: captured.replay(plan, [pace] * captured.updates))
    apart, noise = _distances(trials.seen(), usual, groups), dict.fromkeys(groups, 0.0)
    for _ in range(_EAGER_TRIALS):
        trials.run(eager)
        noise = {what: max(noise[what], new) for what, new in _distances(trials.seen(), usual, groups).items()}
        bounds = {what: max(_TOLERANCE[precision] * moved[what], again[what] * noise[what]) for what in groups}
        worst = next((what for what in groups if not apart[what] <= bounds[what]), None)
        if worst is None:
            return ""
        if noise[worst] == 0:  # eager batches do repeat themselves
            break
    assert worst is not None
    ends = f"end {apart[worst]:.2g} from where eager ones do, having moved by {moved[worst]:.2g}"
    return f"captured and eager batches diverge: {worst} {ends}"


class _Trials:
    """The same batches from the same state, in one way or another."""

    def __init__(self, plans: Sequence[Plan], state: Callable[[], State], num_train: int) -> None:
        self._plans, self._state, self._num_train = plans, state, num_train
        self.device = plans[0].rows.device
        self._rows = torch.cat([plan.rows for plan in plans])
        self.start, self._drawn = _copied(self.seen()), rng_state(self.device)

    def seen(self) -> State:
        """What is compared, as it is now."""
        found = {name: tensor.detach() for name, tensor in self._state().items()}
        return {name: one[self._rows] if self._is_of_images(name, one) else one for name, one in found.items()}

    def run(self, batch: Callable[[Plan], None]) -> None:
        """Go back to the start and train."""
        set_rng_state(self._drawn, self.device)
        for name, tensor in self._state().items():
            if name not in self.start:
                tensor.detach().zero_()
            elif self._is_of_images(name, tensor):
                tensor.detach().index_copy_(0, self._rows, self.start[name])
            else:
                tensor.detach().copy_(self.start[name])
        for number, plan in enumerate(self._plans):
            self._state()["ctx.step"].fill_(number)
            batch(plan)

    def _is_of_images(self, name: str, tensor: Tensor) -> bool:
        return name.startswith("ctx.buffers") and tensor.shape[:1] == (self._num_train,)


def _copied(state: State) -> State:
    return {name: tensor.clone() for name, tensor in state.items()}


def _groups(state: State) -> dict[str, list[str]]:
    """The names of the tensors that are compared, by what they are; a method's buffers each by itself."""
    groups: dict[str, list[str]] = {}
    for name, tensor in state.items():
        if name.startswith("ctx.buffers "):
            what = f"{_BUFFER}'{name.removeprefix('ctx.buffers ')}'"
        elif name.startswith(("ctx.", "rate ")):
            continue
        elif name == "loss":
            what = "the losses"
        elif not tensor.is_floating_point():
            what = "counts"
        elif tensor.requires_grad:
            what = "weights"
        else:
            what = "momenta" if name.startswith("optimizer") else "statistics and averages"
        groups.setdefault(what, []).append(name)
    return groups


def _distances(state: State, usual: State, groups: dict[str, list[str]], *, finite: bool = False) -> dict[str, float]:
    """Return by group how far the states are apart; what `state` lacks counts as zeros.

    That is the Euclidean distance of numbers with a fraction, and how many of the others are unequal.

    Args:
        finite: leave out what is infinite or not a number, as memory that is not filled yet.
    """

    def square(name: str) -> Tensor:
        theirs = usual[name]
        mine = state.get(name, torch.zeros_like(theirs))
        if not mine.is_floating_point():
            return (mine != theirs).sum().double()
        same = mine == theirs
        if name.startswith("ctx.buffers "):  # where a method may mark what is not filled yet
            same |= mine.isnan() & theirs.isnan()
        apart = (mine - theirs).masked_fill(same, 0.0).double()
        return (apart.nan_to_num(0.0, 0.0, 0.0) if finite else apart).square().sum()

    found = {}
    for what, names in groups.items():
        total = torch.stack([square(name) for name in names]).sum()
        found[what] = float(total.sqrt() if usual[names[0]].is_floating_point() else total)
    return found
