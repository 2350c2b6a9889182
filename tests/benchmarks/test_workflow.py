"""CI runs commands that exist, on the torch that pyproject.toml promises."""

import re
import tomllib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
WORKFLOW = ROOT / ".github" / "workflows" / "ci.yml"


def workflow() -> dict[Any, Any]:
    loaded: dict[Any, Any] = yaml.safe_load(WORKFLOW.read_text())
    return loaded


def commands() -> Iterator[str]:
    for job in workflow()["jobs"].values():
        for step in job["steps"]:
            yield from step.get("run", "").splitlines()


def targets() -> set[str]:
    return set(re.findall(r"^([a-z./-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))


def pins(name: str) -> dict[str, str]:
    lines = (ROOT / name).read_text().splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def test_it_has_the_jobs_and_may_only_read() -> None:
    loaded = workflow()
    assert set(loaded["jobs"]) == {"lint", "tests", "bench-check"}
    assert loaded["permissions"] == {"contents": "read"}
    assert {"push", "pull_request"} <= set(loaded[True])  # YAML 1.1 reads `on` as a truth value
    for job in loaded["jobs"].values():
        assert job["timeout-minutes"] <= 40


def test_every_make_target_and_every_module_that_it_runs_exists() -> None:
    text = "\n".join(commands())
    made = re.findall(r"\bmake ([^\s]+)", text)
    modules = re.findall(r"python -m ([\w.]+)", text)
    assert {"lint", "unit"} <= set(made) <= targets()
    assert modules == ["benchmarks.against"]
    assert all(find_spec(module) for module in modules)


def test_phony_targets_are_those_that_make_no_file() -> None:
    (phony,) = re.findall(r"^\.PHONY: (.*)", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    assert set(phony.split()) == {target for target in targets() if not target.startswith(".")}


def test_the_tests_run_on_the_oldest_and_the_newest_torch() -> None:
    files = workflow()["jobs"]["tests"]["strategy"]["matrix"]["constraints"]
    assert files == ["constraints.txt", "constraints-oldest.txt"]
    promised = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    oldest, newest = (pins(name) for name in reversed(files))
    for package in ("torch", "torchvision"):
        (bound,) = [line.split(">=")[1] for line in promised if line.startswith(f"{package}>=")]
        assert oldest[package].startswith(bound)
        assert tuple(map(int, newest[package].split("."))) > tuple(map(int, oldest[package].split(".")))


@pytest.mark.parametrize("code", ["3", "1"])
def test_only_a_missing_baseline_is_forgiven(code: str) -> None:
    (script,) = [
        line
        for job in workflow()["jobs"].values()
        for step in job["steps"]
        if "against" in (line := step.get("run", ""))
    ]
    assert "-eq 5" in script
    assert f"-eq {code}" not in script
    assert script.rstrip().endswith('exit "$code"')


def test_the_commands_and_the_nightly_job_of_the_benchmarks_readme_exist() -> None:
    text = (ROOT / "benchmarks" / "README.md").read_text()
    assert set(re.findall(r"(?:`|run: )make ([a-z./-]+)", text)) <= targets()
    assert all(find_spec(module) for module in re.findall(r"python -m ([\w.]+)", text))
    (nightly,) = re.findall(r"```yaml\n(.*?)```", text, flags=re.DOTALL)
    (job,) = yaml.safe_load(nightly)["jobs"].values()
    assert job["runs-on"] == ["self-hosted", "gpu"]
