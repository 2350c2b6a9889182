"""The tests that only a GPU can run, in several processes, an outcome per row as it is printed."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.gpu.section import Section

_ROOT = Path(__file__).resolve().parents[2]
_OUTCOME = re.compile(r"(PASSED|FAILED|ERROR|SKIPPED)\s+(tests/\S+::.*?)(?:\s+\[\s*\d+%\])?$")
_LONGEST = 60  # seconds of a test
_PROCESSES = 6  # each has its own context on the GPU


def gpu_tests(section: Section) -> None:
    """Run `pytest -m "gpu and not slow"`; the whole of what it prints is in tests.log."""
    files = [path for path in sorted((_ROOT / "tests").rglob("test_*.py")) if "mark.gpu" in path.read_text("utf-8")]
    files = files if section.on_gpu else [_ROOT / "tests/metering/test_calibration.py"]
    marks = "gpu and not slow" if section.on_gpu else "not slow and not gpu"
    command = [sys.executable, "-m", "pytest", "-m", marks, "-vv", "--tb=short", "-p", "no:cacheprovider"]
    command += ["-n", str(_PROCESSES)] if section.on_gpu else []
    command += ["--timeout", str(_LONGEST)] if section.on_gpu else []
    command += ["--continue-on-collection-errors", *map(str, files)]

    def measure(name: str) -> None:
        started, seen, counts = time.monotonic(), set[str](), {}
        with (section.output / "tests.log").open("w", encoding="utf-8") as log:
            environment = os.environ | {"PYTHONUNBUFFERED": "1", "COLUMNS": "200"}
            process = subprocess.Popen(
                command, cwd=_ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
            assert process.stdout is not None
            for line in process.stdout:
                log.write(line)
                log.flush()
                found, counts = outcome(line), summary(line) or counts
                if found is not None and found[1] not in seen:  # failures are named once more at the end
                    seen.add(found[1])
                    section.rows.append(found[1], outcome=found[0])
                if section.seconds_left < 0:
                    process.kill()
            code = process.wait()
        section.rows.append(name, seconds=round(time.monotonic() - started, 1), exit_code=code, **counts)

    section.each(["pytest"], measure)


def outcome(line: str) -> tuple[str, str] | None:
    """Return (outcome, test) from a line of `pytest -v`, with or without xdist, or None."""
    swapped = re.sub(r"^(tests/\S+::.*?) (PASSED|FAILED|ERROR|SKIPPED)\b", r"\2 \1", line.strip())
    found = _OUTCOME.search(swapped)
    return (found[1], found[2].partition(" - ")[0].removeprefix("tests/")) if found else None


def summary(line: str) -> dict[str, int]:
    """Return {"passed": 156, "failed": 17, "errors": 0} from the last line of pytest, or {} from any other."""
    if not re.match(r"=*\s*\d+ \w+.* in [\d.]+s", line):
        return {}
    counts = {word: int(number) for number, word in re.findall(r"(\d+) (passed|failed|error)", line)}
    return {"passed": counts.get("passed", 0), "failed": counts.get("failed", 0), "errors": counts.get("error", 0)}
