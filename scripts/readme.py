"""Write the table of the committed results/*.json into README.md, between its markers. Run by `make readme`."""

import subprocess
from pathlib import Path

from fatbench import record
from fatbench.report import comparison, render
from fatbench.report.run import Run

ROOT = Path(__file__).parent.parent
BEGIN, END = "<!-- results: written by `make readme` -->\n", "<!-- /results -->"


def table() -> str:
    """Return the committed records' comparison as Markdown."""
    runs = [Run(record.load(path), path) for path in committed()]
    return render.markdown(comparison.compare(runs, sort=None, reference="trades"))


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
