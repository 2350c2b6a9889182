"""What holds the package together: no circles of imports, and one place for an option."""

import json
import shutil
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[1]


def circle(package: str) -> list[str]:
    """Return modules of the package that import one another in a circle; imports inside functions count."""
    graph = grimp.build_graph(package, cache_dir=None)
    imports = {one: graph.find_modules_directly_imported_by(one) - {package} for one in graph.modules - {package}}
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        found: list[str] = error.args[1]
        return found
    return []


def test_no_modules_import_one_another_in_a_circle() -> None:
    assert circle("fatbench") == []


@pytest.mark.parametrize("inside", ["", "    "], ids=["at the top", "in a function"])
def test_a_planted_circle_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inside: str) -> None:
    folder = tmp_path / "planted" / "part"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").touch()
    (folder / "__init__.py").touch()
    (folder / "one.py").write_text("from planted.part.two import x\n")
    (folder / "two.py").write_text(
        "def f():\n    from planted.part.three import x\n" if inside else "import planted.part.three\n"
    )
    (folder / "three.py").write_text(
        "def f():\n    from planted.part import one\n" if inside else "from planted.part import one\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert {one.rpartition(".")[2] for one in circle("planted")} == {"one", "two", "three"}


OPTION = """    foo: Annotated[float | None, Field(gt=0), Option("A foo.", Section.OPTIMISATION)] = None
    method_source: str | None = None"""


def test_an_option_is_written_in_one_place(tmp_path: Path) -> None:
    """A field of the spec reaches `run`, its help, presets, the record, the panel and the labels of `compare`."""
    shutil.copytree(ROOT / "fatbench", tmp_path / "fatbench", ignore=shutil.ignore_patterns("__pycache__"))
    spec = tmp_path / "fatbench" / "config" / "spec.py"
    source = spec.read_text()
    assert source.count("    method_source: str | None = None") == 1
    spec.write_text(source.replace("    method_source: str | None = None", OPTION))
    (tmp_path / "mine.toml").write_text("foo = 3.0\n")

    def fatbench(*arguments: str, code: int = 0) -> str:
        command = [sys.executable, "-m", "fatbench", *arguments]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == code, done.stderr
        return done.stdout if code == 0 else done.stderr

    run = ("run", "-m", "fgsm", "--epochs", "1", "--limit-train", "256", "--eval", "clean", "--calibration", "0", "-q")
    assert "--foo" in fatbench("run", "--help")
    assert "added" in (panel := fatbench(*run, "--foo", "2.5"))
    assert "foo 2.5" in panel
    (record,) = json.loads(fatbench(*run, "--preset", "mine.toml", "--json"))
    assert record["spec"]["train"]["foo"] == 3.0
    assert {"fgsm foo=2.5", "fgsm foo=3"} <= set(fatbench("compare", "results", "--format", "csv").split(","))
    assert "--foo must be more than 0, not -1.0" in fatbench(*run, "--foo", "-1", code=2)
