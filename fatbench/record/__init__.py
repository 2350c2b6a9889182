"""Record: the versioned JSON result of one run. No torch here.

Records are untrusted input: they are validated on reading, and nothing in them is ever executed.
"""

import json
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError, field_validator

from fatbench.config.spec import RunSpec, first_problem
from fatbench.errors import UsageError
from fatbench.io.atomic import write_atomically
from fatbench.io.safe_read import read_file
from fatbench.record import parts

SCHEMA = 4  # layout of the file; older files are upgraded on reading
PROTOCOL = 1  # comparability: raised whenever an unchanged method would score differently

_LARGEST = 2**26  # bytes; thousands of epochs take a hundredth of that
Status = Literal["running", "finished", "diverged", "interrupted", "failed"]


class Record(parts.Part):
    """One run: what was asked, what happened, on what machine.

    What a schema added is None or empty where the one before did not measure it, so that an older file needs nothing
    but its new number.
    """

    schema_version: int = Field(default=SCHEMA, alias="schema", ge=1, le=SCHEMA)
    protocol: parts.Count = PROTOCOL
    id: str = Field(pattern=r"^[\w\p{N}\p{So}][\w\p{N}\p{So}.-]*$", max_length=255)
    status: Status
    created: str  # UTC, ISO 8601
    spec: RunSpec
    method: parts.MethodInfo
    budget: parts.Budget
    target: parts.TargetInfo | None = None  # since schema 2
    engine: parts.EngineInfo | None = None  # since schema 2
    data: parts.DataInfo | None = None
    parameters: parts.Count = 0
    model_notes: list[str] = Field(default_factory=list)  # how the network is used, where that is not obvious
    steps: parts.Count = 0  # optimiser steps taken
    data_passes: Annotated[float, Field(ge=0)] = 0.0  # over the training set, less what its last batch leaves over
    passes: parts.Passes = parts.Passes()
    timing: parts.Timing = parts.Timing()
    throughput: parts.Throughput | None = None  # since schema 2
    compute: parts.Compute | None = None  # since schema 2
    energy_joules: parts.Quantity | None = None  # of the GPU while it trained; since schema 2
    memory: dict[str, parts.Count] = Field(default_factory=dict)  # bytes at the peak
    history: list[parts.Probe] = Field(default_factory=list)
    scores: dict[str, parts.Score] = Field(default_factory=dict)
    events: list[parts.Event] = Field(default_factory=list)
    diagnostics: parts.Diagnostics | None = None  # since schema 3
    selection: parts.Selection | None = None  # since schema 3
    environment: parts.Environment | None = None
    artefacts: dict[str, str] = Field(default_factory=dict)  # name -> path beside the record
    digests: dict[str, str] = Field(default_factory=dict)  # name -> sha256 of that file, where it is known
    error: str | None = None

    @field_validator("schema_version")
    @classmethod
    def _upgraded(cls, _number: int) -> int:
        return SCHEMA

    @property
    def is_result(self) -> bool:
        """Whether this is a result: it ran to its end, or diverged, which is a result too."""
        return self.status in ("finished", "diverged")


def save(record: Record, folder: Path, name: str | None = None) -> Path:
    """Write `record` to folder/<id>.json (or `name`), wholly or not at all, and return the path.

    Raises:
        ResourceError: the folder cannot be written.
    """
    path = folder / (name or f"{record.id}.json")
    write_atomically(path, _text(record).encode())
    return path


def _text(record: Record) -> str:
    """The record as JSON, each probe on a line and without its defaults: of a long run they would be most of it."""
    head = record.model_dump_json(by_alias=True, indent=1, exclude={"history"}).removesuffix("\n}")
    probes = ",\n".join(f"  {probe.model_dump_json(exclude_defaults=True)}" for probe in record.history)
    return f'{head},\n "history": [\n{probes}\n ]\n}}\n'


def load(path: Path) -> Record:
    """Return the record in the file `path`.

    Raises:
        UsageError: the file is missing, unreadable, or not a fatbench record; the line says which.
    """
    content = read_file(path, _LARGEST)
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
