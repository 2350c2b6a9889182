import subprocess
import sys
from pathlib import Path

from fatbench.record import save

from .records import study

HEAVY = ("torch", "torchvision", "scipy", "sklearn", "numpy", "pandas")
SCRIPT = """
import sys
from pathlib import Path
for name in {blocked!r}:
    sys.modules[name] = None  # importing it raises ImportError

from rich.console import Console
from fatbench import record
from fatbench.report import render
from fatbench.report.comparison import compare
from fatbench.report.render.panel import panel

records = [record.load(path) for path in sorted(Path(sys.argv[1]).glob("*.json"))]
groups = compare(records)
console = Console(width=100)
for one in (*render.tables(groups), panel(records[0])):
    console.print(one)
print(render.markdown(groups), render.csv(groups), render.json(groups))
"""
FRAME = """
import fatbench.report.frame
assert "pandas" not in sys.modules, "pandas is imported before it is needed"
assert len(fatbench.report.frame.frame(records)) == 8
print("framed")
"""


def run(script: str, folder: Path) -> str:
    for one in study():
        save(one, folder)
    done = subprocess.run([sys.executable, "-c", script, folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_tables_and_panels_need_neither_torch_nor_numpy_nor_pandas(tmp_path):
    assert "trades beta=12" in run(SCRIPT.format(blocked=HEAVY), tmp_path)


def test_the_frame_needs_pandas_only(tmp_path):
    assert "framed" in run(SCRIPT.format(blocked=HEAVY[:-2]) + FRAME, tmp_path)
