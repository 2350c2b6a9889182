"""What the commands do when nothing is wrong."""

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fatbench import data, methods, models
from fatbench.config import presets
from fatbench.config.spec import flattened
from tests.cli.conftest import TINY, Said

Fatbench = Callable[..., Said]


def test_run_writes_a_record_and_shows_it(fatbench: Fatbench, tmp_path: Path) -> None:
    said = fatbench("run", "-m", "fgsm-rs", *TINY)
    assert said.code == 0
    (path,) = (tmp_path / "results").glob("*.json")
    assert path.stem in said.out
    assert "fgsm-rs" in said.out
    assert (tmp_path / "results" / path.stem / "model.safetensors").is_file()


def test_an_identical_run_is_shown_not_repeated(fatbench: Fatbench, tmp_path: Path) -> None:
    fatbench("run", "-m", "standard", *TINY)
    (path,) = (tmp_path / "results").glob("*.json")
    written = path.stat().st_mtime_ns
    again = fatbench("run", "-m", "standard", *TINY)
    assert again.code == 0
    assert "stored result of" in again.err
    assert path.stem in again.out
    assert path.stat().st_mtime_ns == written
    fatbench("run", "-m", "standard", *TINY, "--force")
    assert path.stat().st_mtime_ns > written


def test_an_unfinished_run_is_run_again(fatbench: Fatbench, tmp_path: Path) -> None:
    fatbench("run", "-m", "standard", *TINY)
    (path,) = (tmp_path / "results").glob("*.json")
    path.write_text(path.read_text().replace('"status": "finished"', '"status": "running"', 1))
    assert "stored" not in fatbench("run", "-m", "standard", *TINY).err
    assert json.loads(path.read_text())["status"] == "finished"


def test_methods_and_seeds_multiply_and_end_in_a_table(fatbench: Fatbench, tmp_path: Path) -> None:
    said = fatbench("run", "-m", "standard", "-m", "fgsm", "--seeds", "0,1", *TINY)
    assert len(list((tmp_path / "results").glob("*.json"))) == 4
    assert "x faster" in said.out


def asked(said: Said) -> list[tuple[str, str, int]]:
    return [(spec["method"], spec["eps"], spec["seed"]) for spec in json.loads(said.out)]


def test_lists_multiply_methods_first_and_each_once(fatbench: Fatbench) -> None:
    with_ranges = fatbench("run", "-m", "fgsm, trades", "--seeds", "3, 0-1,1", "--eps", "4/255,8/255", "--dry-run")
    assert asked(with_ranges) == [
        (method, eps, seed) for method in ("fgsm", "trades") for eps in ("4/255", "8/255") for seed in (3, 0, 1)
    ]
    repeated = ("-m", "fgsm", "-m", "trades", "--seed", "3,0,1", "--eps", "4/255", "--eps", repr(8 / 255))
    assert fatbench("run", *repeated, "--dry-run").out == with_ranges.out
    assert len(asked(fatbench("run", "-m", "fgsm", "--seeds", "0-999", "--dry-run"))) == 1000
    everything = asked(fatbench("run", "-m", "all", "-m", "fgsm", "--set", "trades.beta=6", "--dry-run"))
    assert [method for method, _, _ in everything] == methods.built_in()


def test_evaluations_by_comma_or_one_by_one(fatbench: Fatbench) -> None:
    flags = ("run", "-m", "fgsm", "--dry-run", "--eval")
    assert fatbench(*flags, "clean,autoattack:n=9").out == fatbench(*flags, "clean", "--eval", "autoattack:n=9").out
    assert "--eval names clean twice" in fatbench(*flags, "clean", "--eval", "clean").complaint
    assert "no evaluation 'none'" in fatbench(*flags, "clean", "--eval", "none").complaint


def test_a_file_with_a_comma_in_its_name_is_one_method(fatbench: Fatbench, tmp_path: Path) -> None:
    (tmp_path / "my,own.py").write_text("def my(model, batch, ctx): yield from ()")
    assert "my,own.py holds no method" in fatbench("run", "-m", "./my,own.py", "--dry-run").complaint


def test_what_authors_tie_to_eps_follows_each_eps_and_a_preset_may_have_several(
    fatbench: Fatbench, tmp_path: Path
) -> None:
    def tied(*flags: str) -> list[dict[str, object]]:
        return [spec["train"]["hyper"] for spec in json.loads(fatbench("run", "-m", "aaer", *flags, "--dry-run").out)]

    both = tied("--eps", "8/255,16/255", "-d", "cifar10")
    assert both == [*tied("--eps", "8/255", "-d", "cifar10"), *tied("--eps", "16/255", "-d", "cifar10")]
    (tmp_path / "mine.toml").write_text('dataset = "cifar10"\neps = "8/255, 16/255"\n')
    assert tied("--preset", "mine.toml") == both


def test_json_is_all_that_stdout_gets(fatbench: Fatbench) -> None:
    said = fatbench("run", "-m", "standard", "--seeds", "0,1", *TINY, "--json")
    records = json.loads(said.out)
    assert [record["spec"]["seed"] for record in records] == [0, 1]
    assert records[0]["scores"]["clean"]["total"] == 497


def test_what_a_users_model_prints_does_not_disturb_the_json(fatbench: Fatbench, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(
        "from torch import nn\ndef net(num_classes):\n    print('hello')\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes))\n"
    )
    said = fatbench("run", "-m", "standard", *TINY, "--model", "net.py:net", "--json")
    assert json.loads(said.out)[0]["status"] == "finished"
    assert "hello" in said.err


def test_settings_reach_the_method_they_name(fatbench: Fatbench) -> None:
    said = fatbench(
        "run", "-m", "trades", "-m", "bs-trades", "--set", "beta=3", "--set", "bs-trades.gamma=0.5", "--dry-run"
    )
    trades, smoothed = map(flattened, json.loads(said.out))
    assert (trades["hyper"]["beta"], smoothed["hyper"]["beta"], smoothed["hyper"]["gamma"]) == (3.0, 3.0, 0.5)
    assert "gamma" not in trades["hyper"]


def test_a_preset_may_want_something_of_a_method_and_flags_overrule_it(fatbench: Fatbench) -> None:
    def betas(*flags: str) -> list[float]:
        specs = json.loads(fatbench("run", "-m", "trades", "-m", "bs-trades", *flags, "--dry-run").out)
        return [spec["train"]["hyper"]["beta"] for spec in specs]

    assert betas() == [6.0, 6.0]  # on digits
    assert betas("-d", "cifar10") == [6.0, 10.0]
    assert betas("--preset", "chen2022-bs-trades") == [6.0, 10.0]
    assert betas("--set", "bs-trades.beta=8") == [6.0, 8.0]
    assert "preset digits: beta=6.0" in fatbench("show", "bs-trades").out


def test_flags_overrule_presets_and_presets_the_datasets_defaults(fatbench: Fatbench) -> None:
    (plain,) = map(flattened, json.loads(fatbench("run", "-m", "fgsm-rs", "-d", "cifar10", "--dry-run").out))
    (preset,) = map(flattened, json.loads(fatbench("run", "--preset", "wong2020-fgsm-rs", "--dry-run").out))
    (flagged,) = map(
        flattened, json.loads(fatbench("run", "--preset", "wong2020-fgsm-rs", "--time-budget", "2m", "--dry-run").out)
    )
    assert (plain["model"], preset["model"]) == ("resnet18", "preact-resnet18")
    assert (preset["method"], preset["epochs"], preset["dataset"]) == ("fgsm-rs", 15, "cifar10")
    assert (flagged["epochs"], flagged["train_seconds"]) == (None, 120.0)
    (data,) = map(flattened, json.loads(fatbench("run", "-m", "fgsm-rs", "--preset", "cifar10", "--dry-run").out))
    assert data["dataset"] == "cifar10"
    assert preset["evaluations"] == {"clean": None, "pgd-50-10": None, "autoattack": 1000}


@pytest.mark.parametrize("name", presets.names())
def test_every_preset_resolves_and_says_what_it_is(fatbench: Fatbench, name: str) -> None:
    said = fatbench("run", "--preset", name, "-m", "fgsm-rs", "--dry-run")
    assert said.code == 0, said.err
    head = (presets.FOLDER / f"{name}.toml").read_text().splitlines()[:2]
    assert head[0].startswith("# ")
    assert head[1].startswith("# fatbench run ")


def test_eval_samples(fatbench: Fatbench) -> None:
    def samples(*flags: str) -> object:
        return json.loads(fatbench("run", "-m", "fgsm", *flags, "--dry-run").out)[0]["eval"]["evaluations"]

    assert samples() == {"clean": None, "pgd-20": None, "autoattack": 200}
    assert samples("--eval-samples", "all") == {"clean": None, "pgd-20": None, "autoattack": None}
    assert samples("--eval-samples", "50", "--eval", "autoattack") == {"autoattack": 50}
    assert samples("--eval", "none") == {}


def test_an_eps_that_is_nearly_8_255_is_noticed(fatbench: Fatbench) -> None:
    assert "warning: eps 0.031 is not 8/255" in fatbench("run", "-m", "fgsm", "--eps", "0.031", "--dry-run").err
    assert not fatbench("run", "-m", "fgsm", "--eps", "8/255", "--dry-run").err


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("methods", methods.names()),
        ("datasets", data.names()),
        ("models", models.names()),
        ("presets", presets.names()),
    ],
)
def test_list(fatbench: Fatbench, kind: str, names: list[str]) -> None:
    said = fatbench("list", kind)
    first_words = [line.split()[0] for line in said.out.splitlines()[2:] if not line.startswith(" ")]
    assert first_words[: len(names)] == names


@pytest.mark.parametrize("name", methods.names())
def test_show_explains_every_hyper_parameter(fatbench: Fatbench, name: str) -> None:
    said = fatbench("show", name)
    assert said.code == 0
    description = methods.describe(name)
    assert description.title.split()[0] in said.out
    for hyper in description.hyper.values():
        assert hyper.meaning, f"{name}: {hyper.name} has no meaning in the docstring"
        assert hyper.name in said.out


def test_show_a_result(fatbench: Fatbench, tmp_path: Path) -> None:
    fatbench("run", "-m", "standard", *TINY)
    (path,) = (tmp_path / "results").glob("*.json")
    assert "497" in fatbench("show", path).out


@pytest.mark.parametrize("format_", ["table", "markdown", "csv", "json"])
def test_compare_reads_files_folders_and_quoted_patterns_alike(fatbench: Fatbench, format_: str) -> None:
    fatbench("run", "-m", "standard", "-m", "fgsm", *TINY)
    outputs = {
        fatbench("compare", what, "--format", format_).out for what in ("results", "results/*", "results/*.json")
    }
    assert len(outputs) == 1
    assert "fgsm" in outputs.pop()


def test_version(fatbench: Fatbench) -> None:
    import fatbench as package

    assert fatbench("--version").out.strip() == f"fatbench {package.__version__}"


def test_the_command_line_imports_no_torch() -> None:
    script = "import sys, fatbench.cli; assert not {'torch', 'pandas', 'scipy', 'sklearn'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_compare_and_list_work_without_torch(tmp_path: Path, fatbench: Fatbench) -> None:
    fatbench("run", "-m", "standard", *TINY)
    for arguments in (["compare", "results"], ["list", "methods"], ["show", "trades"], ["--help"]):
        script = (
            "import sys; sys.modules.update(torch=None, torchvision=None)\n"
            f"sys.argv = {['fatbench', *arguments]!r}\n"
            "from fatbench.cli import main; main()"
        )
        subprocess.run([sys.executable, "-c", script], check=True, cwd=tmp_path, capture_output=True)


@pytest.mark.serial
def test_help_answers_at_once() -> None:
    command = [sys.executable, "-m", "fatbench", "--help"]
    environment = {**os.environ, "COLUMNS": "100"}
    seconds = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, check=True, capture_output=True, env=environment)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)  # processor time: other programs are not its fault
        seconds.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
    assert min(seconds) < 0.6, f"fatbench --help took {min(seconds):.2f} s of processor time"
