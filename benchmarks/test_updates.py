"""Time of one batch of every method on the embedded data's model, with its passes. Run by `make bench`."""

from pathlib import Path

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from fatbench import methods
from fatbench.cli.resolve import Request, resolve
from fatbench.runner.bench import set_up
from fatbench.training.clock import synchronize
from fatbench.training.passes import count_passes

torch.set_num_threads(1)


@pytest.mark.parametrize("name", methods.names())
def test_batch(benchmark: BenchmarkFixture, name: str) -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    endless = {"epochs": 10**6}  # no batch may be cut short by the budget's end
    (spec,) = resolve(Request([name], flags=endless), device=device)
    bench = set_up(spec, data_dir=Path(), download=False)
    cost = count_passes(bench.model, bench.method, bench.loader.batch(0), bench.context())
    passes = cost.passes.model_dump()
    benchmark.extra_info.update(
        {key: samples / spec.batch_size / cost.updates for key, samples in passes.items()},
        updates_per_batch=cost.updates,
        batch_size=spec.batch_size,
        model=spec.model,
    )
    training = bench.training()

    def one_batch() -> None:
        training.step_through_batch()
        synchronize(bench.device)

    benchmark.pedantic(one_batch, warmup_rounds=3, rounds=20)
