"""Numbers and names as people write them, and text out of untrusted records made fit to print."""

import re

NONE = "-"
_UNITS = (("s", 1.0), ("min", 60.0), ("h", 3600.0))
_PREFIXES = (("E", 1e18), ("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3))
_UP_TO = 600  # of a unit; then the next
_TITLES = {"autoattack": "AutoAttack", "fgsm": "FGSM"}
_LONGEST = 120
_MARKDOWN = re.compile(r"(\[-?\d+\.\d, -?\d+\.\d\])|([\\`*\[\]<>|&])")  # an interval is no link
_FORMULA = ("=", "+", "-", "@")


def percent(share: float) -> str:
    """Return a fraction in percent, with one decimal."""
    return f"{round(100 * share, 1) + 0.0:.1f}"  # never -0.0


def points(difference: float) -> str:
    """Return a difference of fractions in percentage points, with its sign."""
    return f"{round(100 * difference, 1) + 0.0:+.1f}"


def interval(low: float, high: float) -> str:
    """Return an interval of fractions in percent."""
    return f"[{percent(low)}, {percent(high)}]"


def sample_size(fewest: int, most: int) -> str:
    """Return on how many images seeds were evaluated, who may have seen more or fewer of them."""
    return f"n={fewest}" + (f"..{most}" if most > fewest else "")


def rounded(number: int) -> str:
    """Return a count that is known roughly, with two digits: "9", "1,300"."""
    return f"{round(number, 2 - len(str(number))):,}"


def probability(p: float) -> str:
    """Return a p-value with four decimals."""
    return f"{p:.4f}" if p >= 0.0001 else "<0.0001"


def duration(seconds: float) -> str:
    """Return seconds as people write them: "0.42 s", "12.3 s", "45.0 min"."""
    name, size = unit(seconds)
    return f"{seconds / size:.{decimals(seconds / size)}f} {name}"


def quantity(value: float, of: str) -> str:
    """Return a large number of a unit as people write it: "18.1 GFLOP/s", "640 J"."""
    prefix, size = next((one for one in _PREFIXES if value >= one[1]), ("", 1.0))
    return f"{value / size:.{decimals(value / size)}f} {prefix}{of}"


def ratio(value: float | None) -> str:
    """Return a factor with the digits that it deserves."""
    return NONE if value is None else f"{value:.{2 if value < 1 else 1}f}"


def evaluation_title(name: str) -> str:
    """Return the name of an evaluation as people write it: "clean", "PGD-20", "AutoAttack"."""
    return _TITLES.get(name) or plain(name).replace("pgd-", "PGD-")


def unit(seconds: float) -> tuple[str, float]:
    """Return the name and the seconds of the unit of time that suits so many seconds."""
    return next((one for one in _UNITS if seconds < _UP_TO * one[1]), _UNITS[-1])


def decimals(value: float) -> int:
    """Return how many decimals a measured number is worth."""
    return 3 if value < 0.1 else 2 if value < 10 else 1 if value < 100 else 0


def plain(text: object, longest: int = _LONGEST) -> str:
    """Return `text` on one line without control, formatting or unprintable characters, cut to `longest`.

    It is not markup: hand it to Rich inside a `Text`.
    """
    written = str(text)[: 4 * longest]
    if not written.isprintable() or "  " in written:
        written = " ".join("".join(letter if letter.isprintable() else " " for letter in written).split())
    return written if len(written) <= longest else written[: longest - 1] + "…"


def markdown_text(text: object, longest: int = 400) -> str:
    """Return `text` so that a Markdown table shows it literally."""
    return _MARKDOWN.sub(lambda found: found[1] or f"\\{found[2]}", plain(text, longest))


def cell_text(text: str) -> str:
    """Return `text` so that a spreadsheet takes it for text and never for a formula."""
    written = plain(text)
    return f"'{written}" if written.startswith(_FORMULA) else written
