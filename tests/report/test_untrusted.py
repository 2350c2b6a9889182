"""Records are untrusted: nothing in them is interpreted by a terminal, a page or a spreadsheet."""

import csv
import io

import pytest
from rich.console import Console

from fatbench.record.parts import Diagnostics, Finding, Masking
from fatbench.report import render
from fatbench.report.comparison import compare, with_pairs
from fatbench.report.formats import cell_text, markdown_text, plain
from fatbench.report.regression import check
from fatbench.report.render.panel import panel
from fatbench.report.run import Run
from fatbench.report.thresholds import parse_threshold

from .records import DATA, MACHINE, event, external, probe, record, score, selected

EVIL = "[red]x[/red]\x1b[31m\x1b]0;owned\x07\u202e\r\n| a | <b> [l](http://x) :smile:"


def hostile():
    """Return a record with the worst in every field that takes free text."""
    fields = {
        "created": EVIL,
        "error": EVIL,
        "memory": {EVIL: 1},
        "events": [event(EVIL, detail=EVIL)],
        "history": [probe(1, 2, 3).model_copy(update={"scores": {EVIL: score(1)}})],
        "scores": {
            EVIL: score(
                1,
                survivors={EVIL: 1},
                part_seconds={EVIL: 1.0},
                warnings=[EVIL],
                attack={"version": EVIL, "precision": EVIL},
            )
        },
        "diagnostics": Diagnostics(
            findings=[Finding(code=EVIL, detail=EVIL, evaluation=EVIL)],
            masking=Masking(verdict="suspect", reasons=[EVIL]),
        ),
        **selected(on=EVIL, last_scores={EVIL: score(1)}),
        "artefacts": {EVIL: EVIL, "samples": EVIL},
    }
    machine = MACHINE.model_copy(update={"device": EVIL, "torch": EVIL, "cuda": EVIL, "commit": EVIL, "fatbench": EVIL})
    data = DATA.model_copy(update={"name": EVIL, "sha256": EVIL})
    names = {"method": EVIL, "model": EVIL, "dataset": EVIL}
    asked = {"checkpoint": EVIL, "normalize": ((0.5,), (0.2,))}
    return record(
        **names, **asked, hyper={EVIL: EVIL, "beta": 1}, machine=machine, data=data, source=EVIL, fields=fields
    )


def groups():
    """Return groups in which every label, note and heading shows what it can of that record."""
    torch = MACHINE.model_copy(update={"device": EVIL, "torch": "2"})
    other = DATA.model_copy(update={"sha256": "\x1b" * 8})
    twin = hostile().model_copy(update={"method": hostile().method.model_copy(update={"sha256": "\x1b[1m"})})
    settings = {"environment": torch, "spec": hostile().spec.model_copy(update={"hyper": {EVIL: "\x1b[2J"}})}
    return compare([hostile(), hostile(), twin, hostile().model_copy(update=settings), record(data=other)])


def printed(*renderables):
    console = Console(width=100, file=io.StringIO(), force_terminal=True, color_system=None)
    for one in renderables:
        console.print(one)
    return console.file.getvalue()


def everything():
    """Return those groups with their seeds and pairs, and checks against themselves."""
    runs = [Run(hostile()), Run(external(checkpoint=EVIL))]
    return with_pairs(groups()), check(runs, runs[:1], [parse_threshold("train_seconds:+1%")])


def harmless(text):
    return all(letter.isprintable() or letter == "\n" for letter in text)


def test_a_terminal_gets_only_text():
    for text in (printed(*render.tables(groups())), printed(panel(hostile(), None))):
        assert harmless(text)
        assert "[red]x[/red]" in text
        assert ":smile:" in text
        assert "😄" not in text  # Rich puts it wherever it takes text for markup


@pytest.mark.parametrize("form", [render.markdown, render.csv, render.json])
def test_a_file_gets_only_text(form):
    assert harmless(form(groups()))


def test_pairs_seeds_and_checks_are_only_text():
    found, checks = everything()
    for text in (
        printed(*render.tables(found, per_seed=True)),
        printed(panel(external(checkpoint=EVIL, fields={"error": EVIL}))),
        render.markdown(found, per_seed=True, checks=checks),
        render.json(found, per_seed=True, checks=checks),
        render.csv(found),
        render.csv(groups(), per_seed=True),
        "".join(map(str, checks)),
    ):
        assert harmless(text)
        assert "\x1b" not in text


def test_a_page_gets_its_table_and_no_more():
    lines = render.markdown(groups()).splitlines()
    tables = [line for line in lines if line.startswith("|")]
    bars = [line.replace("\\|", "").count("|") for line in tables]
    assert len(set(bars)) <= 2  # one group with a status column and one without
    assert not any("[l](http" in line or "<b>" in line.replace("\\<b\\>", "") for line in lines)


def test_a_spreadsheet_gets_no_formula():
    machine = MACHINE.model_copy(update={"device": "=HYPERLINK(0)"})
    [line] = csv.DictReader(io.StringIO(render.csv(compare([record(machine=machine)]))))
    assert line["device"] == "'=HYPERLINK(0)"


def test_a_score_may_not_pose_as_another_column():
    fields = {"scores": {"train-seconds": score(1), "clean": score(2)}}
    [line] = csv.DictReader(io.StringIO(render.csv(compare([record(fields=fields)]))))
    assert line["train_seconds_mean"] == "3.0"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain words", "plain words"),
        ("tab\tand\nline", "tab and line"),
        ("a\x1b[0mb", "a [0mb"),
        ("\ud800\u200b\u2028", ""),
        ("Ünïcode 漢字", "Ünïcode 漢字"),
        ("x" * 10**6, "x" * 119 + "…"),
        (12, "12"),
    ],
)
def test_plain(text, expected):
    assert plain(text) == expected


def test_markdown_is_escaped_but_intervals_are_read_often():
    assert markdown_text("94.4 [91.6, 96.4] [x](y) a|b `c` *d*") == (r"94.4 [91.6, 96.4] \[x\](y) a\|b \`c\` \*d\*")


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x"])
def test_formulas_are_quoted(text):
    assert cell_text(text) == f"'{text}"
