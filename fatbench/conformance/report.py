"""What the checks of a method found, for tables and machines. No torch here."""

from dataclasses import dataclass
from functools import partial
from typing import Literal

Status = Literal["ok", "declared", "unknown", "failed", "skipped"]


@dataclass(frozen=True)
class Verdict:
    """What one check says."""

    status: Status
    detail: str = ""


@dataclass(frozen=True)
class Finding:
    """What one check says of a method.

    "declared": not the rule, but as its author says; "unknown": nothing to hold it against; "skipped": another check
    failed, without which it means nothing.
    """

    check: str
    status: Status
    detail: str


@dataclass(frozen=True)
class Facts:
    """What a method costs and can do, as counted at its defaults in batches of 128 colour images of 10 classes."""

    title: str
    norms: tuple[str, ...]
    forward: float  # passes through the network per image and optimiser step
    input_backward: float
    weight_backward: float
    batch_norm_updates: float  # per optimiser step
    updates: int  # optimiser steps that a batch is worth
    memory: int  # bytes that are kept for each training image, 3x32x32 with a frame of 4 pixels to crop it from
    heeds_smoothing: bool  # --label-smoothing
    exceptions: dict[str, str]  # declared ones by name, each with its reason; REACH with its number

    @property
    def units(self) -> float:
        """All passes together; standard training's are 3."""
        return self.forward + self.input_backward + self.weight_backward


@dataclass(frozen=True)
class Report:
    """All that a look at a method found."""

    method: str
    findings: tuple[Finding, ...]
    facts: Facts | None  # None: it does not run

    @property
    def failed(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.status == "failed"]


ok = partial(Verdict, "ok")  # as it must be
failed = partial(Verdict, "failed")  # it is not; the detail says what is wrong, and the remedy
declared = partial(Verdict, "declared")  # not the rule, but as declared
unknown = partial(Verdict, "unknown")  # there is nothing to hold it against
