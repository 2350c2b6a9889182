"""Option: what the command line, presets and panels say about a field of the spec. Declared once, beside the field."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Section(StrEnum):
    """The headings under which `--help` lists options, in this order."""

    WHAT = "What to train"
    METHOD = "Method"
    OPTIMISATION = "Optimisation"
    DATA = "Data"
    EVALUATION = "Evaluation"
    ENGINE = "Engine and machine"
    OUTPUT = "Output"


@dataclass(frozen=True)
class Option:
    """One option, as metadata of a field of `RunSpec`, `TrainSpec` or `EvalSpec`.

    A field that has one is an option of `fatbench run`, a key of presets, a part of what names a row of
    `fatbench compare`, and, in `TrainSpec`, of the run's panel where it differs from its default.
    """

    help: str
    panel: Section
    flags: tuple[str, ...] = ()  # ("--on-co",), where it is not the field's own name
    key: str = ""  # in presets, where it is not the field's own name
    toml_type: Any = None  # what a preset holds; None: the field's own type
    cli_type: Any = None  # what the shell parses; None: the field's own type
    metavar: str | None = None
