"""Write into docs/methods.md how the committed results order the methods, beside published orders. By `make readme`.

Values do not compare: the published ones are of CIFAR-10, ResNet-18 and 8/255. Whether one method stands above another
can agree all the same.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from statistics import mean

from fatbench import record
from scripts.readme import committed

DOCUMENT = Path(__file__).parent.parent / "docs" / "methods.md"
BEGIN, END = "<!-- orderings: written by `make readme` -->\n", "<!-- /orderings -->"

# AutoAttack in % on CIFAR-10 at 8/255, ResNet-18, mean of three seeds.
FASTAT = {  # FastAT benchmark (arXiv 2604.22853): the best checkpoint on validation images, averaged but for pgd-at
    "pgd-at": 44.33,  # without averages and label smoothing, which the others have
    "nuat": 50.10,
    "liet": 49.99,
    "fgsm-mep": 49.89,
    "fgsm-uap": 49.44,
    "gat": 49.15,
    "fgsm-pco": 48.52,
    "grad-align": 47.99,
    "n-fgsm": 47.77,
    "zero-grad": 45.94,
    "free-at": 44.34,
    "fgsm-rs": 43.09,
    "ssat": 38.33,
    "fgsm": 37.28,
}
LIET = {  # appendix of LIET (Pan et al., ICCV 2025)
    "pgd-at": 48.68,
    "liet": 50.01,
    "nuat": 50.04,
    "fgsm-mep": 49.73,
    "gat": 49.39,
    "fgsm-uap": 49.36,
    "grad-align": 47.99,
    "n-fgsm": 47.97,
    "free-at": 47.43,
    "fgsm-rs": 42.82,
    "ssat": 37.99,
}
PUBLISHED = {"FastAT benchmark": FASTAT, "appendix of LIET": LIET}


def section() -> str:
    """Return the table, and how well each published order agrees with ours."""
    ours = {name: 100 * value for name, value in _ours().items()}
    lines = [f"| method | here | {' | '.join(PUBLISHED)} |", f"| :--- |{' ---: |' * (len(PUBLISHED) + 1)}"]
    for name in sorted(ours, key=lambda name: -ours[name]):
        published = [f"{table[name]:.1f}" if name in table else "" for table in PUBLISHED.values()]
        lines.append(f"| {name} | {ours[name]:.1f} | {' | '.join(published)} |")
    agreements = [f"- {source}: {_agreement(ours, table)}" for source, table in PUBLISHED.items()]
    return "\n".join([*lines, "", *agreements])


def _ours() -> dict[str, float]:
    """The mean robust accuracy under AutoAttack of each method's seeds."""
    found: dict[str, list[float]] = defaultdict(list)
    for path in committed():
        one = record.load(path)
        if "autoattack" in one.scores:
            found[one.method.name].append(one.scores["autoattack"].accuracy)
    return {name: mean(values) for name, values in found.items()}


def _agreement(ours: Mapping[str, float], theirs: Mapping[str, float]) -> str:
    names = sorted(ours.keys() & theirs.keys())
    pairs = list(combinations(names, 2))
    same = sum(_sign(ours, pair) == _sign(theirs, pair) for pair in pairs)
    tau = sum(_sign(ours, pair) * _sign(theirs, pair) for pair in pairs) / len(pairs)
    return f"{same} of {len(pairs)} pairs of {len(names)} methods in the same order (Kendall's tau {tau:.2f})"


def _sign(values: Mapping[str, float], pair: Sequence[str]) -> int:
    difference = values[pair[0]] - values[pair[1]]
    return (difference > 0) - (difference < 0)


def main() -> None:
    """Replace what stands between the markers."""
    before, rest = DOCUMENT.read_text(encoding="utf-8").split(BEGIN)
    DOCUMENT.write_text(f"{before}{BEGIN}\n{section()}\n\n{END}{rest.split(END)[1]}", encoding="utf-8")


if __name__ == "__main__":
    main()
