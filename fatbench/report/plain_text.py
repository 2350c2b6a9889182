"""Text out of records, which are untrusted, made fit to print."""

import re

_LONGEST = 120
_MARKDOWN = re.compile(r"(\[-?\d+\.\d, -?\d+\.\d\])|([\\`*\[\]<>|&])")  # an interval is no link
_FORMULA = ("=", "+", "-", "@")


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
