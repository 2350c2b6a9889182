"""All that a training is between two batches, as tensors by name: put into another process, it goes on bit for bit."""

import torch
from torch import Tensor

from fatbench.errors import UsageError
from fatbench.training.generators import generators, set_generators
from fatbench.training.loop import Training

_MODEL, _BUFFER, _SLOT, _AVERAGE, _GENERATOR = "model ", "buffer ", "optimizer ", "average ", "generator "
_COUNTERS, _LOSS = "counters", "loss"


def state_of(training: Training) -> dict[str, Tensor]:
    """Return copies, in main memory, of what the training is now: between two batches, so no method is half-way.

    Weights, the model's buffers, the optimiser's and the method's state, counters, the loss since the last epoch ended,
    and all random generators. Order and augmentation of the images follow from the number of the batch.
    """
    found = {f"{_MODEL}{name}": tensor for name, tensor in _model(training).items()}
    found |= {f"{_BUFFER}{name}": tensor for name, tensor in training.ctx.buffers.items()}
    found |= {f"{_SLOT}{name}": tensor for name, tensor in _slots(training).items()}
    found |= {f"{_AVERAGE}{name}": tensor for name, tensor in _average(training).items()}
    found |= {f"{_GENERATOR}{name}": tensor for name, tensor in generators(training.ctx.step.device).items()}
    found |= {_COUNTERS: torch.tensor(training.counters), _LOSS: training.loss_sum}
    return {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in found.items()}


@torch.no_grad()
def restore(training: Training, state: dict[str, Tensor]) -> None:
    """Make a training that is set up alike, and prepared, what `state_of` returned of another.

    Tensors are changed in place: a captured graph, or copies of weights, may know them.

    Raises:
        UsageError: it is no state of such a training.
    """
    try:
        _fill(_model(training), _part(state, _MODEL))
        _fill_buffers(training, _part(state, _BUFFER))
        _fill_slots(training, _part(state, _SLOT))
        _fill(_average(training), _part(state, _AVERAGE))
        training.loss_sum.copy_(state[_LOSS])
        steps, batches, loss_steps = state[_COUNTERS].tolist()
        training.counters = (steps, batches, loss_steps)
        set_generators(_part(state, _GENERATOR), training.ctx.step.device)
    except (KeyError, IndexError, ValueError, TypeError, OverflowError, RuntimeError) as error:
        raise UsageError(f"the state is of another training ({error}): without --resume it starts anew") from None


def steps_of(state: dict[str, Tensor]) -> int:
    """Return the optimiser steps that the training had taken, or 0 where the state does not tell."""
    counters = state.get(_COUNTERS)
    return 0 if counters is None or counters.shape != (3,) else int(counters[0])


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


def _fill(mine: dict[str, Tensor], stored: dict[str, Tensor]) -> None:
    if mine.keys() != stored.keys():
        raise ValueError(f"'{min(mine.keys() ^ stored.keys())}' is on one side only")
    for name, tensor in mine.items():
        if tensor.shape != stored[name].shape or tensor.dtype != stored[name].dtype:
            raise ValueError(f"'{name}' has another shape or type")
        tensor.copy_(stored[name])


def _fill_buffers(training: Training, stored: dict[str, Tensor]) -> None:
    buffers, device = training.ctx.buffers, training.ctx.step.device
    for name, value in stored.items():
        if name not in buffers:
            buffers[name] = value.to(device, copy=True)
    _fill(buffers, stored)


def _fill_slots(training: Training, stored: dict[str, Tensor]) -> None:
    """As the optimiser creates its slots with the first step, those of a training not yet begun are made here."""
    parameters = _parameters(training)
    for key, value in stored.items():
        index, name = key.split(" ", 1)
        if name != "group lr":
            parameter = parameters[int(index)]
            like = parameter if value.shape == parameter.shape else value.to(parameter.device)
            room = torch.empty_like(like, dtype=value.dtype, requires_grad=False)
            training.optimizer.state[parameter].setdefault(name, room)
    _fill(_slots(training), stored)
