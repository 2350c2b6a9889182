"""Whether a captured batch trains as an eager one does, tried before it is trusted."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from fatbench.data.loader import Plan
from fatbench.training.engine.capture import CapturedBatch, Work
from fatbench.training.generators import generators, set_generators

_TOLERANCE = {"fp32": 0.02, "bf16": 0.05}  # of how far training moves: replays do the same operations as eager batches
_AGAIN = 3.0  # times as far apart as two eager trials, whose kernels need not add in the same order
_BUFFER = "the method's "
_BUFFER_AGAIN = 10.0  # a method may remember signs, of which a few turn

State = dict[str, Tensor]


def objection_to_graph(
    captured: CapturedBatch,
    work: Work,
    plans: Sequence[Plan],
    pace: tuple[float, float],
    state: Callable[[], State],
    precision: str,
    num_train: int,
) -> str:
    """Return what differs between captured and eager batches, or "".

    Both take the same batches from the same state of weights, buffers and generators. State and generators are left as
    the trial leaves them: whoever calls restores them. Two copies of the state are held at most, of what a method
    remembers of single images only the rows of these batches.

    Args:
        captured: the graph.
        work: the eager batch that it was recorded from.
        plans: of the batches, which differ.
        pace: progress and learning rate of their steps; a rate of 0 would show nothing.
        state: the tensors that a batch changes.
        precision: "fp32" or "bf16".
        num_train: images in the training set.
    """
    device = plans[0].rows.device
    rows, rates = torch.cat([plan.rows for plan in plans]), torch.tensor([pace] * captured.updates, device=device)

    def is_per_image(name: str, tensor: Tensor) -> bool:
        return name.startswith("ctx.buffers") and tensor.shape[:1] == (num_train,)

    def seen() -> State:
        found = {name: tensor.detach() for name, tensor in state().items()}
        return {name: tensor[rows] if is_per_image(name, tensor) else tensor for name, tensor in found.items()}

    start, drawn = _copied(seen()), generators(device)

    def train(batch: Callable[[Plan], None]) -> None:
        set_generators(drawn, device)
        for name, tensor in state().items():
            if name not in start:
                tensor.detach().zero_()
            elif is_per_image(name, tensor):
                tensor.detach().index_copy_(0, rows, start[name])
            else:
                tensor.detach().copy_(start[name])
        for number, plan in enumerate(plans):
            state()["ctx.step"].fill_(number)
            batch(plan)

    def eager(plan: Plan) -> None:
        work(plan, rates)

    train(eager)
    usual = _copied(seen())
    groups = _groups(usual)
    moved = _distances(start, usual, groups)
    train(eager)
    noise = _distances(seen(), usual, groups)
    train(lambda plan: captured.replay(plan, [pace] * captured.updates))
    apart = _distances(seen(), usual, groups)
    for what in groups:
        again = _BUFFER_AGAIN if what.startswith(_BUFFER) else _AGAIN
        if not apart[what] <= max(_TOLERANCE[precision] * moved[what], again * noise[what]):
            ends = f"end {apart[what]:.2g} from where eager ones do, having moved by {moved[what]:.2g}"
            return f"captured batches train otherwise: {what} {ends}"
    return ""


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
        else:
            what = "momenta" if name.startswith("optimizer") else "weights and statistics"
        groups.setdefault(what, []).append(name)
    return groups


def _distances(state: State, usual: State, groups: dict[str, list[str]]) -> dict[str, float]:
    """Return by group how far the states are apart; what `state` lacks counts as zeros.

    That is the Euclidean distance of numbers with a fraction, and how many of the others are unequal.
    """

    def square(name: str) -> Tensor:
        mine = state.get(name, torch.zeros_like(usual[name]))
        if not mine.is_floating_point():
            return (mine != usual[name]).sum().double()
        return (mine - usual[name]).double().square().sum()

    found = {}
    for what, names in groups.items():
        total = torch.stack([square(name) for name in names]).sum()
        found[what] = float(total.sqrt() if usual[names[0]].is_floating_point() else total)
    return found
