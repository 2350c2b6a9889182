# ruff: noqa: E402 - a checkout need not be installed
"""Measure on a GPU every figure that docs/performance.md owes, and say of each target whether it is met.

    python scripts/gpu_check.py --output results/gpu --cifar10 FOLDER-OR-NPZ

Runs from a checkout with torch>=2.11, torchvision, numpy, Pillow, pydantic, typer, rich, pandas, safetensors, scipy and
scikit-learn; the section `tests` also wants pytest and hypothesis. AutoAttack is not run: pyautoattack is not needed.
`--cifar10` names an .npz file (x_train, y_train, x_test, y_test), or the folders that together hold train_00.webp ...,
test_00.webp ... (mosaics of 1,000 images, 40 columns of 32x32 tiles) and labels.npz (train, test).

Sections run in order of worth, each in a process of its own: one that fails or hangs takes no other down, and cuDNN,
which keeps the first plan that it finds for a shape, begins afresh. What the minutes cannot hold is skipped and named;
another call with `--only` and the same --output adds it. `--rehearse` is the same on a CPU, with next to nothing to do.

Commit what it writes: OUTPUT/gpu_check.json (rewritten after every section), OUTPUT/profile.txt, OUTPUT/records/*.json,
but not the folders of weights beside the records; then put its tables where docs/performance.md says "owed".
Exit code: 0 if every target that was measured is met and no section failed, else 1.
"""

import argparse
import gc
import json
import math
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, get_args

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity
from torch.profiler import profile as profiler

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from benchmarks.lanes import Lane, NaiveLane, Setting, cifar_shaped, digits, naive_precisions
from fatbench import methods
from fatbench.atomic import write_atomically
from fatbench.cli.resolve import Request, resolve
from fatbench.environment import describe_environment, peak_memory, reset_peak_memory
from fatbench.evaluation.measuring import isolated_randomness
from fatbench.metering.calibration import peak_flops
from fatbench.metering.flops import counted_flops
from fatbench.ops import evaluating, input_gradient
from fatbench.runner import run
from fatbench.runner.bench import Bench, set_up
from fatbench.spec import RunSpec, Toggle
from fatbench.training.clock import synchronize
from fatbench.training.engine.capture import record_cuda_graph
from fatbench.training.loop import Training
from fatbench.training.passes import count_passes
from fatbench.training.preparation import fast_kernels, prepare

SPEEDUP, MFU, RATIO, TRAIN_SECONDS, ACCURACY = 5.0, 0.30, (2.4, 2.9), 60.0, 0.42  # the targets
MFU_OF = ("standard", "fgsm-rs", "bs-trades", "trades")
TOLERANCE = {"fp32": 1e-3, "bf16": 2e-2, "compiled": 0.1}  # of how far training has moved; signs amplify rounding
COMPILED = ("bs-trades", "fgsm-rs")  # what is compiled, and what the parts of the engine are left out of
BLOCKS = 5
CIFAR, SCRATCH = "cifar10.npz", "found.json"  # in the working folder
Row = dict[str, Any]
Work = Callable[[], object]


@dataclass(frozen=True)
class Scale:
    """How much is measured."""

    device: str
    block_seconds: float
    peak_seconds: float
    batch_sizes: tuple[int, ...]  # the first is the published one
    epochs: tuple[int, int]  # of FGSM-RS, and of the longer methods
    samples: int  # test images
    attack: str


REAL = Scale("cuda", 0.5, 5.0, (128, 256, 512), (15, 10), 1000, "pgd-50-10")
REHEARSAL = Scale("cpu", 0.01, 0.1, (128, 256), (1, 1), 20, "pgd-2-1")


class Check:
    """One section at work: what it may use, and what it has found so far, which is on disk at once."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.scale = options, REHEARSAL if options.rehearse else REAL
        self.device = torch.device(options.device or self.scale.device)
        self.on_gpu = self.device.type == "cuda"
        self.found: Row = {"rows": [], "left_out": [], "error": None}
        self._deadline = time.monotonic() + 0.8 * options.seconds
        torch.zeros(1, device=self.device)  # a GPU is awake, then, and its memory can be asked for

    def row(self, **values: Any) -> None:
        self.found["rows"].append(values)
        self.save()

    def save(self) -> None:
        write_atomically(Path(SCRATCH), json.dumps(self.found).encode())

    def each(self, names: Iterable[str], measure: Callable[[str], None]) -> None:
        """Measure one by one while the section's time lasts; what fails is noted, and the next has its turn."""
        for name in names:
            if time.monotonic() > self._deadline:
                self.found["left_out"].append(name)
                continue
            gc.collect()
            reset_peak_memory(self.device)
            try:
                measure(name)
            except Exception:  # whatever it is, the others are worth their time
                self.found["error"] = f"{self.found['error'] or ''}{name}: {traceback.format_exc()}"
                self.save()

    def setting(self) -> Setting:
        """Return ResNet-18 on noise of CIFAR-10's shape, or for a rehearsal the small model on digits."""
        return digits() if self.options.rehearse else cifar_shaped(Path(), self.scale.batch_sizes[0])

    def spec(self, method: str, **changes: Any) -> RunSpec:
        return self.setting().spec(method, "fast bf16", str(self.device)).model_copy(update=changes)

    def per_update(self, lane: Lane) -> float:
        """Return the milliseconds of an optimiser step."""
        return milliseconds(lane.elapsed, self.scale.block_seconds) / lane.updates


@dataclass(frozen=True)
class Ready:
    """A training whose engine is prepared: a Lane."""

    spec: RunSpec
    bench: Bench
    training: Training
    updates: int  # optimiser steps of a batch
    flops: float  # of the model, per update
    engine: Row  # EngineInfo

    def elapsed(self, batches: int) -> float:
        with fast_kernels(self.spec):
            return seconds_of(self.training.step_through_batch, batches, self.bench.device)

    @property
    def graph(self) -> Row:
        return {"graphed": self.engine["in_force"].get("graph"), "note": "; ".join(self.engine["notes"].values())}


def ready(spec: RunSpec) -> Ready:
    """Return the training of `spec`, prepared. cuDNN may choose from the start on: it keeps what it chose first."""
    with fast_kernels(spec):
        bench = set_up(spec, None, download=False)
        training = bench.training()
        with isolated_randomness(spec.seed, bench.device):
            with counted_flops() as flops:
                cost = count_passes(bench.model, bench.method, bench.loader.batch(0), bench.context())
            engine = prepare(training, cost.updates, spec)
    return Ready(spec, bench, training, cost.updates, flops.total / cost.updates, engine.model_dump())


def seconds_of(work: Work, times: int, device: torch.device) -> float:
    """Do the work so many times, wait for the device, and return the seconds that it took."""
    synchronize(device)
    started = time.perf_counter()
    for _ in range(times):
        work()
    synchronize(device)
    return time.perf_counter() - started


def milliseconds(elapsed: Callable[[int], float], block_seconds: float) -> float:
    """Return the milliseconds of one of what `elapsed` repeats: the median of blocks, each waited for.

    It is warm after six: the workers of a script run up to four batches ahead.
    """
    elapsed(6)
    times = max(math.ceil(block_seconds / (elapsed(3) / 3)), 2)
    return 1e3 * median(elapsed(times) / times for _ in range(BLOCKS))


# ---- the sections


def environment(check: Check) -> None:
    """What machine this is, and the rate of its matrix products: bf16 for five seconds, which MFU is a fraction of."""
    for item, value in describe_environment(check.device).model_dump().items():
        check.row(item=item, value=value)
    for name, precision, share in (("bf16", "bf16", 1.0), ("tf32", "fp32", 0.4), ("fp32", "fp32", 0.4)):
        torch.backends.cudnn.allow_tf32 = name == "tf32"
        rate = peak_flops(check.device, precision, share * check.scale.peak_seconds)
        check.row(item=f"peak {name}, TFLOP/s", value=rate / 1e12)
    if check.on_gpu:
        asked = "clocks.sm,clocks.max.sm,clocks.mem,temperature.gpu,power.draw,power.limit"
        told = output_of(["nvidia-smi", f"--query-gpu={asked}", "--format=csv,noheader"])
        check.row(item=asked, value=told[0].strip())


def equality(check: Check) -> None:
    """Every method after three batches of digits: graphed == eager; beside it, eager again and the reference engine."""
    exact()

    def measure(method: str) -> None:
        for precision in ("fp32", "bf16"):
            graphed = short(method, precision, check)
            eager, plain = (graphed.model_copy(update=one) for one in ({"without": EAGER}, {"engine": "reference"}))
            start, end, _ = trained(eager)
            _, replayed, one = trained(graphed)
            apart = {"distance": distance(replayed, end, start), "again": distance(trained(eager)[1], end, start)}
            if precision == "fp32":
                apart["reference"] = distance(trained(plain)[1], end, start)
            check.row(method=method, precision=precision, **apart, **one.graph)

    check.each(methods.names(), measure)


def compiled(check: Check) -> None:
    """Compiled == eager for two methods after three batches of digits, in float32."""
    exact()

    def measure(method: str) -> None:
        spec = short(method, "fp32", check)
        start, end, _ = trained(spec.model_copy(update={"without": EAGER}))
        _, other, one = trained(spec.model_copy(update={"compile": True}))
        seconds = one.engine["compile_seconds"]
        check.row(method=method, distance=distance(other, end, start), compile_seconds=seconds, **one.graph)

    check.each(COMPILED, measure)


STEADY = ("cudnn-benchmark", "pad-stem")  # left out, because two runs may find different kernels the fastest
EAGER = (*STEADY, "graph")


def exact() -> None:
    """Let equal work give equal results in this process: no TensorFloat-32, and of cuDNN only what repeats itself."""
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.deterministic = True


def short(method: str, precision: str, check: Check) -> RunSpec:
    """Return a run of three epochs, in which the learning rate moves from the second batch on."""
    spec = digits().spec(method, f"fast {precision}", str(check.device))
    return spec.model_copy(update={"epochs": 3, "without": STEADY})


def trained(spec: RunSpec) -> tuple[list[Tensor], list[Tensor], Ready]:
    """Return the state before and after three batches of `spec`."""
    one = ready(spec)
    start = state_of(one.training)
    one.elapsed(3)
    return start, state_of(one.training), one


def state_of(training: Training) -> list[Tensor]:
    """Return copies of weights, batch-norm statistics and momentum, each as one vector."""
    momentum = [state["momentum_buffer"] for state in training.optimizer.state.values() if "momentum_buffer" in state]
    statistics = [buffer for name, buffer in training.model.named_buffers() if "running" in name]
    parts = (list(training.model.parameters()), statistics, momentum or [training.ctx.progress])
    return [torch.cat([one.detach().double().cpu().flatten() for one in part]) for part in parts]


def distance(one: Sequence[Tensor], other: Sequence[Tensor], start: Sequence[Tensor]) -> float:
    """Return how far `one` lies from `other`, relative to how far that lies from `start`: the part furthest off."""
    pairs = zip(one, other, start, strict=True)
    moved = [(a - b, b - s if s.shape == b.shape else b) for a, b, s in pairs]  # momentum begins as nothing
    return max(float(apart.norm() / way.norm()) for apart, way in moved)


def speed(check: Check) -> None:
    """Every method at full speed: ResNet-18, batch 128, bf16."""

    def measure(method: str) -> None:
        one = ready(check.spec(method))
        ms = check.per_update(one)
        check.row(
            method=method,
            ms_per_update=ms,
            images_per_second=1e3 * one.spec.batch_size / ms,
            tflop_per_update=one.flops / 1e12,
            tflop_per_second=one.flops / ms / 1e9,
            peak_bytes=peak_memory(check.device).get("allocated"),
            capture_seconds=one.engine["capture_seconds"],
            pad_stem=one.engine["in_force"]["pad-stem"],
            **one.graph,
        )

    check.each(dict.fromkeys([*MFU_OF, *methods.names()]), measure)


def naive(check: Check) -> None:
    """Every method's own script: float32 with TensorFloat-32, torch's default, and without; float16 if it has that."""
    lanes = [(method, one) for method in methods.names() for one in naive_precisions(method, check.device.type)]
    plan = {" ".join(lane): lane for lane in sorted(lanes, key=lambda lane: lane[0] not in MFU_OF)}

    def measure(name: str) -> None:
        method, precision = plan[name]
        script = NaiveLane(check.setting(), method, str(check.device), precision)
        try:
            check.row(method=method, precision=precision, ms_per_update=check.per_update(script))
        finally:
            script.close()

    check.each(plan, measure)


def training(check: Check, names: Sequence[str] = ("fgsm-rs",), *, longer: bool = False) -> None:
    """Real runs, their records kept: seconds of training, accuracy clean and attacked."""
    data: Row = {"dataset": "digits"} if check.options.rehearse else {"dataset": CIFAR, "model": "resnet18"}
    if not check.options.rehearse:
        unpack(check.options.cifar10)
    attack, epochs = "pgd-20" if longer else check.scale.attack, check.scale.epochs[longer]

    def measure(method: str) -> None:
        flags = data | {"epochs": epochs, "evaluate": ["clean", attack], "eval_batch_size": 1000}
        flags |= {"engine": "fast", "precision": "bf16"}
        request = Request([method], flags=flags, eval_samples=str(check.scale.samples))
        (spec,) = resolve(request, device=str(check.device))
        began, folder = time.perf_counter(), check.options.output / "records"
        record = run(spec, output=folder, force=True, calibration_seconds=check.scale.peak_seconds)
        seconds = {"train_seconds": record.timing.train, "wall_seconds": time.perf_counter() - began}
        scores = {"clean": 0.0, attack: 0.0} | {name: score.accuracy for name, score in record.scores.items()}
        mfu = record.compute.mfu if record.compute else None
        check.row(method=method, epochs=epochs, status=record.status, **seconds, **scores, mfu=mfu, record=record.id)

    check.each(names, measure)


def unpack(sources: Sequence[Path]) -> None:
    """Bring CIFAR-10 to the working folder as one .npz file: records name it by a path without this machine in it."""
    if sources[0].suffix == ".npz":
        Path(CIFAR).symlink_to(sources[0])
        return
    files = {path.name: path for source in sources for path in source.iterdir()}
    labels, arrays = np.load(files["labels.npz"]), {}
    for split in ("train", "test"):
        parts = range(math.ceil(len(labels[split]) / 1000))
        arrays[f"x_{split}"] = np.concatenate([tiles(files[f"{split}_{part:02d}.webp"]) for part in parts])
        arrays[f"y_{split}"] = labels[split].astype(np.int64)
    np.savez(CIFAR, **arrays)


def tiles(path: Path, size: int = 32, columns: int = 40) -> Any:
    """Return the images of a mosaic, row by row: (N, 32, 32, 3) uint8."""
    mosaic = np.asarray(Image.open(path).convert("RGB"))
    return mosaic.reshape(-1, size, columns, size, 3).swapaxes(1, 2).reshape(-1, size, size, 3)


def profile(check: Check) -> None:
    """Where five updates of bs-trades spend the device's time, by kind and by kernel; profile.txt has all of it."""
    one = ready(check.spec("bs-trades"))
    one.elapsed(6)
    with profiler(activities=[ProfilerActivity.CPU, *[ProfilerActivity.CUDA] * check.on_gpu]) as found:
        one.elapsed(5)
    events, kind = found.key_averages(), "device" if check.on_gpu else "cpu"
    text = events.table(sort_by=f"self_{kind}_time_total", row_limit=60, max_name_column_width=100)
    write_atomically(check.options.output / "profile.txt", text.encode())
    if check.on_gpu:  # or time would count twice: a kernel's, and that of the operation which launched it
        events = [one for one in events if one.device_type == DeviceType.CUDA and not one.is_user_annotation]
    times = {event.key: getattr(event, f"self_{kind}_time_total") for event in events}
    whole, kinds = sum(times.values()) or 1.0, dict.fromkeys([*KINDS, "other"], 0.0)
    for name, spent in times.items():
        kinds[next((one for one, words in KINDS.items() if re.search(words, name, re.IGNORECASE)), "other")] += spent
    largest = sorted(times.items(), key=lambda pair: -pair[1])[:15]
    for name, spent in [*((f"all: {name}", spent) for name, spent in kinds.items()), *largest]:
        check.row(kernel=name[:80], ms_per_update=spent / 5e3, share=spent / whole)


KINDS = {
    "batch norm": "batch_?norm|bn_fw|bn_bw",
    "convolution": "conv|wgrad|dgrad|fprop|cudnn|xmma|cutlass|gemm|nvjet",
    "optimiser, casts of weights": "multi_tensor_apply|fused_sgd|foreach",
    "formats and copies": "copy|transpose|nchw|nhwc|memcpy|memset|catarray",
    "element-wise": "elementwise|vectorized|threshold|clamp|triton",
    "reductions": "reduce|softmax|nll",
}


def passes(check: Check) -> None:
    """Forward, attack and update one by one, eager, captured and compiled; then what the engine might do instead."""
    plan: dict[str, Row] = {f"batch {size}": {"batch_size": size} for size in check.scale.batch_sizes}
    plan["batch 128, compiled"] = {"compile": True}

    def measure(name: str) -> None:
        one = ready(check.spec("standard", without=("graph",), **plan[name]))
        for part, work in parts_of(one).items():
            timed(check, one, work, variant=name, part=part)

    def measure_instead(name: str) -> None:
        one = ready(check.spec("standard", without=("graph",)))
        try:
            timed(check, one, ALTERNATIVES[name](one), variant="batch 128, instead", part=name)
        except (RuntimeError, AttributeError) as error:  # this device cannot do it
            check.row(variant="batch 128, instead", part=name, note=str(error).strip()[:200])

    check.each(plan, measure)
    check.each(ALTERNATIVES, measure_instead)


def timed(check: Check, one: Ready, work: Work, **row: Any) -> None:
    """Add a row with the milliseconds of `work`, eager and captured."""
    seconds = check.scale.block_seconds / 2

    def ms(function: Work) -> float:
        return milliseconds(lambda times: seconds_of(function, times, check.device), seconds)

    with fast_kernels(one.spec):
        row["eager_ms"] = ms(work)
        try:
            row["graphed_ms"] = ms(record_cuda_graph(work, check.device)) if check.on_gpu else None
        except RuntimeError as error:
            row["note"] = str(error).strip()[:200]
    check.row(**row)


def parts_of(one: Ready) -> dict[str, Work]:
    """Return what updates are made of, as the fast engine does it."""
    model, optimizer, (x, y, _) = one.training.model, one.training.optimizer, one.bench.loader.batch(0)
    optimizer.param_groups[0]["lr"].fill_(0.0)  # the same batch over and over must lead nowhere

    def forward() -> None:
        with torch.no_grad(), evaluating(model):
            model(x)

    def attack() -> None:
        input_gradient(lambda z: F.cross_entropy(model(z), y, reduction="sum"), x)

    def attack_in_eval_mode() -> None:
        with evaluating(model):
            attack()

    def update() -> None:
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()

    return {"F": forward, "F+Bx, eval": attack_in_eval_mode, "F+Bx, train": attack, "update": update}


def plain_network(one: Ready, dtype: torch.dtype) -> Work:
    """Forward and backward under autocast: is float16, whose batch norm is cuDNN's, faster than bfloat16?"""
    classifier, (x, y, _) = one.bench.model, one.bench.loader.batch(0)
    images = classifier.normalise(x).contiguous(memory_format=torch.channels_last)

    def work() -> None:
        with torch.autocast(x.device.type, dtype=dtype, cache_enabled=False):
            loss = F.cross_entropy(classifier.net(images), y)
        torch.autograd.grad(loss, list(classifier.parameters()))

    return work


def compiled_gradient(one: Ready) -> Work:
    """An attack's gradient with its forward in one compiled graph, by torch.func, batch norm in eval mode."""
    classifier, (x, y, _) = one.bench.model, one.bench.loader.batch(0)
    constants = {name: parameter.detach() for name, parameter in classifier.named_parameters()}

    def loss(z: Tensor) -> Tensor:
        return F.cross_entropy(torch.func.functional_call(classifier, constants, (z,)), y, reduction="sum")

    classifier.eval()
    return partial(torch.compile(torch.func.grad(loss), dynamic=False), x)


def convolution_add_relu(one: Ready, *, fused: bool) -> Work:
    """A convolution of the first stage with bias, sum and ReLU, which cuDNN can do in one kernel."""
    options = {"device": one.bench.device, "dtype": torch.bfloat16}
    z, w = torch.randn(one.spec.batch_size, 64, 32, 32, **options), torch.randn(64, 64, 3, 3, **options) / 24
    z, w = (one.to(memory_format=torch.channels_last) for one in (z, w))
    bias = torch.zeros(64, **options)
    if fused:
        return lambda: torch.cudnn_convolution_add_relu(z, w, z, 1.0, bias, [1, 1], [1, 1], [1, 1], 1)
    return lambda: F.conv2d(z, w, bias, padding=1).add_(z).relu_()


ALTERNATIVES: dict[str, Callable[[Ready], Work]] = {
    "F+Bx+Bw, plain bf16": partial(plain_network, dtype=torch.bfloat16),
    "F+Bx+Bw, plain fp16": partial(plain_network, dtype=torch.float16),
    "conv, add, relu": partial(convolution_add_relu, fused=False),
    "conv, add, relu in one": partial(convolution_add_relu, fused=True),
    "F+Bx, eval, func.grad compiled": compiled_gradient,
}


def ablation(check: Check, variants: Sequence[Row] = ()) -> None:
    """What each part of the engine is worth: bs-trades and fgsm-rs without it, compiled, and at larger batches."""
    toggles: list[Row] = [{"without": (toggle,)} for toggle in get_args(Toggle) if toggle != "cudnn-benchmark"]
    larger: list[Row] = [{"batch_size": size} for size in check.scale.batch_sizes[1:]]
    wanted = variants or [{}, *toggles, *larger, {"compile": True}, {"compile": True, "without": ("graph",)}]
    plan = {f"{method} {change}": (method, change) for change in wanted for method in COMPILED}

    def measure(name: str) -> None:
        method, change = plan[name]
        one = ready(check.spec(method, **change))
        ms, text = check.per_update(one), " ".join(f"{key}={value}" for key, value in change.items())
        rates = {"ms_per_update": ms, "images_per_second": 1e3 * one.spec.batch_size / ms}
        check.row(method=method, change=text, **rates, compile_seconds=one.engine["compile_seconds"], **one.graph)

    check.each(plan, measure)


def tests(check: Check) -> None:
    """The tests that need a GPU."""
    where = ["tests/metering"] if check.options.rehearse else []
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", "-rfEs", "--tb=short", *where]
    text, code = output_of([*command, "--continue-on-collection-errors"])
    for line in text.strip().splitlines()[-40:]:
        check.row(output=line[:200])
    if code not in (0, 5):  # 5: there are none
        raise RuntimeError(f"pytest ended with {code}")


def output_of(command: Sequence[str]) -> tuple[str, int]:
    """Return what a command prints, and its exit code."""
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)  # noqa: S603
    return done.stdout or done.stderr, done.returncode


@dataclass(frozen=True)
class Section:
    """What runs in a process of its own."""

    run: Callable[[Check], None]
    seconds: float  # that it may take: it begins nothing new after 1.2 times as long, and is stopped after 1.5 times
    needs_data: bool = False


SECTIONS = {
    "environment": Section(environment, 30),
    "equality": Section(equality, 80),
    "speed": Section(speed, 65),
    "naive": Section(naive, 110),
    "training": Section(training, 140, needs_data=True),
    "profile": Section(profile, 25),
    "passes": Section(passes, 80),
    "ablation": Section(ablation, 120),
    "heuristics": Section(partial(ablation, variants=[{"without": ("cudnn-benchmark",)}]), 25),
    "compiled": Section(compiled, 80),
    "tests": Section(tests, 60),
    "longer": Section(partial(training, names=("bs-trades", "trades"), longer=True), 150, needs_data=True),
}


# ---- from what was found to verdicts


@dataclass(frozen=True)
class Figure:
    """A number with its target, if it has one; measured or still owed."""

    name: str
    measured: float | None
    low: float | None = None
    high: float | None = None

    @property
    def target(self) -> str:
        bounds = ((">=", self.low), ("<=", self.high))
        return " and ".join(f"{sign} {bound:g}" for sign, bound in bounds if bound is not None)

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None is not measured. What is not a number meets none."""
        if self.measured is None:
            return None
        low, high = -math.inf if self.low is None else self.low, math.inf if self.high is None else self.high
        return low <= self.measured <= high

    @property
    def verdict(self) -> str:
        if self.measured is None:
            return "owed"
        margins = [abs(self.measured / bound - 1) for bound in (self.low, self.high) if bound is not None]
        return f"{'PASS' if self.met else 'MISS'} by {min(margins):.1%}" if margins else "without a target"


def figures(sections: dict[str, Row], names: Sequence[str]) -> list[Figure]:
    """Return every figure that is owed of the methods `names`, measured or not."""
    rows: dict[str, list[Row]] = {name: sections.get(name, {}).get("rows", []) for name in SECTIONS}
    fast = {row["method"]: row for row in rows["speed"]}
    scripts = {(row["method"], row["precision"]): row["ms_per_update"] for row in rows["naive"]}
    peak = next((row["value"] for row in rows["environment"] if row["item"] == "peak bf16, TFLOP/s"), None)
    fgsm_rs: Row = next((row for row in rows["training"] if row["method"] == "fgsm-rs"), {})

    def quotient(value: float | None, method: str, key: str = "ms_per_update") -> float | None:
        return value / fast[method][key] if value and method in fast else None

    found = []
    for method in names:
        for precision in naive_precisions(method, "cuda"):
            ratio, low = quotient(scripts.get((method, precision)), method), None if precision == "fp16" else SPEEDUP
            found.append(Figure(f"{method}: times as fast as its script in {precision}", ratio, low))
    for method in MFU_OF:
        share = quotient(peak, method, "tflop_per_second")
        found.append(Figure(f"{method}: MFU (aim 0.4)", share and 1 / share, low=MFU))
    ratio = quotient(fast.get("trades", {}).get("ms_per_update"), "bs-trades")
    found += [
        Figure("trades / bs-trades: time of an update", ratio, *RATIO),
        Figure("fgsm-rs, 15 epochs of CIFAR-10: training seconds", fgsm_rs.get("train_seconds"), high=TRAIN_SECONDS),
        Figure("fgsm-rs, 15 epochs of CIFAR-10: PGD-50-10", fgsm_rs.get(REAL.attack), low=ACCURACY),
    ]
    for method in names:
        for precision in ("fp32", "bf16"):
            equal = (row for row in rows["equality"] if (row["method"], row["precision"]) == (method, precision))
            found.append(_graphed_equals_eager(method, precision, next(equal, None)))
    for method in COMPILED:
        apart = next((row["distance"] for row in rows["compiled"] if row["method"] == method), None)
        found.append(Figure(f"{method}: compiled == eager", apart, high=TOLERANCE["compiled"]))
    return found


def _graphed_equals_eager(method: str, precision: str, row: Row | None) -> Figure:
    name, limit = f"{method}: graphed == eager in {precision}", TOLERANCE[precision]
    if row is None or "need a GPU" in row["note"] or methods.describe(method).not_capturable:
        return Figure(name, None, high=limit)
    if not row["graphed"]:
        return Figure(f"{method}: captured in {precision}", 0.0, low=1.0)
    return Figure(name, row["distance"], high=max(limit, 3 * row["again"]))


# ---- one process after the other


def main() -> int:
    """Run the sections, or one of them, and return the exit code."""
    parser = argparse.ArgumentParser(description="Measure on a GPU every figure that docs/performance.md owes.")
    parser.add_argument("--output", type=Path, required=True, help="folder for what is found")
    parser.add_argument("--cifar10", type=Path, nargs="+", default=[], help="an .npz file, or folders of mosaics")
    parser.add_argument("--about-data", default="", help="said beside the figures, as '98.7%% exact'")
    parser.add_argument("--minutes", type=float, default=9.0, help="for everything [default: 9]")
    parser.add_argument("--device", help="[default: cuda]")
    parser.add_argument("--rehearse", action="store_true", help="on a CPU, with next to nothing to do")
    parser.add_argument("--only", nargs="+", choices=list(SECTIONS), metavar="SECTION", help=", ".join(SECTIONS))
    parser.add_argument("--section", choices=list(SECTIONS), help=argparse.SUPPRESS)  # to be run in this process
    parser.add_argument("--seconds", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.output = options.output.resolve()
    options.cifar10 = [path.resolve() for path in options.cifar10]
    return run_section(options) if options.section else run_all(options)


def run_section(options: argparse.Namespace) -> int:
    """Run one section in this process; what it finds is in the working folder."""
    check = Check(options)
    if options.rehearse:
        torch.set_num_threads(1)
        torch.compile = lambda function, **_: function  # type: ignore[assignment] - it takes a CPU minutes
    try:
        SECTIONS[options.section].run(check)
    except Exception:  # whatever it is, the other sections are worth their time
        check.found["error"] = traceback.format_exc()
    check.save()
    return 1 if check.found["error"] else 0


def run_all(options: argparse.Namespace) -> int:
    """Run the sections one after the other, tell what they find, and return the exit code."""
    path = options.output / "gpu_check.json"
    earlier = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"sections": {}}
    if earlier.get("rehearsal", options.rehearse) != options.rehearse:
        kind = "of a GPU" if options.rehearse else "a rehearsal"
        raise SystemExit(f"gpu_check: {path} is {kind}: choose another --output")
    sections: dict[str, Row] = earlier["sections"]
    end, skipped = time.monotonic() + 60 * options.minutes, []
    for name in options.only or SECTIONS:
        section, left = SECTIONS[name], end - time.monotonic()
        if section.needs_data and not (options.cifar10 or options.rehearse):
            skipped.append(f"skipped: {name}, for want of --cifar10")
        elif section.seconds > left:
            skipped.append(f"skipped: {name}, which may take {section.seconds} s: {max(left, 0):.0f} s are left")
        else:
            sections[name] = in_a_process(name, options, min(1.5 * section.seconds, left))
            tell(name, sections[name])
            save(path, options, sections)
    found = save(path, options, sections)
    rows = [{"figure": one.name, "target": one.target, "measured": one.measured, "": one.verdict} for one in found]
    about = "of a rehearsal: they mean nothing" if options.rehearse else options.about_data
    print(f"\n== figures {about}\n{table(rows)}", *skipped, sep="\n")
    failed = [name for name, one in sections.items() if one["error"]]
    print(f"failed: {', '.join(failed) or 'none'}; {path}")
    missed = not options.rehearse and any(one.met is False for one in found)
    return 1 if failed or missed else 0


def in_a_process(name: str, options: argparse.Namespace, limit: float) -> Row:
    """Run a section in a process of its own, and return what it has found, however it ended."""
    command = [sys.executable, "-X", "faulthandler", __file__, "--section", name, "--seconds", f"{limit}"]
    command += ["--output", f"{options.output}", *["--rehearse"] * options.rehearse]
    command += ["--device", options.device] if options.device else []
    command += ["--cifar10", *map(str, options.cifar10)] if options.cifar10 else []
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(command, cwd=folder, start_new_session=True)  # noqa: S603
        try:
            code = process.wait(limit)
            why = f"the process ended with {code}" if code else None
        except subprocess.TimeoutExpired:
            why = f"stopped after {limit:.0f} s"
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # workers too
            process.wait()
        found: Row = {"rows": [], "left_out": [], "error": None}
        if (scratch := Path(folder) / SCRATCH).exists():
            found |= json.loads(scratch.read_text(encoding="utf-8"))
    return found | {"seconds": time.monotonic() - started, "error": found["error"] or why}


def save(path: Path, options: argparse.Namespace, sections: dict[str, Row]) -> list[Figure]:
    """Write everything that is known, and return the figures."""
    found = figures(sections, methods.names())
    listed = [asdict(one) | {"verdict": one.verdict} for one in found]
    report = {"rehearsal": options.rehearse, "about_data": options.about_data, "sections": sections, "figures": listed}
    write_atomically(path, (json.dumps(report, indent=1) + "\n").encode())
    return found


def tell(name: str, found: Row) -> None:
    """Print what a section has found."""
    print(f"\n== {name}, {found['seconds']:.0f} s\n{table(found['rows'])}")
    if found["left_out"]:
        print(f"left out, for want of time: {'; '.join(found['left_out'])}")
    if found["error"]:
        print(f"FAILED: {found['error']}")
    sys.stdout.flush()


def table(rows: Sequence[Row]) -> str:
    """Return the rows as text, a column for every key."""
    keys = list(dict.fromkeys(key for row in rows for key in row))
    cells = [[cell(row.get(key)) for key in keys] for row in rows]
    widths = [max(map(len, column)) for column in zip(keys, *cells, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in [keys, *cells])


def cell(value: Any) -> str:
    """Return a value as a table shows it."""
    return f"{value:.4g}" if isinstance(value, float) else "-" if value in (None, "") else str(value)


if __name__ == "__main__":
    sys.exit(main())
