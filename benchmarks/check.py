"""`make bench-check`: has an optimiser step become slower, in units of the calibration kernel?

Exit codes: 0 no, 3 yes, 5 there is no baseline to compare with, 2 a mistake in the command or the baseline's file.
"""

import argparse
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median, stdev

import torch

from benchmarks.baseline import PROTOCOL, Ratio, kind_of, made_here, path_for, read
from benchmarks.measuring import build, lane_names, measure
from benchmarks.verdict import CAP, Verdict, judge
from fatbench import methods
from fatbench.errors import FatbenchError
from fatbench.runner.timing import Contender

OK, SLOWER, NO_BASELINE = 0, 3, 5
SECONDS = 100.0  # of measuring: two for each of fifty lanes
_REPEATS = 3  # of everything, set-up included, for a baseline

Build = Callable[[Sequence[str], torch.device], Mapping[str, Contender]]
Look = Callable[[Sequence[str]], dict[str, Ratio]]


def main(arguments: Sequence[str] | None = None, build: Build = build) -> int:
    """Return the exit code. `build` is for whoever wants to plant something (`benchmarks/prove.py`)."""
    options = _parser().parse_args(arguments)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu":
        torch.set_num_threads(1)
    try:
        names = _lanes_of(options.method)
        path = options.baseline or path_for(device)

        def look(lanes: Sequence[str]) -> dict[str, Ratio]:
            return measure(build(lanes, device), device, options.seconds * len(lanes) / len(names))

        return (_update if options.update else _check)(path, names, look, device)
    except FatbenchError as error:
        print(f"bench-check: {error}", file=sys.stderr)
        return error.exit_code


def _check(path: Path, names: list[str], look: Look, device: torch.device) -> int:
    if not path.exists():
        return _no_baseline(f"there is no {path}")
    baseline = read(path)
    if (baseline.protocol, baseline.kind) != (PROTOCOL, kind_of(device)):
        of = f"protocol {baseline.protocol} on {baseline.kind}"
        return _no_baseline(f"{path} is of {of}, this is {PROTOCOL} on {kind_of(device)}")
    same_machine = baseline.same_machine_as(made_here(device, {}))
    if not same_machine:
        print(f"the baseline is of {baseline.hardware} with torch {baseline.torch}: the limit is {CAP} for every lane")
    verdicts = {one.lane: one for one in judge(look(names), baseline, same_machine=same_machine)}
    suspects = _slower(verdicts.values())
    if suspects:  # what really is slower is slower again, set up afresh
        verdicts |= {one.lane: one for one in judge(look(suspects), baseline, same_machine=same_machine)}
    print(*map(_line, verdicts.values()), sep="\n")
    slower = _slower(verdicts.values())
    print(f"slower: {'; '.join(slower)}" if slower else f"none of {len(verdicts)} is slower")
    return SLOWER if slower else OK


def _update(path: Path, names: list[str], look: Look, device: torch.device) -> int:
    """Measure everything several times, set-up included, and write the baseline."""
    looks = [look(names) for _ in range(_REPEATS)]
    lanes = {name: _together([one[name] for one in looks]) for name in names}
    path.write_text(made_here(device, lanes).model_dump_json(indent=1) + "\n")
    for name, ratio in lanes.items():
        print(f"{name:28} {ratio.value:7.3f} kernels +- {ratio.noise:.1%}")
    print(f"wrote {path}")
    return OK


def _together(ratios: Sequence[Ratio]) -> Ratio:
    """Return the median of several looks, with the noise between them or within them, whichever is more."""
    centre = median(one.value for one in ratios)
    between = stdev(one.value for one in ratios) / centre
    return Ratio(value=centre, noise=max(between, *(one.noise for one in ratios)))


def _lanes_of(wanted: Sequence[str] | None) -> list[str]:
    for method in wanted or ():
        methods.describe(method)  # an unknown one is told what there is
    return [lane for lane in lane_names() if not wanted or lane.split(", ")[0] in wanted]


def _slower(verdicts: Iterable[Verdict]) -> list[str]:
    return [one.lane for one in verdicts if one.outcome == "slower"]


def _no_baseline(why: str) -> int:
    print(f"bench-check: no baseline: {why}; make one with `make bench-baseline`", file=sys.stderr)
    return NO_BASELINE


def _line(one: Verdict) -> str:
    compared = "new" if one.change is None else f"x {one.change:.3f} of the baseline, limit {one.limit:.2f}"
    return f"{one.lane:28} {one.now.value:7.3f} kernels +- {one.now.noise:.1%}   {compared:40} {one.outcome}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make bench-check", description=__doc__.splitlines()[0])
    parser.add_argument("--update", action="store_true", help="write the baseline instead of comparing with it")
    parser.add_argument("--baseline", type=Path, help="file [default: benchmarks/baseline-KIND.json of this machine]")
    parser.add_argument("--method", action="append", help="only this one; repeatable")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of measuring all lanes once [default: 100]")
    return parser


if __name__ == "__main__":
    sys.exit(main())
