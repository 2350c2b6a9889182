"""Options of `make bench`, and the one table that it ends in."""

from pathlib import Path

import pytest
import torch

from benchmarks.evaluation_table import EvaluationRow, show_evaluations
from benchmarks.table import Row, as_json, hardware, show
from fatbench.environment import describe_environment

_ROWS = pytest.StashKey[list[Row]]()
_EVALUATIONS = pytest.StashKey[list[EvaluationRow]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--bench-json", type=Path, metavar="FILE", help="Also write every measured time to FILE.")
    parser.addoption(
        "--bench-batch", type=int, metavar="N", help="Images per batch of ResNet-18. [default: 128; 16 on a CPU]"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_ROWS], config.stash[_EVALUATIONS] = [], []
    if not torch.cuda.is_available():
        torch.set_num_threads(1)


@pytest.fixture(scope="session")
def device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


@pytest.fixture(scope="session")
def rows(pytestconfig: pytest.Config) -> list[Row]:
    """Where every benchmark leaves its row."""
    return pytestconfig.stash[_ROWS]


@pytest.fixture(scope="session")
def evaluations(pytestconfig: pytest.Config) -> list[EvaluationRow]:
    """Where AutoAttack's benchmarks leave theirs."""
    return pytestconfig.stash[_EVALUATIONS]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    rows, evaluations = config.stash[_ROWS], config.stash[_EVALUATIONS]
    if not (rows or evaluations):
        return
    environment = describe_environment(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    width = terminalreporter._tw.fullwidth
    terminalreporter.write_line("")
    if rows:
        terminalreporter.write(show(rows, environment, width))
    if evaluations:
        terminalreporter.write(show_evaluations(evaluations, hardware(environment), width))
    path = config.getoption("--bench-json")
    if path:
        path.write_text(as_json(rows, environment, evaluations))
