"""Side effects: modes, weights, gradients and the batch are the trainer's, and a method leaves them alone."""

from typing import Any

import torch
from torch import Tensor, nn

from fatbench.conformance.report import Verdict, failed, ok
from fatbench.conformance.toy_problem import BATCHES, Case, batches

_SETTINGS = ("training", "momentum", "eps", "track_running_stats", "p")  # of batch norm and dropout


def keeps_modes(case: Case) -> Verdict:
    """Every module is in its own mode at every yield and at the end, and a frozen batch norm's statistics stay."""
    model = case.problem.model().double()
    frozen = next(module for module in model.modules() if isinstance(module, nn.BatchNorm2d)).eval()
    before, statistics = _modes(model), {key: value.clone() for key, value in frozen.named_buffers()}

    def moved(when: str) -> str:
        found = _modes(model)
        name = next((name for name in before if found.get(name) != before[name]), None)
        remedy = "use `with evaluating(model):`, never across a yield"
        return "" if name is None else f"{name} is in another mode {when}: {remedy}"

    for _ in case.losses(model):
        wrong = moved("at a yield")
        if wrong:
            return failed(wrong)
    wrong = moved("at the end of a batch")
    if not wrong and any(not torch.equal(value, statistics[key]) for key, value in frozen.named_buffers()):
        wrong = "it changes the statistics of a frozen batch norm: put back the modes that there were, not train()"
    return failed(wrong) if wrong else ok("modules keep their modes, frozen batch norm its statistics")


def _modes(model: nn.Module) -> dict[str, list[Any]]:
    return {
        f"{name} ({type(module).__name__})": [getattr(module, setting, None) for setting in _SETTINGS]
        for name, module in model.named_modules()
    }


def keeps_weights(case: Case) -> Verdict:
    """Weights and their gradients are the trainer's alone."""
    model, ctx = case.problem.model().double(), case.problem.context()
    start = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    if case.description.touches_data:
        return failed("it uses .data, by which weights change unseen: say `with torch.no_grad():` and copy_() instead")
    for batch in batches(case.problem, ctx):
        for loss in case.method(model, batch, ctx):
            if any(weight.grad is not None for weight in model.parameters()):
                return failed("it leaves gradients in the weights: take the attack's by ops.input_gradient")
            loss.backward()  # type: ignore[no-untyped-call]
            model.zero_grad()
        wrong = _changed(model, start)
        if wrong:
            return failed(wrong)
    return ok("neither weights nor their gradients are touched")


def _changed(model: nn.Module, start: dict[str, Tensor]) -> str:
    for name, weight in model.named_parameters():
        if weight.grad is not None:
            return "it leaves gradients in the weights after the last yield"
        if not weight.requires_grad:
            return f"{name} does not require gradients any more: the trainer could not train it"
        if not torch.equal(weight, start[name]):
            return f"it changes {name}: yield a loss, the trainer takes the step"
    return ""


def keeps_batch(case: Case) -> Verdict:
    """The batch is as it was."""
    problem, model, ctx = case.problem, case.problem.model().double(), case.problem.context()
    for batch, was in zip(batches(problem, ctx), batches(problem, problem.context()), strict=True):
        for loss in case.method(model, batch, ctx):
            loss.backward()  # type: ignore[no-untyped-call]
        names = [name for name in batch._fields if not torch.equal(getattr(batch, name), getattr(was, name))]
        if names:
            return failed(f"it changes batch.{names[0]} in place: work on a copy")
        if batch.x.requires_grad:
            return failed("it makes batch.x require gradients: work on a detached copy, or by ops.input_gradient")
    return ok("images, labels and rows are left as they are")


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
