"""Methods that installed packages bring: found by entry points, read without being run, harmless when damaged."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fatbench import methods
from fatbench.conformance.checking import check
from fatbench.errors import UsageError
from tests.cli.conftest import TINY, Said, fatbench
from tests.conformance.mutants import BODY, HEAD

__all__ = ["fatbench"]
Fatbench = Callable[..., Said]
Install = Callable[..., Path]
SOURCE = f"from .words import TITLE\n{HEAD}{BODY}"


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Install a package with the method `mutant` in stranger/mutant.py, whose entry points are given."""
    site = tmp_path / "site"
    monkeypatch.syspath_prepend(site)

    def put(*entries: str, source: str = SOURCE, package: str = "stranger", init: str = "") -> Path:
        folder = site / package
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text(init)
        (folder / "words.py").write_text("TITLE = 'of another module'\n")
        (folder / "mutant.py").write_text(source)
        info = site / f"{package}-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.2\n")
        (info / "entry_points.txt").write_text("\n".join(["[fatbench.methods]", *entries, ""]))
        return folder

    yield put
    for name in [name for name in sys.modules if name.partition(".")[0] in ("stranger", "another")]:
        del sys.modules[name]


def test_it_is_listed_shown_checked_and_run_like_any_other(fatbench: Fatbench, install: Install) -> None:
    source = (install("strange-at = stranger.mutant:mutant") / "mutant.py").read_text()
    assert "strange-at" in methods.names()
    assert "strange-at" not in methods.built_in()
    listed = fatbench("list", "methods")
    (line,) = [line for line in listed.out.splitlines() if line.startswith("strange-at")]
    assert "A method that keeps the contract" in line
    assert "[stranger 1.2]" in " ".join(listed.out.split())
    assert "(mutant.py, stranger 1.2)" in fatbench("show", "strange-at").out
    assert fatbench("check-method", "strange-at").code == 0
    (found,) = json.loads(fatbench("run", "-m", "strange-at", "--set", "alpha=0.5", *TINY, "--json").out)
    sha256 = hashlib.sha256(source.encode()).hexdigest()
    assert found["method"] == {
        "name": "strange-at",
        "hyper": {"alpha": 0.5, "steps": 1},
        "sha256": sha256,
        "source": source,
    }
    assert found["spec"]["method"] == "strange-at"
    assert found["spec"]["train"]["method_source"] == sha256


def test_listing_does_not_run_it(fatbench: Fatbench, install: Install) -> None:
    install("strange-at = stranger.mutant:mutant", source=f"raise RuntimeError('I was run')\n{SOURCE}")
    assert fatbench("list", "methods").code == 0
    assert fatbench("show", "strange-at").code == 0
    assert "mutant.py fails to import: RuntimeError: I was run" in fatbench("run", "-m", "strange-at", *TINY).complaint


@pytest.mark.parametrize(
    ("entry", "options", "says"),
    [
        ("stranger.gone:mutant", {}, "has no source: there is no file of a module 'stranger.gone'"),
        ("nowhere.gone:mutant", {}, "fails to import: ModuleNotFoundError: No module named 'nowhere'"),
        ("stranger.mutant:gone", {}, "mutant.py holds no method: it needs a function 'def gone("),
        ("stranger.mutant:mutant", {"source": "def mutant(:"}, "mutant.py is not valid Python"),
        ("stranger.mutant:mutant", {"init": "1 / 0"}, "fails to import: ZeroDivisionError: division by zero"),
        ("stranger.mutant:mutant", {"init": "raise SystemExit(5)"}, "fails to import: SystemExit: 5"),
    ],
)
def test_a_damaged_one_is_a_line_and_nothing_else_is_harmed(
    fatbench: Fatbench, install: Install, entry: str, options: dict[str, str], says: str
) -> None:
    install(f"strange-at = {entry}", **options)
    listed = fatbench("list", "methods")
    assert listed.code == 0
    assert "cannot be used" in listed.out
    assert "trades" in listed.out
    assert says in fatbench("show", "strange-at").complaint
    assert says in fatbench("check-method", "strange-at").complaint
    assert fatbench("check-method", "standard").code == 0


def test_nobody_takes_a_name_of_fatbench_or_of_another(fatbench: Fatbench, install: Install) -> None:
    install("fgsm_rs = stranger.mutant:mutant", "both = stranger.mutant:mutant", "odd = stranger.mutant")
    install("both = another.mutant:mutant", package="another")
    assert methods.describe("fgsm-rs").path.parent == methods.FOLDER
    assert methods.describe("both").package == "another 1.2"
    assert fatbench("list", "methods").err.splitlines() == [
        "fatbench: method 'both' of the package stranger 1.2 is passed over: another 1.2 brings one of this name",
        "fatbench: method 'fgsm-rs' of the package stranger 1.2 is passed over: fatbench has one of this name",
        "fatbench: method 'odd' of the package stranger 1.2 is passed over: its entry point is not of the form "
        "package.module:function",
    ]


@pytest.mark.parametrize(
    ("entries", "metadata"),
    [
        ("[fatbench.methods]\nno equals sign\n", "Metadata-Version: 2.1\nName: odd\nVersion: 1\n"),
        ("[fatbench.methods]\nodd = odd.gone:odd\n", None),
        ("[fatbench.methods]\nodd = odd.gone:odd\n", "Metadata-Version: 2.1\nName: odd\n"),
    ],
)
def test_a_package_whose_metadata_is_damaged_is_named_in_a_line(
    fatbench: Fatbench, install: Install, tmp_path: Path, entries: str, metadata: str | None
) -> None:
    install("strange-at = stranger.mutant:mutant")
    for name, text in (("odd", entries), ("else", entries.replace("fatbench.methods", "somebody.elses"))):
        info = tmp_path / "site" / f"{name}-1.dist-info"
        info.mkdir()
        (info / "entry_points.txt").write_text(text)
        if metadata is not None:
            (info / "METADATA").write_text(metadata)
    assert "strange-at" in methods.names()
    (line,) = fatbench("list", "methods").err.splitlines()
    assert line.startswith("fatbench: the methods of odd-1.dist-info are passed over: its metadata are damaged (")


def test_an_unknown_name_is_told_of_brought_ones_too(install: Install) -> None:
    install("strange-at = stranger.mutant:mutant")
    with pytest.raises(UsageError, match=r"no method 'strange': there are .*strange-at, "):
        methods.describe("strange")


def test_resume_is_checked_on_a_module_of_its_own(install: Install) -> None:
    install("strange-at = stranger.mutant:mutant", source=SOURCE.replace("    # before\n", "    seen.append(1)\n"))
    assert not check("strange-at").failed
    known = sys.modules["stranger.mutant"]
    assert methods.again(methods.load("strange-at")).function is not known.mutant
    assert sys.modules["stranger.mutant"] is known


def test_a_fault_in_it_is_told_as_its_own(fatbench: Fatbench, install: Install) -> None:
    install("strange-at = stranger.mutant:mutant", source=SOURCE.replace("    # before\n", "    1 / 0\n"))
    said = fatbench("run", "-m", "strange-at", *TINY)
    assert said.code == 4
    assert "mutant.py:22: ZeroDivisionError: division by zero" in said.complaint


def test_nobody_else_pays_for_the_look(tmp_path: Path) -> None:
    """Neither help nor a known name reads what is installed."""
    for arguments in (["--help"], ["show", "trades"], ["run", "-m", "trades", "--dry-run"]):
        script = (
            "import sys, fatbench.methods._entry_points as brought\n"
            "def fail(): raise AssertionError('packages were looked through')\n"
            "brought._entries = fail\n"
            f"sys.argv = {['fatbench', *arguments]!r}\n"
            "from fatbench.cli import main; main()"
        )
        done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
