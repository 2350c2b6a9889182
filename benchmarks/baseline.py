"""Baselines: what methods took in units of the calibration kernel, when all was well."""

import platform
import re
from datetime import UTC, datetime
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fatbench.config.spec import first_problem
from fatbench.environment import describe_environment
from fatbench.errors import UsageError

PROTOCOL = 1  # of the calibration kernel and of what is measured: baselines of another one say nothing
FOLDER = Path(__file__).parent


class Ratio(BaseModel):
    """An update's time, as a multiple of the kernel's."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    value: float = Field(gt=0)
    noise: float = Field(ge=0)  # its relative standard error


class Baseline(BaseModel):
    """The ratios of all lanes, and where they were measured."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    protocol: int
    kind: str
    hardware: str
    torch: str
    created: str  # UTC, ISO 8601
    commit: str | None
    lanes: dict[str, Ratio]

    def same_machine_as(self, other: "Baseline") -> bool:
        """Whether processor and torch are the same, so that ratios carry over exactly."""
        return (self.hardware, self.torch) == (other.hardware, other.torch)


def kind_of(device: torch.device) -> str:
    """Return the kind of machine, of which one baseline is kept: "x86_64", or the GPU's name as "nvidia-h200"."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return re.sub(r"[^a-z0-9_]+", "-", name.lower()).strip("-")


def made_here(device: torch.device, lanes: dict[str, Ratio]) -> Baseline:
    """Return the baseline of this machine and this commit that holds `lanes`."""
    environment = describe_environment(device)
    # Virtual machines name processors vaguely; which instructions torch finds tells some of them apart.
    instructions = "" if device.type == "cuda" else f", {torch.backends.cpu.get_cpu_capability()}"
    return Baseline(
        protocol=PROTOCOL,
        kind=kind_of(device),
        hardware=f"{environment.device}{instructions}",
        torch=environment.torch,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        commit=environment.commit,
        lanes=lanes,
    )


def path_for(device: torch.device) -> Path:
    """Return where the baseline for this kind of machine is kept."""
    return FOLDER / f"baseline-{kind_of(device)}.json"


def read(path: Path) -> Baseline:
    """Return the baseline in the file `path`.

    Raises:
        UsageError: it cannot be read, or is no baseline.
    """
    try:
        return Baseline.model_validate_json(path.read_text())
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    except ValidationError as error:
        raise UsageError(f"{path} is no baseline: {first_problem(error)}") from None
