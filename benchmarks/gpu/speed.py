"""Milliseconds of an optimiser step: the fast engine, without its graph, compiled, and the authors' own loops."""

from collections.abc import Sequence
from typing import Any, get_args

from benchmarks import naive as loops
from benchmarks.gpu.prepared import prepared, setting, spec_of
from benchmarks.gpu.section import Section, rounded
from benchmarks.lanes import NaiveLane
from fatbench import methods
from fatbench.config.spec import EnginePart

CLAIM = ("bs-trades", "trades", "pgd-at", "fgsm-rs", "standard", "fast-trades", "free-at")
WITH_LOOP = ("fgsm-rs", "bs-trades", "trades", "pgd-at", "standard", "fast-trades", "free-at", "fgsm")


def speed(section: Section) -> None:
    """Every method on the fast engine in bf16, those of the claim first."""

    def measure(method: str) -> None:
        section.rows.append(method, **prepared(section, spec_of(section, method)).timed())

    section.each(dict.fromkeys([*CLAIM, *methods.names()]), measure)


def eager(section: Section) -> None:
    """The same without the CUDA graph."""

    def measure(method: str) -> None:
        section.rows.append(method, **prepared(section, spec_of(section, method, without=("graph",))).timed())

    section.each([*CLAIM, "grad-align"], measure)


def naive(section: Section) -> None:
    """The authors' loops with TensorFloat-32, which torch allows in convolutions by default."""
    precision = "tf32" if section.on_gpu else "fp32"

    def measure(method: str) -> None:
        loop = NaiveLane(setting(section), method, section.scale.device, precision)
        try:
            ms, spread = section.milliseconds(loop.elapsed, 1.5 * section.scale.block_seconds)
            values = rounded(ms_per_update=ms / loop.updates, spread=spread)
            section.rows.append(method, precision=precision, **values)
        finally:
            loop.close()

    section.each((one for one in WITH_LOOP if loops.exists(one)), measure)


def compiled(section: Section) -> None:
    """With torch.compile: backward smoothing, which the engine was tuned for, then TRADES and FGSM-RS."""
    _changed(
        section, {f"{method}, compiled": (method, {"compile": True}) for method in ("bs-trades", "trades", "fgsm-rs")}
    )


def ablation(section: Section) -> None:
    """Backward smoothing without each part of the engine, and at larger batches."""
    changes: list[dict[str, Any]] = [{"without": (toggle,)} for toggle in get_args(EnginePart) if toggle != "graph"]
    changes += [{"batch_size": size} for size in (256, 512)] if section.on_gpu else []
    changes += [{"precision": "fp32"}]
    named = {" ".join(f"{key} {_words(value)}" for key, value in one.items()): ("bs-trades", one) for one in changes}
    _changed(section, named)


def _words(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, Sequence) and not isinstance(value, str) else str(value)


def _changed(section: Section, plan: dict[str, tuple[str, dict[str, Any]]]) -> None:
    """Time every row of the plan: a method, and what is changed of its spec."""

    def measure(name: str) -> None:
        method, changes = plan[name]
        section.rows.append(name, **prepared(section, spec_of(section, method, **changes)).timed())

    section.each(plan, measure)
