"""Write the table of all methods of fatbench into docs/methods.md, between its markers. Run by `make methods-table`."""

from pathlib import Path

import torch

from fatbench import methods
from fatbench.conformance.card import facts
from fatbench.conformance.report import Facts
from fatbench.evaluation.eval_mode import isolated_rng

DOCUMENT = Path(__file__).parent.parent / "docs" / "methods.md"
BEGIN, END = "<!-- methods: written by `make methods-table` -->\n", "<!-- /methods -->"
_HEAD = ["method", "what it is", "passes", "F + I + W", "BN", "steps", "memory", "norms", "CUDA graph", "declared"]
_ALIGNED = [":---", ":---", *["---:"] * 5, ":---", ":---", ":---"]


def table() -> str:
    """Return the methods' facts as Markdown: a row each, then the declared exceptions with their reasons."""
    found = {name: _facts(name) for name in methods.built_in()}
    rows = [_HEAD, _ALIGNED, *([name, *_cells(one)] for name, one in found.items())]
    lines = [f"| {' | '.join(row)} |" for row in rows]
    reasons = [
        f"- **{name}** {_plain(what)}: {why}" for name, one in found.items() for what, why in one.exceptions.items()
    ]
    return "\n".join([*lines, "", "Declared exceptions:", "", *(reasons or ["- none"])])


def _plain(constant: str) -> str:
    return constant.lower().replace("_", " ")


def _facts(name: str) -> Facts:
    with isolated_rng(0, torch.device("cpu")):
        return facts(methods.load(name))


def _cells(one: Facts) -> list[str]:
    return [
        one.title.replace("|", "\\|"),
        _rounded(one.units),
        " + ".join(map(_rounded, (one.forward, one.input_backward, one.weight_backward))),
        _rounded(one.batch_norm_updates),
        f"{one.updates}",
        f"{one.memory:,}" if one.memory else "",
        ", ".join(one.norms),
        "no" if "NOT_CAPTURABLE" in one.exceptions else "yes",
        ", ".join(_plain(name) for name in one.exceptions),
    ]


def _rounded(number: float) -> str:
    """What a batch's size divides is no round number."""
    return f"{round(number, 2):g}"


def main() -> None:
    """Replace what stands between the markers."""
    before, rest = DOCUMENT.read_text(encoding="utf-8").split(BEGIN)
    DOCUMENT.write_text(f"{before}{BEGIN}\n{table()}\n\n{END}{rest.split(END)[1]}", encoding="utf-8")


if __name__ == "__main__":
    main()
