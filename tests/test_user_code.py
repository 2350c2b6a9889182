"""A user's file is run from its source alone, and nothing is left beside it."""

import os
import sys
from pathlib import Path

import pytest

from fatbench import methods, models
from fatbench.errors import UsageError
from fatbench.user_code import run_file

METHOD = "import torch\n\n\ndef mine(model, batch, ctx):\n    yield model(batch.x).mean() * {factor}\n"
NET = "import torch\n\n\ndef net():\n    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))\n"


@pytest.fixture(autouse=True)
def _bytecode_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """By Python's default, which PYTHONDONTWRITEBYTECODE changes."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)


def test_nothing_is_left_beside_a_method_or_a_model_even_if_they_fail(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(METHOD.format(factor=1))
    (tmp_path / "net.py").write_text(NET)
    (tmp_path / "broken.py").write_text(f"{METHOD.format(factor=1).replace('mine', 'broken')}1 / 0\n")
    methods.load(str(tmp_path / "mine.py"))
    models.build(f"{tmp_path / 'net.py'}:net", num_classes=10, shape=(1, 8, 8), mean=[0.5], std=[0.2])
    with pytest.raises(UsageError, match=r"broken\.py fails to import: ZeroDivisionError"):
        methods.load(str(tmp_path / "broken.py"))
    with pytest.raises(UsageError, match=r"broken\.py fails to import: ZeroDivisionError"):
        models.build(f"{tmp_path / 'broken.py'}:net", num_classes=10, shape=(1, 8, 8), mean=[0.5], std=[0.2])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken.py", "mine.py", "net.py"]


def test_a_file_that_was_edited_within_a_second_is_run_as_it_is_now(tmp_path: Path) -> None:
    """Bytecode is known by the second and the size of its source, which do not tell these two apart."""
    path = tmp_path / "number.py"
    for number in (1, 2):
        path.write_text(f"NUMBER = {number}\n")
        os.utime(path, (10**9, 10**9))
        assert number == run_file("a_number", path).NUMBER
    assert run_file("a_number", path, source="NUMBER = 3\n").NUMBER == 3
    del sys.modules["a_number"]


def test_of_a_file_that_fails_no_module_is_left(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text(
        "import sys\nassert sys.modules[__name__].__file__ == __file__\nraise OSError('no')\n"
    )
    with pytest.raises(OSError, match="no"):
        run_file("bad_one", tmp_path / "bad.py")
    assert "bad_one" not in sys.modules
