"""The sections, in order of worth."""

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.gpu.section import Section


@dataclass(frozen=True)
class Plan:
    """When a section runs, and for how long."""

    module: str  # of benchmarks.gpu; imported in the section's own process only
    seconds: float  # after which it begins nothing new
    stall: float = 60.0  # seconds without a new row after which its process is killed, and what it was at fails
    needs_data: bool = False


PLANS = {
    # the first command of docs/performance.md
    "environment": Plan("environment", 15),
    "gpu_tests": Plan("gpu_tests", 90, stall=90),
    "speed": Plan("speed", 120),
    "eager": Plan("speed", 45),
    "naive": Plan("speed", 70),
    "attacks": Plan("attacks", 30),
    "kernels": Plan("kernels", 20),
    # the second
    "training": Plan("training", 220, stall=150, needs_data=True),
    "scoring": Plan("training", 260, stall=300, needs_data=True),
    "autoattack": Plan("autoattack", 120, stall=120, needs_data=True),
    # what is left
    "compiled": Plan("speed", 90, stall=120),
    "ablation": Plan("speed", 60),
    "seeds": Plan("training", 150, stall=150, needs_data=True),
}


def function_of(name: str) -> Callable[[Section], None]:
    """Return what measures a section's rows."""
    from importlib import import_module

    found: Callable[[Section], None] = getattr(import_module(f"benchmarks.gpu.{PLANS[name].module}"), name)
    return found
