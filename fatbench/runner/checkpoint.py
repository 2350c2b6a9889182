"""Checkpoint: a run in the middle of its training, as one file with a seal that shows damage."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import safetensors.torch
from pydantic import Field, ValidationError
from torch import Tensor

from fatbench.config.spec import first_problem
from fatbench.errors import UsageError
from fatbench.io.atomic import write_atomically
from fatbench.io.safe_read import read_file
from fatbench.models import LARGEST
from fatbench.record import Record
from fatbench.record.parts import Count, Part, Seconds
from fatbench.record.paths import CHECKPOINT, PREVIOUS_CHECKPOINT
from fatbench.runner.cost import CostState
from fatbench.runner.model_selection import StateDict
from fatbench.training.state import steps_of
from fatbench.training.weights_file import tensors_in

_TRAINING, _KEPT = "training ", "kept "
_SEAL = b'"sha256":"'  # in the header; a quotation mark inside a value would be escaped
_UNSEALED = b"0" * 64


class CheckpointInfo(Part):
    """A checkpoint's metadata: all of it that is no tensor."""

    layout: Literal[1] = 1
    record: Record  # as it stood: spec, sources, data, machine and history
    seconds: dict[str, Annotated[float, Field(ge=0, le=1e10)]]  # by phase; centuries
    kept_step: Count | None  # of the probe that saw the kept weights
    cost: CostState = Field(alias="entries")


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """The state of a run between two batches."""

    facts: CheckpointInfo
    training: dict[str, Tensor]  # see `fatbench.training.state`
    kept: StateDict  # that the run may go back to; none where `facts.kept_step` is None
    file: Path | None = None  # that it was read from

    @property
    def steps(self) -> int:
        """Optimiser steps that had been taken."""
        return steps_of(self.training)

    @property
    def train_seconds(self) -> Seconds:
        """Seconds of training that had been spent."""
        return self.facts.seconds.get("train", 0.0)


def write_checkpoint(checkpoint: Checkpoint, path: Path) -> None:
    """Write the checkpoint to `path`, atomically; what was there before goes to PREVIOUS_CHECKPOINT beside it.

    Raises:
        ResourceError: it cannot be written; what was there is still there.
    """
    tensors = {f"{_TRAINING}{name}": tensor for name, tensor in checkpoint.training.items()}
    tensors |= {f"{_KEPT}{name}": tensor.contiguous() for name, tensor in checkpoint.kept.items()}
    facts = checkpoint.facts.model_dump_json(by_alias=True)
    content = safetensors.torch.save(tensors, {"facts": facts, "sha256": _UNSEALED.decode()})
    content = content.replace(_SEAL + _UNSEALED, _SEAL + hashlib.sha256(content).hexdigest().encode(), 1)
    write_atomically(path, content, keep=path.with_name(path.name.removesuffix(CHECKPOINT) + PREVIOUS_CHECKPOINT))


def read_checkpoint(path: Path) -> Checkpoint:
    """Return the checkpoint in the file `path`. Nothing in it is ever executed.

    Raises:
        UsageError: the file cannot be read, is cut short, or has been changed.
    """
    content = read_file(path, LARGEST)
    place = content.find(_SEAL) + len(_SEAL)
    seal = content[place : place + len(_UNSEALED)]
    unsealed = hashlib.sha256(content[:place])
    unsealed.update(_UNSEALED + content[place + len(_UNSEALED) :])
    if place < len(_SEAL) or unsealed.hexdigest().encode() != seal:
        raise UsageError(f"{path} is damaged: it is not as it was written")
    try:
        tensors, metadata = tensors_in(content)
        facts = CheckpointInfo.model_validate_json(metadata["facts"])
    except ValidationError as error:
        raise UsageError(f"{path} is not a checkpoint that this fatbench knows: {first_problem(error)}") from None
    except (KeyError, ValueError) as error:
        raise UsageError(f"{path} is not a checkpoint of a run ({error!s:.120})") from None
    return Checkpoint(facts, _part(tensors, _TRAINING), _part(tensors, _KEPT), path)


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
