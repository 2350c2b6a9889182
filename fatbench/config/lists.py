"""Lists as people write them: seeds "0-4,7", radii "4/255,8/255", methods "trades,bs-trades" or "all"."""

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from fatbench.config.parsing import parse_eps
from fatbench.io.safe_read import path_exists

ALL = "all"  # of fatbench's own methods
_MOST = 1000  # seeds; more of them are a slip of the pen
_SEEDS = re.compile(r"\s*(-?[0-9]{1,20})\s*(?:-\s*([0-9]{1,20})\s*)?")


def parse_seeds(text: str) -> list[int]:
    """Return the seeds in "0,1,2", "0-4" or "0,3-5", each once.

    Raises:
        ValueError: they are not whole numbers, run backwards, or are too many.
    """
    found: dict[int, None] = {}
    for part in text.split(","):
        match = _SEEDS.fullmatch(part)
        if not match:
            raise ValueError(f"--seeds takes whole numbers such as 0,1,2 or ranges such as 0-4, not '{text:.40}'")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise ValueError(f"--seeds {part.strip()} runs backwards: write {last}-{first}")
        if last - first + 1 + len(found) > _MOST:
            raise ValueError(f"--seeds {text:.40} are more than {_MOST} seeds: name fewer")
        found |= dict.fromkeys(range(first, last + 1))
    return list(found)


def parse_radii(value: object) -> list[str]:
    """Return each eps in "4/255,8/255", in a list of such texts, or a single number, as `parse_eps` writes it, once.

    Raises:
        ValueError: one is none.
    """
    given = value if isinstance(value, (list, tuple)) else [value]
    parts = [part for one in given for part in (one.split(",") if isinstance(one, str) else [one])]
    return list(dict.fromkeys(map(parse_eps, parts)))


def method_names(texts: Iterable[str], every: Callable[[], Sequence[str]]) -> list[str]:
    """Return each method named in texts such as "trades,bs-trades" or "all", once; a file's name may hold a comma."""
    parts = [part.strip() for text in texts for part in ([text] if path_exists(Path(text)) else text.split(","))]
    return list(dict.fromkeys(name for part in parts for name in (every() if part == ALL else [part])))
