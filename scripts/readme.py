"""Write the table of the committed results/*.json into README.md, between its markers. Run by `make readme`."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

from fatbench import record
from fatbench.report import comparison, formats, render
from fatbench.report.run import Run

ROOT = Path(__file__).parent.parent
BEGIN, END = "<!-- results: written by `make readme` -->\n", "<!-- /results -->"


def table() -> str:
    """Return the committed records' comparison as Markdown, and what can be said of its differences."""
    groups = comparison.compare([Run(record.load(path), path) for path in committed()], reference="trades")
    return f"{render.markdown(groups).strip()}\n\n{verdicts(groups)}\n"


def verdicts(groups: Sequence[comparison.Group]) -> str:
    """Return how many pairs are told apart, and whether the two methods of the first claim are."""
    pairs = [pair for group in comparison.with_pairs(groups) for pair in group.paired or ()]
    told = sum(pair.distinguishable for pair in pairs)
    [claim] = [pair for pair in pairs if {pair.a.label, pair.b.label} == {"trades", "bs-trades"}]
    interval = formats.interval(claim.low or 0.0, claim.high or 0.0)
    title, points = formats.evaluation_title(claim.evaluation), formats.points(claim.difference or 0.0)
    return (
        f"`compare --paired` tells {told} of the {len(pairs)} pairs apart on {title}. {claim.a.label} less"
        f" {claim.b.label}: {points} points, 95% interval {interval}, {claim.verdict}."
    )


def committed() -> list[Path]:
    """Return the records that git knows: `make demo` leaves one beside them."""
    command = ["git", "-C", str(ROOT), "ls-files", ":(glob)results/*.json"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603 - a constant
    return sorted(ROOT / line for line in listed.stdout.splitlines())


def main() -> None:
    """Replace what stands between the markers."""
    readme = ROOT / "README.md"
    before, rest = readme.read_text(encoding="utf-8").split(BEGIN)
    readme.write_text(f"{before}{BEGIN}\n{table().strip()}\n\n{END}{rest.split(END)[1]}", encoding="utf-8")


if __name__ == "__main__":
    main()
