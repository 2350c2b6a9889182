"""Record: the versioned JSON result of one run. No torch here.

Records come from strangers: they are validated on reading, and nothing in them is ever executed.
"""

import json
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from fatbench.atomic import write_atomically
from fatbench.errors import UsageError
from fatbench.spec import Hyper, RunSpec, first_problem

SCHEMA = 1  # layout of the file; older files are upgraded on reading
PROTOCOL = 1  # comparability: raised whenever an unchanged method would score differently

Status = Literal["running", "finished", "diverged", "interrupted", "failed"]
_LARGEST = 2**63 - 1  # what a table's 64-bit column holds
Count = Annotated[int, Field(ge=0, le=_LARGEST)]
Seconds = Annotated[float, Field(ge=0, le=1e12)]
Fact = bool | int | float | str


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False, populate_by_name=True)


class Score(_Part):
    """How many of `total` images were classified correctly (under attack, in the worst case)."""

    correct: Count
    total: Annotated[int, Field(gt=0, le=_LARGEST)]
    seconds: Seconds = 0.0
    attack: dict[str, Fact] = {}  # what exactly was run: version, steps, seed, batch size
    survivors: dict[str, Count] = {}  # AutoAttack: images still right after each of its parts
    warnings: list[str] = []

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.correct > self.total:
            raise ValueError(f"{self.correct} correct out of {self.total}")
        if max(self.survivors.values(), default=0) > self.total:
            raise ValueError(f"more survivors than the {self.total} images attacked")
        return self

    @property
    def accuracy(self) -> float:
        return self.correct / self.total


class Budget(_Part):
    """How long the run was to last, and what ended it."""

    epochs: int | None
    train_seconds: float | None
    stopped_by: Literal["epochs", "time", "diverged", "interrupted", "failed"] | None = None


class Timing(_Part):
    """Seconds by phase, device-synchronised at the boundaries; phases do not overlap. `history` has epochs."""

    setup: Seconds = 0.0
    warmup: Seconds = 0.0
    train: Seconds = 0.0
    probe: Seconds = 0.0
    checkpoint: Seconds = 0.0
    evaluation: Seconds = 0.0


class Passes(_Part):
    """Samples sent through the network in the whole training, by direction."""

    forward: Count = 0
    input_backward: Count = 0
    weight_backward: Count = 0


class Probe(_Part):
    """A look at the model on validation images, off the clock."""

    epoch: Count
    step: Count
    train_seconds: Seconds
    lr: float
    loss: float | None  # mean training loss since the probe before; None when it is not finite
    scores: dict[str, Score]


class Event(_Part):
    """Something that a reader of the result must know."""

    kind: str
    step: Count
    epoch: Count
    train_seconds: Seconds
    detail: str = ""


class MethodInfo(_Part):
    """The method as it was run, its source included so that the result explains itself."""

    name: str
    hyper: Hyper
    sha256: str
    source: str


class DataInfo(_Part):
    """The images that the run used."""

    name: str
    train: Count
    validation: Count
    test: Count
    shape: tuple[int, int, int]
    classes: Count
    subset: bool
    sha256: str


class Environment(_Part):
    """The machine and software of the run; `device` is what decides whether times compare."""

    device: str
    cpu: str
    cpu_threads: Count
    platform: str
    python: str
    torch: str
    cuda: str | None
    cudnn: str | None
    driver: str | None
    tf32: bool
    fatbench: str
    commit: str | None
    dirty: bool | None


class Record(_Part):
    """One run: what was asked, what happened, on what machine."""

    schema_version: int = Field(default=SCHEMA, alias="schema", ge=SCHEMA, le=SCHEMA)
    protocol: Count = PROTOCOL
    id: str = Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$", max_length=255)
    status: Status
    created: str  # UTC, ISO 8601
    spec: RunSpec
    method: MethodInfo
    budget: Budget
    data: DataInfo | None = None
    parameters: Count = 0
    steps: Count = 0  # optimiser steps taken
    data_passes: Annotated[float, Field(ge=0)] = 0.0  # over the training set, less what its last batch leaves over
    passes: Passes = Passes()
    timing: Timing = Timing()
    memory: dict[str, Count] = {}  # bytes at the peak
    history: list[Probe] = []
    scores: dict[str, Score] = {}
    events: list[Event] = []
    environment: Environment | None = None
    artefacts: dict[str, str] = {}  # name -> path beside the record
    error: str | None = None

    @property
    def finished(self) -> bool:
        """Whether this is a result: it ran to its end, or diverged, which is a result too."""
        return self.status in ("finished", "diverged")


def save(record: Record, folder: Path, name: str | None = None) -> Path:
    """Write `record` to folder/<id>.json (or `name`), wholly or not at all, and return the path.

    Raises:
        ResourceError: the folder cannot be written.
    """
    path = folder / (name or f"{record.id}.json")
    write_atomically(path, (record.model_dump_json(by_alias=True, indent=1) + "\n").encode())
    return path


def load(path: Path) -> Record:
    """Return the record in the file `path`.

    Raises:
        UsageError: the file is missing, unreadable, or not a fatbench record; the line says which.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from None
    try:
        return Record.model_validate_json(content)
    except ValidationError as error:
        raise UsageError(f"{path} {_what_is_wrong(content, error)}") from None


def _what_is_wrong(content: bytes, error: ValidationError) -> str:
    """Return why `content` is no record, in the order in which a person would look."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return "is not a fatbench record: it is not valid JSON"
    if not isinstance(found, dict) or "schema" not in found or "spec" not in found:
        return "is not a fatbench record: it has no 'schema' and 'spec'"
    schema = found["schema"]
    if isinstance(schema, int) and schema > SCHEMA:
        return f"has schema {schema}; this fatbench reads up to {SCHEMA}: upgrade fatbench"
    return f"is not a valid record: {first_problem(error)}"
