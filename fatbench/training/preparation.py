"""Warming an engine up before the clock starts: compile, choose kernels, capture; and say what came of it."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import get_args

import torch
from torch import Tensor

from fatbench.config.spec import EnginePart, TrainSpec
from fatbench.environment import PeakMemory, is_out_of_memory
from fatbench.errors import InvalidRunError, one_line
from fatbench.record.parts import EngineInfo
from fatbench.training.clock import synchronize
from fatbench.training.engine.capture import CannotCaptureError, CapturedBatch, undone
from fatbench.training.engine.fast_model import FastModel
from fatbench.training.engine.verification import graph_mismatch
from fatbench.training.loop import Training

_TRIED = 2  # batches, captured and eager, before a graph is trusted ...
_TRIED_RATE = 0.1  # ... at this fraction of the peak learning rate: the first steps at all of it might diverge


def prepare(training: Training, updates: int, train: TrainSpec, peak: PeakMemory | None = None) -> EngineInfo:
    """Make `training` ready to run at full speed, and return what is in force and why the rest is not.

    Batches are really trained on, and undone. Random generators are the caller's to protect.

    Args:
        peak: of memory; begins anew here, and leaves out what is tried.

    Raises:
        InvalidRunError: --compile was asked for and the network cannot be compiled.
    """
    model, device = training.model, training.ctx.step.device
    if not isinstance(model, FastModel):
        return EngineInfo(name="reference", precision=train.precision)
    notes: dict[str, str] = {}
    peak = peak or PeakMemory(device)
    plan, pace = training.loader.plan(0), torch.zeros(updates, 2, device=device)
    compile_seconds = capture_seconds = 0.0
    with undone(training.state):
        model.settle(training.loader.gather(plan).x)
        if model.in_force["compile"]:
            compile_seconds = _compile(lambda: training.work(plan, pace), device)
        training.work(plan, pace)  # kernels are chosen and memory is found before the clock starts
        peak.restart()  # without the workspaces that cuDNN's search tried
        obstacle = _obstacle(training, train)
        if not obstacle and "graph" not in train.without:
            before = training.state()  # with what the first batch has brought into being
            training.work(plan, pace)
            obstacle = _replaced(before, training.state())
        if not obstacle and "graph" not in train.without:
            started = time.perf_counter()
            try:
                training.captured = CapturedBatch(training.work, plan, updates, changed=training.state)
                with peak.paused():
                    obstacle = _verified(training, train)
            except CannotCaptureError as error:
                obstacle = str(error)
            capture_seconds = time.perf_counter() - started if training.captured else 0.0
        if obstacle and "graph" not in train.without:
            notes["graph"] = obstacle
    training.optimizer.zero_grad()
    return EngineInfo(
        name="fast",
        precision=train.precision,
        in_force=_in_force(training, model, train),
        notes=model.notes | notes,
        compile_seconds=compile_seconds,
        capture_seconds=capture_seconds,
    )


def _verified(training: Training, train: TrainSpec) -> str:
    """Keep the captured batch if it trains as eager ones do, else drop it and return why."""
    assert training.captured is not None
    plans = [training.loader.plan(number) for number in range(min(_TRIED, len(training.loader)))]
    try:
        mismatch = graph_mismatch(
            training.captured,
            training.work,
            plans,
            (0.5, _TRIED_RATE * training.peak_lr),
            training.state,
            precision=train.precision,
            num_train=training.ctx.num_train,
        )
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        mismatch = "no memory is left to try it"
    if mismatch:
        training.captured = None
    return mismatch


@contextmanager
def fast_kernels(train: TrainSpec) -> Iterator[None]:
    """Let cuDNN try its algorithms and keep the fastest for each shape, where the fast engine may; then as before.

    From the first convolution on: what cuDNN chose for a shape without trying, it keeps.
    """
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = train.engine == "fast" and "cudnn-benchmark" not in train.without
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


def _compile(work: Callable[[], None], device: torch.device) -> float:
    """Do `work` for the first time and again, and return the seconds by which the first took longer.

    Compiled code of earlier runs in this process is dropped before: torch runs whatever is over its limit of versions
    uncompiled, and says so only in a log.
    """
    torch._dynamo.reset()
    seconds = []
    for _ in range(2):
        started = time.perf_counter()
        try:
            work()
        except torch._dynamo.exc.TorchDynamoException as error:
            raise InvalidRunError(
                f"--compile: this network cannot be compiled as a whole: {one_line(str(error))}"
            ) from error
        synchronize(device)
        seconds.append(time.perf_counter() - started)
    return max(seconds[0] - seconds[1], 0.0)


def _obstacle(training: Training, train: TrainSpec) -> str:
    """Return why a batch cannot be one CUDA graph, as far as that is known without trying, or ""."""
    if training.ctx.step.device.type != "cuda":
        return "CUDA graphs need a GPU"
    if "fused-sgd" in train.without:
        return "the other optimiser's learning rate is a number, which a graph would freeze"
    return training.method.description.not_capturable


def _replaced(before: dict[str, Tensor], after: dict[str, Tensor]) -> str:
    """Return what is wrong where another tensor has come in the place of one that a graph would write to, or ""."""
    moved = next((name for name, tensor in before.items() if after.get(name) is not tensor), None)
    return "" if moved is None else f"'{moved}' is replaced in every batch, not changed in place"


def _in_force(training: Training, model: FastModel, train: TrainSpec) -> dict[str, bool]:
    on_gpu = training.ctx.step.device.type == "cuda"
    here = {
        "fused-sgd": "fused-sgd" not in train.without,
        "graph": training.captured is not None,
        "cudnn-benchmark": on_gpu and "cudnn-benchmark" not in train.without,
    }
    return dict.fromkeys(get_args(EnginePart), False) | model.in_force | here  # a part that nobody answers for is off
