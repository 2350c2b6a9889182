"""`fatbench show` and `fatbench list` say what sources and presets say, in the width of the terminal."""

import json
import re
import tomllib
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from fatbench import data, methods, models
from fatbench.cli.reflow import reflowed
from fatbench.config import presets
from tests.cli.conftest import Said

Fatbench = Callable[..., Said]
ROOT = Path(__file__).parents[2]
DOCSTRING = """MINE: a title (Me et al., ICLR 2020).

One long paragraph that goes on
and on, past the end of its line.

Args:
    alpha: step size, in units
        of eps.
    beta: a weight.

Memory: two images.
Differences: the authors do not do
    this.
"""


def test_paragraphs_and_lists_are_wrapped_anew() -> None:
    assert reflowed(DOCSTRING, 30).splitlines() == [
        "MINE: a title (Me et al., ICLR",
        "    2020).",
        "",
        "One long paragraph that goes",
        "on and on, past the end of its",
        "line.",
        "",
        "Args:",
        "    alpha: step size, in units",
        "        of eps.",
        "    beta: a weight.",
        "",
        "Memory: two images.",
        "Differences: the authors do",
        "    not do this.",
    ]
    assert "One long paragraph that goes on and on, past the end of its line." in reflowed(DOCSTRING, 80).splitlines()
    assert reflowed("of a-word-that-is-longer-than-the-line", 10).splitlines() == [
        "of",
        "a-word-that-is-longer-than-the-line",
    ]


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("method", methods.built_in())
def test_a_method_fits_the_terminal_and_no_word_is_broken(
    fatbench: Fatbench, monkeypatch: pytest.MonkeyPatch, method: str, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    lines = fatbench("show", method).out.splitlines()
    assert max(map(len, lines)) <= width
    docstring = methods.describe(method).docstring
    words = [re.escape(word) for word in re.sub(r"Args:\n(?: .*\n|\n(?= ))*", "", docstring).split()]
    assert re.search(r"\s+".join(words), "\n".join(lines))
    meanings = {word for one in methods.describe(method).hyper.values() for word in one.meaning.split()}
    assert meanings <= set(" ".join(lines).split())
    text = lines[1 : next(k for k, line in enumerate(lines) if line.startswith(("hyper-parameters", "passes per")))]
    for line, later in pairwise(text):  # a line is full, or ends a paragraph
        started = not later.strip() or re.match(r"[A-Z]\w+:( |$)", later)
        assert started or not line or len(line) + 1 + len(later.split()[0]) > width


@pytest.mark.parametrize("name", presets.names())
def test_a_preset_is_shown_with_its_source_and_all_that_it_sets(fatbench: Fatbench, name: str) -> None:
    out = fatbench("show", name).out
    content = presets.load(name)
    settings = next(block for block in out.split("\n\n") if re.match(r"[a-z_]+ = ", block))
    assert tomllib.loads(settings) == {
        key: value for key, value in content.items() if key not in ("tracks", "published", "source")
    }
    squeezed = " ".join(out.split())
    comment = re.match("(#.*\n)+", (presets.FOLDER / f"{name}.toml").read_text())
    assert comment
    assert " ".join(re.sub("^#", "", comment[0], flags=re.M).split()) in squeezed
    for text in [presets.track_in_words(track) for track in content.get("tracks", [])]:
        assert text in squeezed
    assert ("source: " in out) is ("source" in content)
    assert max(map(len, out.splitlines())) <= 100


def test_a_method_or_preset_of_her_own_is_only_text(fatbench: Fatbench, tmp_path: Path) -> None:
    docstring = '"""Mine [red] \x1b[31m.\n\n    Args:\n        word: \x1b[2J.\n    """'
    (tmp_path / "mine.py").write_text(
        f'def mine(model, batch, ctx, *, word: str = "\\x1b"):\n    {docstring}\n    yield 1'
    )
    shown = fatbench("show", "mine.py").out
    assert "Mine [red]" in shown
    assert "\x1b" not in shown
    (tmp_path / "mine.toml").write_text('# Mine [red].\nsource = "\\u001b[31mred"\n[hyper."\\u001b[1mx"]\na = 1\n')
    said = fatbench("show", "mine.toml")
    assert said.out.splitlines()[:2] == ["mine.toml (preset)", "Mine [red]."]
    assert "\x1b" not in said.out
    (tmp_path / "bad.toml").write_text("lr =")
    assert fatbench("show", "bad.toml").complaint.startswith("bad.toml is not valid TOML")
    assert fatbench("show", "gone.toml").complaint.startswith("cannot read gone.toml: No such file")


def test_a_name_of_several_things_shows_them_all_and_of_none_says_so(fatbench: Fatbench) -> None:
    assert re.findall(r"^(\S+) \((\w+)\)$", fatbench("show", "digits").out, re.MULTILINE) == [
        ("digits", "dataset"),
        ("digits", "preset"),
    ]
    for name in (*data.names(), *models.names()):
        assert f"fatbench run --{'model' if name in models.names() else 'dataset'} {name}" in fatbench("show", name).out
    assert fatbench("show", "nope").complaint.startswith(
        "no result 'nope' in results, nor a preset, dataset or model; no method 'nope': there are aaer, "
    )


def test_methods_are_listed_with_what_their_sources_declare(fatbench: Fatbench) -> None:
    out = fatbench("list", "methods").out.splitlines()
    assert out[0].split() == ["name", "kind", "passes", "year", "what", "it", "is"]
    found = {one["name"]: one for one in json.loads(fatbench("list", "methods", "--json").out)}
    counted = re.findall(r"^\| (\S+) \| .* \| ([0-9.]+) \| [0-9.]+ \+ ", (ROOT / "docs/methods.md").read_text(), re.M)
    assert {name: f"{round(one['passes'], 2):g}" for name, one in found.items()} == dict(counted)  # by check-method
    kinds = {kind: {name for name, one in found.items() if one["kind"] == kind} for kind in ("no attack", "free")}
    assert kinds == {"no attack": {"standard"}, "free": {"free-at"}}
    assert {name for name, one in found.items() if one["kind"] == "multi-step"} == {"pgd-at", "trades", "mart"}
    recipes = {method: int(re.findall(r"[0-9]{4}", preset)[0]) for method, preset in presets.recipes().items()}
    uncited = {"bs-at": None, "standard": None, "fgsm": 2015, "pgd-at": 2018}  # whose recipe is Rice et al.'s
    assert {name: one["year"] for name, one in found.items()} == recipes | uncited


@pytest.mark.parametrize("kind", ["datasets", "models", "presets"])
def test_the_other_lists_have_headings_and_json_too(fatbench: Fatbench, kind: str) -> None:
    out = fatbench("list", kind).out
    assert out.splitlines()[0].split() == ["name", "what", "it", "is"]
    found = json.loads(fatbench("list", kind, "--json").out)
    assert all(one["name"] in out and " ".join(one["title"].split()[:3]) in out for one in found)
