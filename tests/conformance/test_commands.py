"""`fatbench check-method` and `fatbench new-method`, as a user meets them."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fatbench import methods
from tests.cli.conftest import TINY, Said, fatbench
from tests.conformance.mutants import BEFORE, BODY, HEAD

__all__ = ["fatbench"]
Fatbench = Callable[..., Said]
CONTRACT, USAGE = 3, 2


@pytest.fixture
def mutant(tmp_path: Path) -> Callable[[str], str]:
    def write(line: str) -> str:
        (tmp_path / "mutant.py").write_text(HEAD + BODY.replace(BEFORE, line))
        return "./mutant.py"

    return write


def test_one_method_is_told_of_check_by_check(fatbench: Fatbench) -> None:
    said = fatbench("check-method", "fgsm-rs")
    assert said.code == 0
    assert "resume" in said.out
    assert "2 forward, 2 to inputs, 1 to weights" in said.out
    assert "5 passes per optimiser step (2 + 2 + 1" in said.out
    assert "FAILED" not in said.out
    assert not said.err.strip()


def test_several_methods_are_a_line_each_and_those_that_fail_are_told_in_full(
    fatbench: Fatbench, mutant: Callable[[str], str]
) -> None:
    said = fatbench("check-method", "standard", mutant("    model.eval()\n"), "standard")
    assert said.code == CONTRACT
    lines = said.out.splitlines()
    assert [line.split()[-1] for line in lines if line.startswith("standard")] == ["ok"]
    assert [line for line in lines if line.startswith("mutant") and "FAILED: modes" in line]
    assert "is in another mode at a yield" in said.out


def test_json_is_for_machines(fatbench: Fatbench, mutant: Callable[[str], str]) -> None:
    said = fatbench("check-method", mutant("    print('hello'); 1 / 0\n"), "trades", "--json")
    own, trades = json.loads(said.out)
    assert said.code == CONTRACT
    assert (own["method"], own["ok"], own["facts"]) == ("mutant", False, None)
    assert own["findings"][0]["detail"] == "ZeroDivisionError at mutant.py:21: division by zero"
    assert trades["ok"]
    assert trades["facts"]["units"] == 27
    assert {"check": "ball and box", "status": "declared"}.items() <= trades["findings"][2].items()
    assert "hello" in said.err
    assert "Traceback" not in said.err


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("check-method",), "which method? Give names, paths of .py files, or --all"),
        (("check-method", "fgsm-sr"), "no method 'fgsm-sr': there are "),
        (("check-method", "fgsm-rs", "./gone.py"), "no method file ./gone.py"),
        (("check-method", "./broken.py"), "broken.py is not valid Python"),
        (("check-method", "./far.py"), "far.py: REACH is a number of eps, at least 1, not 'far'"),
        (("check-method", "./lacking.py"), "lacking.py fails to import: ModuleNotFoundError"),
        (("new-method", "9lives"), "'9lives' cannot be a method's name: take letters, digits and -, as my-idea"),
        (("new-method", "../up"), "'../up' cannot be a method's name"),
        (("new-method", "class"), "'class' cannot be a method's name"),
        (("new-method", "_mine"), "'_mine' cannot be a method's name"),
        (("new-method", "bs-trades"), "fatbench has a method 'bs-trades': choose another name"),
        (("new-method", "Losses"), "'Losses' means something else in a method's file: choose another name"),
        (("new-method", "random"), "there is a Python module 'random', which random.py would hide"),
        (("new-method", "broken"), "broken.py is there already: choose another name, or remove it"),
    ],
)
def test_mistakes_are_one_line(fatbench: Fatbench, tmp_path: Path, arguments: tuple[str, ...], line: str) -> None:
    (tmp_path / "broken.py").write_text("def broken(:\n")
    (tmp_path / "far.py").write_text("REACH = 'far'\ndef far(model, batch, ctx):\n    yield 0\n")
    (tmp_path / "lacking.py").write_text("import no_such_thing\ndef lacking(model, batch, ctx):\n    yield 0\n")
    before = sorted(path.name for path in tmp_path.iterdir())
    said = fatbench(*arguments)
    assert line in said.complaint
    assert said.code == USAGE
    assert sorted(path.name for path in tmp_path.iterdir()) == before


# A file to start from


def test_a_new_method_passes_every_check_and_trains(fatbench: Fatbench, tmp_path: Path) -> None:
    said = fatbench("new-method", "my-first-idea", "-o", "ideas")
    assert said.code == 0
    assert "fatbench check-method ./ideas/my_first_idea.py" in said.out
    (path,) = (tmp_path / "ideas").iterdir()
    assert path.read_text().count("my_first_idea") == 1
    checked = fatbench("check-method", "ideas/my_first_idea.py", "--json")
    assert checked.code == 0, checked.out
    assert {finding["status"] for finding in json.loads(checked.out)[0]["findings"]} == {"ok"}
    assert fatbench("run", "--method", "./ideas/my_first_idea.py", *TINY).code == 0
    assert methods.describe(str(path)).name == "my-first-idea"


def test_a_new_method_never_takes_the_place_of_a_file(fatbench: Fatbench, tmp_path: Path) -> None:
    fatbench("new-method", "mine")
    (tmp_path / "mine.py").write_text("precious")
    assert fatbench("new-method", "mine").code == USAGE
    assert (tmp_path / "mine.py").read_text() == "precious"


def test_neither_a_new_method_nor_a_mistake_waits_for_torch(tmp_path: Path) -> None:
    for arguments, code in ((["new-method", "mine"], 0), (["check-method", "nobodys"], USAGE)):
        script = (
            "import sys; sys.modules.update(torch=None, torchvision=None)\n"
            f"sys.argv = {['fatbench', *arguments]!r}\n"
            "from fatbench.cli import main; main()"
        )
        done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == code, done.stderr
