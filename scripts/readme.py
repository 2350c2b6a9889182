"""Write the table of results/*.json into README.md, between its markers. Run by `make readme`."""

from pathlib import Path

from fatbench import record
from fatbench.report import comparison, render

ROOT = Path(__file__).parent.parent
BEGIN, END = "<!-- results: written by `make readme` -->\n", "<!-- /results -->"


def table() -> str:
    """Return the committed records' comparison as Markdown."""
    records = [record.load(path) for path in sorted((ROOT / "results").glob("*.json"))]
    return render.markdown(comparison.compare(records, sort=None, reference="trades"))


def main() -> None:
    """Replace what stands between the markers."""
    readme = ROOT / "README.md"
    before, rest = readme.read_text(encoding="utf-8").split(BEGIN)
    readme.write_text(f"{before}{BEGIN}\n{table().strip()}\n\n{END}{rest.split(END)[1]}", encoding="utf-8")


if __name__ == "__main__":
    main()
