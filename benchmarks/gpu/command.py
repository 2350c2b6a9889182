"""Command line of the GPU benchmark: `python -m benchmarks.gpu --help`."""

import argparse
import math
import time
from pathlib import Path

import torch

from benchmarks.gpu import cifar10, report
from benchmarks.gpu.rows import Rows
from benchmarks.gpu.scale import SCALES
from benchmarks.gpu.section import RESTART, RestartError, Section
from benchmarks.gpu.sections import PLANS, function_of
from benchmarks.gpu.supervisor import supervise
from fatbench.errors import ResourceError


def main() -> int:
    """Run the sections and return the exit code: 0 if all was measured and every target is met, else 1."""
    options = _parser().parse_args()
    if options.section:
        return _run_section(options)
    if options.scale != "rehearsal" and not torch.cuda.is_available():
        raise ResourceError("torch finds no GPU here; --rehearse runs the same code on a CPU")
    options.output = options.output.resolve()
    launch, end = f"{time.time():.0f}", time.time() + 60 * options.minutes
    work = options.output / "work"
    work.mkdir(parents=True, exist_ok=True)
    report.refuse_mixture(options.output, options.scale)
    if options.cifar10:
        print(f"CIFAR-10: {cifar10.unpack(options.cifar10, work)}", flush=True)
    has_data = options.scale == "rehearsal" or (work / cifar10.NAME).exists()
    unfinished = []
    arguments = ["--output", str(options.output), "--launch", launch, "--scale", options.scale]
    for name in options.only or PLANS:
        plan, rows = PLANS[name], _rows(options.output, name, launch)
        if plan.needs_data and not has_data:
            print(f"\n== {name}: skipped, for want of --cifar10", flush=True)
            continue
        started = time.time()
        seconds = plan.seconds * (3 if options.scale == "rehearsal" else 1)  # meant for a GPU: processors are slower
        why = supervise(name, rows, arguments, work, min(started + seconds, end))
        unfinished += [name] * bool(why)
        print(f"\n== {name}, {time.time() - started:.0f} s{f': {why}' * bool(why)}", flush=True)
        print(report.table(rows), flush=True)
        report.save(options.output, options.archive)
    figures = report.figures(options.output)
    about = "" if options.scale == "gpu" else f" of scale {options.scale}: they mean nothing"
    print(f"\n== figures{about}\n{report.table_of(figures)}")
    failed = [name for name in options.only or PLANS if _rows(options.output, name, launch).failures()]
    print(f"failed: {', '.join(failed) or 'none'}; not finished: {', '.join(unfinished) or 'none'}; {options.output}")
    missed = options.scale == "gpu" and any(one.met is False for one in figures)
    return 1 if failed or unfinished or missed else 0


def _run_section(options: argparse.Namespace) -> int:
    """Measure one section in this process."""
    scale = SCALES[options.scale]
    torch.zeros(1, device=scale.device)  # wakes a GPU: only then can its memory be asked for
    if options.scale == "rehearsal":
        torch.set_num_threads(1)
        torch.compile = lambda function, **_: function  # type: ignore[assignment] - it takes a CPU minutes
    section = Section(
        _rows(options.output, options.section, options.launch),
        scale,
        options.output,
        options.until,
        cifar10=Path(cifar10.NAME).exists() and scale.device == "cuda",
    )
    try:
        function_of(options.section)(section)
    except RestartError:
        return RESTART
    return 0


def _rows(output: Path, section: str, launch: str) -> Rows:
    return Rows(output / "rows" / f"{section}.jsonl", launch)


def _folder(text: str) -> Path:
    if not text:
        raise argparse.ArgumentTypeError("it is empty")
    return Path(text)


def _minutes(text: str) -> float:
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError("it takes a number above 0")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description="Measure what only a GPU can show.")
    parser.add_argument("--output", type=_folder, required=True, help="folder for rows, records and profiles")
    parser.add_argument("--archive", type=Path, help="also pack all of it but weights into this .tar.gz")
    parser.add_argument("--cifar10", type=Path, nargs="+", default=[], help="folders that hold the mosaics")
    parser.add_argument("--minutes", type=_minutes, default=10.0, help="for everything [default: 10]")
    parser.add_argument("--only", nargs="+", choices=list(PLANS), metavar="SECTION", help=", ".join(PLANS))
    scale = parser.add_mutually_exclusive_group()
    scale.add_argument("--rehearse", dest="scale", action="store_const", const="rehearsal", help="on a CPU, in minutes")
    scale.add_argument("--quick", dest="scale", action="store_const", const="quick", help="one short run on a GPU")
    parser.set_defaults(scale="gpu")
    for hidden, kind in (("--section", str), ("--until", float), ("--launch", str), ("--scale", str)):
        parser.add_argument(hidden, type=kind, help=argparse.SUPPRESS)
    return parser
