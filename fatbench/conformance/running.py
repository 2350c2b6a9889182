"""Running: does the method come to an end, and are its losses fit for a step of the optimiser."""

import torch
from torch import Tensor

from fatbench.conformance.case import Case
from fatbench.conformance.report import Verdict, failed, ok
from fatbench.conformance.toy_problem import BATCHES


def runs(case: Case) -> Verdict:
    """It yields losses for every batch, and comes to an end, with every value of its choices."""
    numbers = []
    for variant in case.variants():
        ctx, counts = case.problem.context(), dict.fromkeys(range(BATCHES), 0)
        for _, loss in case.losses(case.problem.model().double(), ctx, variant):
            wrong = _unfit(loss)
            if wrong:
                return failed(wrong)
            counts[int(ctx.step)] += 1
        empty = next((number for number, count in counts.items() if not count), None)
        if empty is not None:
            return failed(f"it yields no loss for batch {empty}: say 'yield loss' once per optimiser step")
        numbers.append(sum(counts.values()))
    return ok(f"{numbers[0]} losses of {BATCHES} batches")


def _unfit(loss: object) -> str:
    if not isinstance(loss, Tensor):
        return f"it yields {type(loss).__name__}, not a tensor: yield the loss itself"
    if loss.ndim:
        return f"it yields a tensor of shape {tuple(loss.shape)}: take the mean, a loss is a scalar"
    if not loss.requires_grad:
        return "it yields a loss without a graph: neither detach it nor make it under no_grad"
    return ""


def trains(case: Case) -> Verdict:
    """Every loss is finite, and has a gradient for every weight."""
    model = case.problem.model().double()
    names = [name for name, _ in model.named_parameters()]
    for number, (_, loss) in enumerate(case.losses(model)):
        if not bool(loss.isfinite()):
            return failed(
                f"loss number {number} is {loss.item():g}: look for a division by zero, a logarithm or a root"
            )
        reached = torch.autograd.grad(loss, list(model.parameters()), retain_graph=True, allow_unused=True)
        missed = [name for name, gradient in zip(names, reached, strict=True) if gradient is None]
        if missed:
            return failed(f"loss number {number} has no gradient for {missed[0]}: it would not be trained")
    return ok("finite, and they reach every weight")
