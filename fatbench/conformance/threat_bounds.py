"""Threat bounds: images that the model sees lie in ball and box, or where the method declares."""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from fatbench.conformance.report import Verdict, declared, failed, ok
from fatbench.conformance.toy_problem import Case
from fatbench.methods import Description
from fatbench.threat import Ball

_ROUNDING = 1e-9  # of float64


@dataclass
class _Shown:
    """What the model was shown, in attacks and in losses that train."""

    strayed: float = 0.0  # furthest from the image, in eps, in an attack
    attack_outside: float = 0.0  # furthest outside of [0, 1], in an attack
    reached: float = 0.0  # the same two, in a loss
    trained_outside: float = 0.0
    calls: list[tuple[Tensor, Tensor]] = field(default_factory=list)  # images and logits since the last loss

    def watch(self, model: nn.Module) -> None:
        model.register_forward_hook(lambda _, given, logits: self.calls.append((given[0].detach().clone(), logits)))

    def sort(self, loss: Tensor, x: Tensor, ball: Ball) -> None:
        """Take the calls up to `loss` in."""
        nodes = _graph_of(loss)
        for images, logits in self.calls:
            away = _furthest(images, x, ball)
            outside = max(float(-images.min()), float(images.max()) - 1, 0.0)
            if logits.grad_fn in nodes:
                self.reached, self.trained_outside = max(self.reached, away), max(self.trained_outside, outside)
            else:
                self.strayed, self.attack_outside = max(self.strayed, away), max(self.attack_outside, outside)
        self.calls.clear()


def stays(case: Case) -> Verdict:
    """The model sees nothing beyond ball and box, unless that is declared; and what is declared happens."""
    shown = _Shown()
    for variant in case.variants():  # every value of its choices
        model, ctx = case.problem.model().double(), case.problem.context()
        shown.watch(model)
        for batch, loss in case.losses(model, ctx, variant):
            shown.sort(loss, batch.x, ctx.ball)
    description = case.description
    wrong = _undeclared(description, shown) or _untrue(description, shown)
    if wrong:
        return failed(wrong)
    exceptions = [f"trains up to {description.reach:g} eps away"] if description.reach > 1 else []
    exceptions += [f"trains outside the box: {description.trains_outside}"] if description.trains_outside else []
    exceptions += [f"attack: {description.leaves_box}"] if description.leaves_box else []
    return declared("; ".join(exceptions)) if exceptions else ok(f"at most {shown.reached:.3g} eps away, in [0, 1]")


def _undeclared(description: Description, shown: _Shown) -> str:
    if shown.reached > description.reach + _ROUNDING:
        away = f"trains on images {shown.reached:.3g} eps away"
        return f"{away}: project them, or declare REACH = {shown.reached:.3g}"
    if shown.trained_outside > 0 and not description.trains_outside:
        return f"trains on pixels {shown.trained_outside:.3g} outside [0, 1]: project them, or declare TRAINS_OUTSIDE"
    if _strays(description, shown) and not description.leaves_box:
        where = (
            f"{shown.strayed:.3g} eps away"
            if not shown.attack_outside
            else f"{shown.attack_outside:.3g} outside [0, 1]"
        )
        return (
            f"its attack shows the model pixels {where}: ctx.ball.project them, or declare LEAVES_BOX with the reason"
        )
    return ""


def _untrue(description: Description, shown: _Shown) -> str:
    """What is declared and does not happen: it would excuse a mistake to come."""
    if description.reach > 1 and shown.reached <= 1 + _ROUNDING:
        return f"declares REACH = {description.reach:g}, but trains within {shown.reached:.3g} eps: leave it out"
    if description.trains_outside and not shown.trained_outside:
        return "declares TRAINS_OUTSIDE, but trains on no pixel outside [0, 1]: leave it out"
    if description.leaves_box and not _strays(description, shown):
        return "declares LEAVES_BOX, but its attack leaves neither ball nor box: leave it out"
    return ""


def _strays(description: Description, shown: _Shown) -> bool:
    return shown.attack_outside > 0 or shown.strayed > max(1.0, description.reach) + _ROUNDING


def _furthest(images: Tensor, x: Tensor, ball: Ball) -> float:
    """How far, in eps, the images are from x. Several forwards may share a call; of others, the nearest x counts."""
    if len(images) % len(x) == 0:
        parts = [ball.distance(part, x) for part in torch.split(images, len(x))]
    else:
        parts = [torch.stack([ball.distance(image.expand_as(x), x).min() for image in images])]
    return max(float(part.max()) for part in parts) / ball.eps


def _graph_of(loss: Tensor) -> set[object]:
    """The autograd nodes that lead to the loss."""
    found: set[object] = set()
    queue: list[torch.autograd.graph.Node | None] = [loss.grad_fn]
    while queue:
        node = queue.pop()
        if node is not None and node not in found:
            found.add(node)
            queue += [parent for parent, _ in node.next_functions]
    return found
