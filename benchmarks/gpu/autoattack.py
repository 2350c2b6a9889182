"""AutoAttack on a trained model: the library itself, the exact engine and the fast one, on the same images."""

import time

import pyautoattack
import safetensors.torch
from torch import Tensor

from benchmarks.gpu.section import Section, rounded
from benchmarks.gpu.training import RECORDS, spec_for
from fatbench.config.spec import EvalEngine
from fatbench.data.loader import to_float
from fatbench.evaluation.autoattack import run_autoattack
from fatbench.evaluation.eval_mode import eval_mode, isolated_rng
from fatbench.runner.setup import set_up
from fatbench.training.clock import synchronize


def autoattack(section: Section) -> None:
    """Seconds of each engine on the first run of section `training` that is backward smoothing."""
    wanted = next(one for one in section.scale.runs if one.method == "bs-trades")
    spec = spec_for(section, wanted)
    weights = section.output / RECORDS / spec.id / "model.safetensors"
    if not weights.exists():
        section.rows.append("fast", error="no weights of bs-trades: run section training first")
        return
    context = set_up(spec, None, download=False)
    context.model.load_state_dict(safetensors.torch.load_file(weights, device=str(section.device)))
    rows = context.dataset.test_subset(section.scale.autoattack_images)
    x, y = to_float(context.dataset.x_test[rows]), context.dataset.y_test[rows]
    verdicts: dict[str, list[bool]] = {row["name"]: row["standing"] for row in section.rows.measured()}

    def by_the_library() -> Tensor:
        stock = pyautoattack.AutoAttack(context.model, norm="Linf", eps=context.ball.eps, seed=0, device=x.device)
        return stock.run_standard_evaluation(x, y, batch_size=len(x))[1].eq(y)

    def by(engine: EvalEngine) -> Tensor:
        return run_autoattack(
            context.model, x, y, context.ball, num_classes=context.dataset.num_classes, seed=0, batch_size=len(x),
            watch=lambda _: None, engine=engine,
        ).standing  # fmt: skip

    def measure(name: str) -> None:
        with eval_mode(context.model), isolated_rng(0, section.device):
            synchronize(section.device)
            started = time.perf_counter()
            standing = by_the_library() if name == "library" else by("fast" if name == "fast" else "exact")
            synchronize(section.device)
            seconds = time.perf_counter() - started
        verdicts[name] = standing.cpu().tolist()
        other = verdicts.get("fast")
        agreeing = None if other is None else sum(map(bool.__eq__, verdicts[name], other))
        values = rounded(seconds=seconds)
        section.rows.append(name, **values, images=len(y), standing=verdicts[name], agreeing_with_fast=agreeing)

    section.each(("fast", "exact", "library"), measure)
