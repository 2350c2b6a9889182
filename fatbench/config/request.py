"""What a user asks for, on the command line or in Python, before it becomes specs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fatbench.config.parsing import EVERY_EPOCH, CheckpointInterval
from fatbench.config.spec import EnginePart

UNIFIED, OFFICIAL = "unified", "official"
DEFAULT_OUTPUT = Path("results")


@dataclass(frozen=True)
class Request:
    """The runs that a user asks for."""

    methods: Sequence[str] = ()
    preset: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)  # by a preset's keys
    hyper: Sequence[str] = ()  # NAME=VALUE, or METHOD.NAME=VALUE for one method among several
    seeds: str = "0"
    eval_samples: str | None = None  # a number, "all", or None for the defaults
    recipe: str = UNIFIED
    require: Sequence[EnginePart] = ()  # parts of the fast engine that must be in force: it is the default then


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How to run a spec, whatever it says: nothing that is computed depends on it. See `fatbench.runner.run`."""

    output: Path = DEFAULT_OUTPUT  # the folder of records
    data_dir: Path | None = None
    download: bool = False  # a missing dataset
    force: bool = False  # run again what is stored
    resume: bool = False  # an interrupted run, from its checkpoint
    checkpoint_every: CheckpointInterval = EVERY_EPOCH
    require: Sequence[EnginePart] = ()  # parts of the fast engine that must be in force: otherwise nothing is trained
    calibration_seconds: float = 5.0  # to measure the device's peak, once per process, for MFU; 0: none
