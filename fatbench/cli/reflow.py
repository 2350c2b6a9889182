"""Text that was wrapped for a source file, wrapped anew for a terminal."""

import re
import textwrap
from collections.abc import Iterator
from typing import NamedTuple

_ENTRY = re.compile(r"[A-Za-z_]\w*:(?: |$)")  # "Differences: ...", or "alpha: ..." in a list
_HANGING = 4  # columns by which the later lines of an entry are set in


class _Block(NamedTuple):
    indent: int
    words: list[str]

    @property
    def is_entry(self) -> bool:
        return bool(self.words) and self.words[0].endswith(":")


def reflowed(text: str, width: int) -> str:
    """Return a docstring with paragraphs and entries of lists as wide as `width`; no word is broken."""
    return "\n".join(
        hanging(" ".join(block.words), width, block.indent, _HANGING * block.is_entry) for block in _blocks(text)
    )


def hanging(text: str, width: int, indent: int = 0, by: int = _HANGING) -> str:
    """Return one paragraph wrapped at `width`, its later lines set in by so many columns more; no word is broken."""
    first, later = " " * indent, " " * (indent + by)
    return textwrap.fill(
        text, width, initial_indent=first, subsequent_indent=later, break_long_words=False, break_on_hyphens=False
    )


def _blocks(text: str) -> Iterator[_Block]:
    """Yield paragraphs, and entries such as "name: meaning" with what is set in below them; an empty line as such."""
    block = _Block(0, [])
    for line in text.splitlines():
        indent, words = len(line) - len(line.lstrip()), line.split()
        bare = len(block.words) == 1 and block.is_entry  # a heading, such as "Args:"
        inside = indent > block.indent if block.is_entry else indent == block.indent
        if not words or not block.words or bare or not inside or (indent == block.indent and _is_entry(line, indent)):
            if block.words:
                yield block
            if not words:
                yield _Block(0, [])
            block = _Block(indent, words)
        else:
            block.words.extend(words)
    if block.words:
        yield block


def _is_entry(line: str, indent: int) -> bool:
    return bool(_ENTRY.match(line.strip())) and (indent > 0 or line[:1].isupper())
