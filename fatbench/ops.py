"""The idioms that adversarial-training papers share. All input gradients of fatbench are taken here."""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from fatbench.errors import UsageError

_weights_constant: ContextVar[bool] = ContextVar("weights_constant", default=False)
_replay: ContextVar["AttackReplay | None"] = ContextVar("tape", default=None)


def input_gradient(objective: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
    """Return the gradient of the scalar objective(z) at z, of z's shape; parameters' gradients stay untouched.

    z is made a leaf, so whatever clamp or projection built it is not differentiated through. Weight gradients are
    not computed: autograd prunes what no requested input needs.
    """
    gradient, _ = input_gradient_with(lambda leaf: (objective(leaf), leaf), z)
    return gradient


def differentiable_input_gradient(objective: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
    """As `input_gradient`, but as a function of the weights: a loss made of it trains them, by a backward pass twice.

    It is part of the loss, not of an attack: it is computed anew wherever the loss is.
    """
    leaf = z.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(objective(leaf), leaf, create_graph=True)
    return gradient


def input_gradient_with(objective: Callable[[Tensor], tuple[Tensor, Tensor]], z: Tensor) -> tuple[Tensor, Tensor]:
    """As `input_gradient`, for an objective that also returns a tensor worth keeping (say, its logits), detached."""
    replay = _replay.get()
    if replay is not None and replay.replaying:
        found: tuple[Tensor, Tensor] = replay.next()
        return found
    leaf = z.detach().requires_grad_()
    before = _weights_constant.set(True)
    try:
        with torch.enable_grad():
            value, kept = objective(leaf)
            (gradient,) = torch.autograd.grad(value, leaf)
    finally:
        _weights_constant.reset(before)
    found = gradient, kept.detach()
    if replay is not None:
        replay.record(found)
    return found


def shared_input_gradient(objective: Callable[[Tensor], tuple[Tensor, Tensor]], z: Tensor) -> tuple[Tensor, Tensor]:
    """As `input_gradient_with`, but the tensor worth keeping keeps its graph: one forward for attack and loss.

    The loss made of it must be differentiated before the weights change, and leaves its own gradient in z.grad if z is
    a leaf that requires one. On a played tape only the gradient is what it was; the tensor is computed anew, for the
    weights as they are.
    """
    replay = _replay.get()
    leaf = z if z.is_leaf and z.requires_grad else z.detach().requires_grad_()
    value, kept = objective(leaf)
    if replay is not None and replay.replaying:
        recorded: Tensor = replay.next()
        return recorded, kept
    (gradient,) = torch.autograd.grad(value, leaf, retain_graph=True)
    if replay is not None:
        replay.record(gradient)
    return gradient, kept


class AttackReplay:
    """What an attack has found out about a model, so that the same attack can be made again without asking it."""

    def __init__(self, get_state: Callable[[], Any], set_state: Callable[[Any], None]) -> None:
        """Take note first; `replay` makes an end of that.

        Args:
            get_state: returns the state of the random generators, from which the objective may have drawn.
            set_state: restores such a state.
        """
        self._get_state, self._set_state = get_state, set_state
        self._found: deque[tuple[Any, Any]] = deque()
        self._before, self.replaying = get_state(), False

    def record(self, found: Any) -> None:
        """Take note of what was found, and of what chance has become by that."""
        self._found.append((found, self._get_state()))

    def replay(self) -> None:
        """From now on, from the beginning: return what was found."""
        self._set_state(self._before)
        self.replaying = True

    def next(self) -> Any:
        """Return what was found next."""
        found, get_state = self._found.popleft()
        self._set_state(get_state)
        return found


@contextmanager
def replaying_attacks(replay: AttackReplay) -> Iterator[None]:
    """Record the input gradients taken inside on `replay`, or take them from it if it is played; not across a yield."""
    before = _replay.set(replay)
    try:
        yield
    finally:
        _replay.reset(before)


def in_input_gradient() -> bool:
    """Whether an input gradient is being taken: what runs now is an attack, and no part of a loss that trains."""
    return _weights_constant.get()


def weights_constant() -> bool:
    """Whether nobody wants gradients of weights now: an input gradient is being taken, or none at all is recorded.

    A model may then answer from copies of its weights that carry no graph, which is how the fast engine folds batch
    norm; like torch's grad mode, it is a property of the running thread.
    """
    return _weights_constant.get() or not torch.is_grad_enabled()


def kl(p_logits: Tensor, q_logits: Tensor) -> Tensor:
    """Return KL(softmax(p_logits) || softmax(q_logits)) of each row, (B,); differentiable in both arguments."""
    log_p, log_q = F.log_softmax(p_logits, dim=-1), F.log_softmax(q_logits, dim=-1)
    return F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(-1)


def smoothing_leaving(mass: float, classes: int) -> float:
    """Return the label smoothing, as torch defines it, that leaves the probability `mass` to the true class.

    torch spreads its share over all classes, the true one among them; papers that name a factor mean this mass.

    Raises:
        UsageError: it is no more than each other class gets: such labels would teach the wrong class.
    """
    if mass * classes <= 1:
        raise UsageError(
            f"a true class's probability of {mass:g} is no more than the other {classes - 1} get: "
            f"choose one above {1 / classes:.3g} by --label-smoothing or the method's --set true_mass"
        )
    return (1.0 - mass) * classes / (classes - 1)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put the model in eval mode (batch norm uses its running statistics), then every module back as it was.

    Never hold it across a yield: whoever runs between the two halves of a generator must find the model as it left it.
    """
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def repeating_statistics(model: nn.Module, wanted: bool) -> Iterator[Callable[[], None]]:
    """Yield a function that moves batch norm's running statistics again, as the one forward inside moves them.

    That is all that a second forward of the same images in train mode would do. If not `wanted`, it does nothing.

    Raises:
        UsageError: a batch norm has no momentum; the second time its average would move by less.
    """
    norms = [one for one in model.modules() if wanted and isinstance(one, _BatchNorm) and one.training]
    tracked = [(buffer, norm.momentum) for norm in norms for buffer in norm.buffers(recurse=False)]
    before, moved = [buffer.clone() for buffer, _ in tracked], list[Tensor]()

    def repeat() -> None:
        for (buffer, momentum), was, by in zip(tracked, before, moved, strict=True):
            if momentum is None:
                raise UsageError("batch norm with momentum=None counts no batch twice: give it a momentum")
            if buffer.is_floating_point():
                # Unseen by autograd, as in the forward: the way back is through the batch's own statistics.
                buffer.data.lerp_(was, momentum).add_(by)
            else:
                buffer.add_(by)

    yield repeat
    moved += [buffer - was for (buffer, _), was in zip(tracked, before, strict=True)]
