"""Damaged, strange and malicious records."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from . import specimens
from .conftest import USAGE, Answer
from .damage import Write, damaged, no_files

SOUND = specimens.record_content()
STRANGE = ("null", '"\\u202e\\u0000[red]x"', "-1", "1e999", "NaN", "1" * 5000, "[]", "{}", "true", "0.5")
STRANGE += (f'"{"A" * 10**5}"', "-1e-320", "18446744073709551616")
Key = str | int


def leaves(node: Any, path: tuple[Key, ...] = ()) -> Iterator[tuple[Key, ...]]:
    """Yield the way to every value of a record that holds no others, and to every one that does."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from leaves(value, (*path, key))


def replaced(path: tuple[Key, ...], literal: str) -> bytes:
    """Return the sound record with `literal` where the path leads."""
    whole = json.loads(SOUND)
    node = whole
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = "a place"
    return json.dumps(whole).replace('"a place"', literal).encode()


def odd_values() -> Iterator[tuple[str, bytes]]:
    for k, path in enumerate(leaves(json.loads(SOUND))):
        for turn in (0, 5):
            literal = STRANGE[(k + turn) % len(STRANGE)]
            yield f"{'.'.join(map(str, path))}={literal[:12]}", replaced(path, literal)


def with_fields(**fields: Any) -> bytes:
    return json.dumps(json.loads(SOUND) | fields).encode()


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


TWICE = SOUND.replace(b'"status":', b'"status": "failed", "status":', 1)
REFUSED = {
    **{f"schema-{k}": with_fields(schema=one) for k, one in enumerate((0, -1, 99, 2**70, "3", None, [3], 1.5, {}))},
    "schema-of-5000-digits": replaced(("schema",), "9" * 5000),
    "deep": nested(10**6).encode(),
    "deep-inside": replaced(("error",), nested(10**5)),
    "deep-object": ('{"schema":' * 10**5).encode(),
    "utf-16": SOUND.decode().encode("utf-16"),
    "half-surrogate": replaced(("error",), r'"\ud800"'),
    "two-records": SOUND + SOUND,
    "lines-of-records": b"\n".join([SOUND, SOUND]),
    "a-list": b"[" + SOUND + b"]",
    "python": SOUND.replace(b"null", b"None"),
    "comments": b"// mine\n" + SOUND,
    "more-right-than-shown": with_fields(scores={"clean": {"correct": 11, "total": 10}}),
    "negative-time": with_fields(timing={"train": -1.0}),
    "unknown-field": with_fields(evil="x"),
    "id-upwards": with_fields(id="../../etc/passwd"),
    "field-outside-its-part": with_fields(spec={"train": None, "epochs": 1}),
    "eps-as-code": with_fields(spec=json.loads(SOUND)["spec"] | {"eps": "__import__('os')"}),
    "eps-of-9999-digits": with_fields(spec=json.loads(SOUND)["spec"] | {"eps": "9" * 9999}),
    "eps-a-list": with_fields(spec=json.loads(SOUND)["spec"] | {"eps": [8]}),
    "eps-huge": replaced(("spec", "eps"), "1" * 5000),
}
ARTEFACTS = {
    "upwards": "../../../../etc/passwd",
    "absolute": "/etc/passwd",
    "windows": "..\\..\\secret",
    "drive": "C:\\secret",
    "null": "a\0b",
    "long": "x" * 5000,
    "longer": "x/" * 5000,
    "empty": "",
    "itself": "bad.json",
    "dot": ".",
    "device": "/dev/zero",
    "home": "~/secret",
    "url": "http://127.0.0.1:9/x.npz",
    "unicode": "\u202egpj.\u200b",
}
CONTENTS = {**dict(damaged(SOUND, 16)), **dict(odd_values()), "twice": TWICE}


def ask(answer: Answer, folder: Path, *, refused: bool) -> None:
    """Put bad.json, which lies beside a sound record, to every command that reads records."""
    other = specimens.put_record(folder)
    (folder / "bad").mkdir(exist_ok=True)
    (folder / "bad" / "model.safetensors").write_bytes(specimens.safetensors_file())
    beside = answer("compare", "bad.json", other.name, refused=refused)
    assert "fgsm-rs" in beside.out or not refused  # the table of the rest
    codes = {
        beside.code,
        answer("compare", "--paired", "--per-seed", "bad.json", other.name, "--format", "json", refused=refused).code,
        answer("compare", other.name, "--baseline", "bad.json", "--fail-if", "clean:-1pp", refused=refused).code,
        answer("show", "bad.json", refused=refused).code,
    }
    answer("eval", "bad/model.safetensors", "--dry-run")  # asks the record beside the weights
    if refused:
        assert codes == {USAGE}


@pytest.mark.parametrize("name", CONTENTS)
def test_damaged_records(answer: Answer, tmp_path: Path, name: str) -> None:
    (tmp_path / "bad.json").write_bytes(CONTENTS[name])
    ask(answer, tmp_path, refused=False)


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_record_is_refused(answer: Answer, tmp_path: Path, name: str) -> None:
    (tmp_path / "bad.json").write_bytes(REFUSED[name])
    ask(answer, tmp_path, refused=True)


@pytest.mark.parametrize(("name", "write"), list(no_files()))
def test_what_is_no_file(answer: Answer, tmp_path: Path, name: str, write: Write) -> None:
    write(tmp_path / "bad.json")
    refused = name not in ("folder", "link-to-folder")  # of records, which may be empty
    ask(answer, tmp_path, refused=refused)


@pytest.mark.parametrize("name", ARTEFACTS)
def test_outcomes_are_sought_below_the_record_only(answer: Answer, tmp_path: Path, name: str) -> None:
    (tmp_path / "bad.json").write_bytes(with_fields(artefacts={"samples": ARTEFACTS[name], "weights": ARTEFACTS[name]}))
    said = answer("compare", "--paired", "bad.json", specimens.put_record(tmp_path).name)
    assert "root:" not in said.out + said.err
    answer("show", "bad.json")


@pytest.mark.parametrize(
    "link", [lambda path: path.symlink_to("/etc"), lambda path: path.symlink_to("bad"), lambda path: path.mkdir()]
)
def test_a_folder_of_outcomes_that_leads_elsewhere(
    answer: Answer, tmp_path: Path, link: Callable[[Path], None]
) -> None:
    link(tmp_path / "bad")
    (tmp_path / "bad.json").write_bytes(with_fields(artefacts={"samples": "bad/passwd"}))
    answer("compare", "--paired", "bad.json", specimens.put_record(tmp_path).name)


def test_a_folder_of_everything(answer: Answer, fatbench: Answer, tmp_path: Path) -> None:
    """An untrusted results folder: the first that is no record is named; beside one that is, each is."""
    strange = list(no_files())
    for k, (_, write) in enumerate(strange):
        write(tmp_path / f"{k}.json")
    assert "nor can the" in answer("compare", tmp_path, refused=True).complaint
    specimens.put_record(tmp_path)
    said = fatbench("compare", tmp_path)
    assert (said.code, said.err.count("fatbench: left out: cannot read")) == (
        USAGE,
        len(list(tmp_path.glob("*.json"))) - 1,
    )
    assert "fgsm-rs" in said.out
