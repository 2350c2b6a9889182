"""Write the tables of results/gpu into docs/performance.md and README.md, between markers. Run by `make gpu-tables`."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.gpu.report import figures
from benchmarks.gpu.rows import Row, Rows

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "results" / "gpu"
BEGIN, END = "<!-- gpu: written by `make gpu-tables` -->\n", "<!-- /gpu -->"
_SHORT = ("standard", "fgsm-rs", "bs-trades", "trades", "pgd-at")


def full() -> str:
    """Return all tables as Markdown, for docs/performance.md."""
    parts = [_machine(), _targets(), _methods(), _runs(), _kinds("bs-trades"), _evaluation()]
    return "\n\n".join(parts)


def short() -> str:
    """Return the tables of README.md as Markdown."""
    return "\n\n".join([_machine(), _methods(_SHORT), _runs()])


def _machine() -> str:
    rows = _rows("environment")
    one, peaks = rows["machine"], {name: rows[f"peak {name}"]["tflop_per_second"] for name in ("bf16", "tf32", "fp32")}
    measured = ", ".join(f"{_digits(value)} in {name}" for name, value in peaks.items())
    return (
        f"One {one['device']} (driver {one['driver']}, cuDNN {one['cudnn']}), torch {one['torch']}, ResNet-18 on 32x32"
        f" images, batch 128, the fast engine in bf16, fatbench {one['commit'][:7]}. Peaks of its matrix products,"
        f" TFLOP/s: {measured}."
    )


def _targets() -> str:
    rows = [[one.name, one.target, _digits(one.measured), one.verdict] for one in figures(RESULTS, of_any_version=True)]
    return _table(["figure", "target", "measured", ""], rows, "llrl")


def _methods(names: Sequence[str] = ()) -> str:
    speed, eager, loops = _rows("speed"), _rows("eager"), _rows("naive")
    peak = _rows("environment")["peak bf16"]["tflop_per_second"]
    head = [
        "method",
        "ms per update",
        "images/s",
        "without a graph, ms",
        "authors' loop (TF32), ms",
        "x faster than it",
    ]
    head += ["TFLOP/s", "MFU, %", "peak memory, GiB", "capture, s"]
    found = []
    for name in names or sorted(speed, key=lambda name: float(speed[name]["ms_per_update"])):
        row, ms = speed[name], speed[name]["ms_per_update"]
        without, loop = eager.get(name, {}).get("ms_per_update"), loops.get(name, {}).get("ms_per_update")
        found.append(
            [
                name if row["graph"] else f"{name} (eager)",
                _digits(ms),
                f"{row['images_per_second']:,.0f}",
                _digits(without),
                _digits(loop),
                _digits(loop and loop / ms),
                _digits(row["tflop_per_second"]),
                _digits(100 * row["tflop_per_second"] / peak),
                _digits(row["peak_bytes"] / 2**30),
                _digits(row["capture_seconds"] or None),
            ]
        )
    return _table(head, found, "l" + "r" * (len(head) - 1))


def _runs() -> str:
    """The runs on CIFAR-10, with AutoAttack as far as it came."""
    scores = {(row["method"], row["seed"]): row for row in _rows("scoring").values()}
    head = ["CIFAR-10 (98.7% exact), linf 8/255", "epochs", "seed", "training, s", "energy, kJ", "clean", "PGD-50-10"]
    head.append("AutoAttack")
    found = []
    for row in _rows("training").values():
        _, epochs, seed = (
            word.split()[0] if word[0].isdigit() else word.split()[-1] for word in row["name"].split(", ")
        )
        score = scores.get((row["method"], int(seed)), {})
        cells = [row["method"], epochs, seed, _digits(row["train_seconds"]), _digits(row["energy_joules"] / 1e3)]
        found.append([*cells, *map(_counts, (score.get("clean"), score.get("pgd-50-10"))), _autoattack(score)])
    return _table(head, found, "lrrrrrrr")


def _autoattack(score: Mapping[str, Any]) -> str:
    whole = next(
        (value for name, value in score.items() if name.startswith("autoattack") and "seconds" not in name), None
    )
    if whole is not None:
        return _counts(whole)
    if "standing after" not in score:
        return ""
    return f"at most {_counts(score['standing after'])} (after {score['after'].upper().replace(' AND ', ' and ')})"


def _kinds(method: str) -> str:
    prefix = f"{method}: all: "
    rows = [(name, row) for name, row in _rows("kernels").items() if name.startswith(prefix)]
    rows.sort(key=lambda pair: -float(pair[1]["share"]))
    cells = [
        [name.removeprefix(prefix), _digits(row["ms_per_update"]), f"{100 * row['share']:.1f}"] for name, row in rows
    ]
    return _table([f"kernels of an update of {method}", "ms", "%"], cells, "lrr")


def _evaluation() -> str:
    rows = _rows("attacks").values()
    cells = [[row["name"], _digits(row["seconds"]), f"{row['standing']} of {row['images']}"] for row in rows]
    return _table(["PGD-50, one restart, float32", "s", "standing"], cells, "lrr")


def _rows(section: str) -> dict[str, Row]:
    return {row["name"]: row for row in Rows(RESULTS / "rows" / f"{section}.jsonl", "").of_any_version()}


def _counts(pair: Sequence[int] | None) -> str:
    return f"{100 * pair[0] / pair[1]:.1f}% of {pair[1]:,}" if pair else ""


def _digits(value: float | None) -> str:
    """Three significant digits, or nothing."""
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], aligned: str) -> str:
    marks = [":---" if one == "l" else "---:" for one in aligned]
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, marks, *rows])


def documents() -> Iterator[tuple[Path, str]]:
    """Return each document and what stands between its markers."""
    yield ROOT / "docs" / "performance.md", full()
    yield ROOT / "README.md", short()


def main() -> None:
    """Replace what stands between the markers."""
    for path, text in documents():
        before, rest = path.read_text(encoding="utf-8").split(BEGIN)
        path.write_text(f"{before}{BEGIN}\n{text}\n\n{END}{rest.split(END)[1]}", encoding="utf-8")


if __name__ == "__main__":
    main()
