"""Damaged, strange and malicious presets and methods. Methods are code that the user names; presets never are."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from . import specimens
from .conftest import Answer
from .damage import Write, damaged, foreign, no_files, truncated

KEYS = ("method", "dataset", "model", "norm", "eps", "epochs", "lr", "schedule", "batch_size", "pad", "flip", "threads")
KEYS += ("precision", "evaluate", "time_budget", "autoattack_samples", "momentum", "weight_decay")
VALUES = ("-1", "1e999", "nan", "[]", "{}", "true", '""', '"\\u0000"', '"\\u202e/x"', f'"{"x/" * 3000}"', "9" * 500)
VALUES += ("2026-01-01", '"../../etc/passwd"', '"/dev/zero"', "[" + '"clean",' * 5000 + "]", "9223372036854775807")


def odd_values() -> Iterator[tuple[str, bytes]]:
    for k, key in enumerate(KEYS):
        for turn in (0, 5, 10):
            value = VALUES[(k + turn) % len(VALUES)]
            lines = [line for line in specimens.PRESET.splitlines() if not line.startswith(f"{key} ".encode())]
            yield f"{key}={value[:12]}", b"\n".join([f"{key} = {value}".encode(), *lines])


PRESETS = {**dict(damaged(specimens.PRESET, 8)), **dict(odd_values())}
REFUSED = {
    "deep": b"method = " + b"[" * 10**5 + b"]" * 10**5,
    "deep-tables": b"[" + b"a." * 10**4 + b"a]",
    "deep-inline": b"method = " + b"{a=" * 10**4,
    "long-number": b"epochs = " + b"9" * 10**4,
    "twice": b'method = "fgsm"\nmethod = "standard"',
    "half-surrogate": b'method = "\\ud800"',
    "unknown": b'run = "rm -rf"',
    "large": b"# " + b"x" * 2**21,
}
METHODS = {
    **dict(truncated(specimens.METHOD, 8)),
    **{name: content for name, content in foreign(specimens.METHOD) if name != "byte-order-mark"},
    "deep": b"x = " + b"(" * 10**4 + b")" * 10**4,
    "deep-sum": b"x = " + b"-" * 10**5 + b"1",
    "long-number": b"x = " + b"9" * 10**4,
    "latin-1": b"# -*- coding: latin-1 -*-\n# \xe9\n" + specimens.METHOD,
    "unknown-encoding": b"# -*- coding: nonsense -*-\n" + specimens.METHOD,
    "odd-norms": specimens.METHOD + b"NORMS = [{}]\n",
    "odd-default": specimens.METHOD.replace(b"1.0", b"1e999"),
    "odd-annotation": specimens.METHOD.replace(b"float", b"list[float]"),
    "no-docstring": specimens.METHOD.replace(b'"""', b'"'),
    "class": b"class mine: pass",
    "async": b"async def mine(model, batch, ctx): yield 0",
    "lambda": b"mine = lambda model, batch, ctx: 0",
}


@pytest.mark.parametrize("name", PRESETS)
def test_damaged_presets(answer: Answer, tmp_path: Path, name: str) -> None:
    (tmp_path / "bad.toml").write_bytes(PRESETS[name])
    answer("run", "--preset", "bad.toml", "--dry-run")


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_preset_is_refused(answer: Answer, tmp_path: Path, name: str) -> None:
    (tmp_path / "bad.toml").write_bytes(REFUSED[name])
    answer("run", "-m", "fgsm", "--preset", "bad.toml", refused=True)


@pytest.mark.parametrize(("name", "write"), list(no_files()))
@pytest.mark.parametrize("kind", ["toml", "py"])
def test_what_is_no_file(answer: Answer, tmp_path: Path, name: str, write: Write, kind: str) -> None:
    write(tmp_path / f"bad.{kind}")
    given = {"toml": ("-m", "fgsm", "--preset", "bad.toml"), "py": ("-m", "./bad.py")}[kind]
    answer("run", *given, refused=True)


@pytest.mark.parametrize(("name", "write"), list(no_files()))
def test_a_model_that_is_no_file(answer: Answer, tmp_path: Path, name: str, write: Write) -> None:
    write(tmp_path / "bad.py")
    answer("run", "-m", "fgsm", "--model", "./bad.py:net", "--quiet", refused=True)


@pytest.mark.parametrize("name", METHODS)
def test_damaged_methods(answer: Answer, tmp_path: Path, name: str) -> None:
    (tmp_path / "mine.py").write_bytes(METHODS[name])
    for arguments in (("show", "mine.py"), ("run", "-m", "./mine.py", "--dry-run")):
        answer(*arguments)
    answer("run", "-m", "./mine.py", "--epochs", 1, "--limit-train", 130, "--eval", "none", "--calibration", 0, "-q")


def test_nothing_of_a_method_runs_before_it_is_run(answer: Answer, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_bytes(b"open('ran', 'w')\n" + specimens.METHOD)
    answer("show", "mine.py")
    answer("run", "-m", "./mine.py", "--dry-run")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["x" * 5000, "x/" * 3000, "\udcff", " ", "-", "~", "*", "a:b:c", "..", "\u202e"])
@pytest.mark.parametrize("flag", ["--method", "--dataset", "--model", "--preset", "--data-dir"])
def test_odd_names(answer: Answer, name: str, flag: str) -> None:
    rest = () if flag == "--method" else ("--method", "fgsm")
    dataset = ("--dataset", "cifar10") if flag == "--data-dir" else ()
    answer("run", f"{flag}={name}", *rest, *dataset, "--epochs", 1, "--eval", "none", "-q", lacking=bool(dataset))
    answer("compare", name)
    answer("show", f"{name}.json")
