"""The state of a training between two batches, as tensors by name; restored elsewhere it continues bit for bit."""

from collections.abc import Mapping

import torch
from torch import Tensor

from fatbench.errors import UsageError
from fatbench.rng import rng_state, set_rng_state
from fatbench.training.loop import Training

_MODEL, _BUFFER, _SLOT, _AVERAGE, _GENERATOR = "model ", "buffer ", "optimizer ", "average ", "generator "
_COUNTERS, _LOSS = "counters", "loss"
_MOST = 10**12  # steps: what is computed from them stays within 64 bits


def training_state(training: Training) -> dict[str, Tensor]:
    """Return copies, in main memory, of what the training is now: between two batches, so no method is half-way.

    Weights, the model's buffers, the optimiser's and the method's state, counters, the loss since the last epoch ended,
    and all random generators. Order and augmentation of the images follow from the number of the batch.
    """
    found = {f"{_MODEL}{name}": tensor for name, tensor in _model(training).items()}
    found |= {f"{_BUFFER}{name}": tensor for name, tensor in training.ctx.buffers.items()}
    found |= {f"{_SLOT}{name}": tensor for name, tensor in _slots(training).items()}
    found |= {f"{_AVERAGE}{name}": tensor for name, tensor in _average(training).items()}
    found |= {f"{_GENERATOR}{name}": tensor for name, tensor in rng_state(training.ctx.step.device).items()}
    found |= {_COUNTERS: torch.tensor(training.counters), _LOSS: training.loss_sum}
    return {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in found.items()}


@torch.no_grad()
def restore(training: Training, state: dict[str, Tensor]) -> None:
    """Restore what `training_state` returned into a training that was set up and prepared alike: all of it or nothing.

    Tensors are changed in place: a captured graph, or copies of weights, may know them. A state may be anybody's, so
    all of it is looked at before anything is changed.

    Raises:
        UsageError: it is no checkpoint of such a training.
    """
    device = training.ctx.step.device
    buffers, slots = _part(state, _BUFFER), _part(state, _SLOT)
    try:
        check_alike(_model(training), _part(state, _MODEL))
        _check_buffers(training, buffers)
        _check_slots(training, slots)
        check_alike(_average(training), _part(state, _AVERAGE))
        check_alike({_LOSS: training.loss_sum}, {_LOSS: state[_LOSS]})
        counters = _counters(training, state)
        set_rng_state(_part(state, _GENERATOR), device)
    except (KeyError, IndexError, ValueError, TypeError, OverflowError, RuntimeError) as error:
        raise UsageError(f"the checkpoint is of another training ({error})") from None
    _fill(_model(training), _part(state, _MODEL))
    for name, value in buffers.items():
        training.ctx.buffers.setdefault(name, torch.empty_like(value, device=device))
    _fill(training.ctx.buffers, buffers)
    _fill_slots(training, slots)
    _fill(_average(training), _part(state, _AVERAGE))
    training.loss_sum.copy_(state[_LOSS])
    training.counters = counters


def steps_of(state: dict[str, Tensor]) -> int:
    """Return the optimiser steps that the training had taken, or 0 where the state does not tell."""
    counters = state.get(_COUNTERS)
    return 0 if counters is None or counters.shape != (3,) or counters.dtype != torch.int64 else int(counters[0])


def check_alike(mine: Mapping[str, Tensor], stored: Mapping[str, Tensor]) -> None:
    """Check that both have tensors of the same names, shapes and types.

    Raises:
        ValueError: they do not.
    """
    if mine.keys() != stored.keys():
        raise ValueError(f"'{min(mine.keys() ^ stored.keys())}' is on one side only")
    for name, tensor in mine.items():
        if tensor.shape != stored[name].shape or tensor.dtype != stored[name].dtype:
            raise ValueError(f"'{name}' has another shape or type")


def _part(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


def _model(training: Training) -> dict[str, Tensor]:
    """Parameters and buffers, those too that a checkpoint of weights leaves out; what is shared is there once."""
    return {**dict(training.model.named_parameters()), **dict(training.model.named_buffers())}


def _average(training: Training) -> dict[str, Tensor]:
    return {} if training.average is None else training.average.state()


def _parameters(training: Training) -> list[Tensor]:
    return [parameter for group in training.optimizer.param_groups for parameter in group["params"]]


def _slots(training: Training) -> dict[str, Tensor]:
    """The optimiser's tensors, momentum among them, and its learning rates where these are tensors."""
    known = training.optimizer.state
    found = {
        f"{index} {name}": value
        for index, parameter in enumerate(_parameters(training))
        if parameter in known
        for name, value in known[parameter].items()
        if isinstance(value, Tensor)
    }
    groups = enumerate(training.optimizer.param_groups)
    return found | {f"{index} group lr": group["lr"] for index, group in groups if isinstance(group["lr"], Tensor)}


def _counters(training: Training, state: dict[str, Tensor]) -> tuple[int, int, int]:
    """Return steps, batches, and steps since the last epoch ended."""
    if state[_COUNTERS].shape != (3,) or state[_COUNTERS].dtype != torch.int64:
        raise ValueError(f"'{_COUNTERS}' has another shape or type")
    steps, batches, loss_steps = state[_COUNTERS].tolist()
    most = _MOST if training.budget.steps is None else training.budget.steps
    if not (0 <= batches <= steps <= most and 0 <= loss_steps <= steps):
        raise ValueError(f"no training of at most {most} steps comes to {steps} in {batches} batches")
    return steps, batches, loss_steps


def _check_buffers(training: Training, stored: dict[str, Tensor]) -> None:
    """What the method has made by now, in warming up, has to be there; it may make more later."""
    mine = training.ctx.buffers
    check_alike(mine, {name: value for name, value in stored.items() if name in mine})


def _check_slots(training: Training, stored: dict[str, Tensor]) -> None:
    """The optimiser makes its slots with the first step: those of a training not yet begun are not there."""
    parameters, mine = _parameters(training), _slots(training)
    check_alike(mine, {key: value for key, value in stored.items() if key in mine})
    for key in stored.keys() - mine.keys():
        index, _ = key.split(" ", 1)
        parameter = parameters[int(index)] if index.isdecimal() and int(index) < len(parameters) else None
        if parameter is None or stored[key].shape != parameter.shape:
            raise ValueError(f"'{key}' is of no weight of it")


def _fill(mine: dict[str, Tensor], stored: dict[str, Tensor]) -> None:
    for name, tensor in mine.items():
        tensor.copy_(stored[name])


def _fill_slots(training: Training, stored: dict[str, Tensor]) -> None:
    parameters = _parameters(training)
    for key, value in stored.items():
        index, name = key.split(" ", 1)
        if name != "group lr":
            parameter = parameters[int(index)]
            empty = torch.empty_like(parameter, dtype=value.dtype, requires_grad=False)
            training.optimizer.state[parameter].setdefault(name, empty)
    _fill(_slots(training), stored)
