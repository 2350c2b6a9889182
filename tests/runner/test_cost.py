"""What a whole run says it cost: operations, speed, energy, and what it cannot know."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from fatbench.metering import calibration
from fatbench.record import Record, load
from fatbench.record.parts import Probe
from fatbench.runner import train
from fatbench.runner.observer import Observer
from fatbench.runner.setup import set_up
from fatbench.training import loop
from fatbench.training.loop import TrainStatus
from tests.runner.test_runner import run

from .steady import let_steps_take
from .test_runner import make_spec


class Heard(Observer):
    """Remembers the stages, and does something at every probe or look at the training."""

    def __init__(self, probed: Callable[[], None] = lambda: None, training: Callable[[], None] = lambda: None) -> None:
        self.stages: list[str] = []
        self._probed, self._training = probed, training

    def stage(self, name: str) -> None:
        self.stages.append(name)

    def probed(self, probe: Probe) -> None:
        self._probed()

    def training(self, status: TrainStatus, images_per_second: float) -> None:
        self._training()


def multiply_adds(model: torch.nn.Module) -> int:
    """Multiply-adds of one 8x8 image through the network: every weight, at every pixel where it is used."""
    costs: list[int] = []

    def note(layer: torch.nn.Module, _inputs: object, output: torch.Tensor) -> None:
        assert isinstance(layer, torch.nn.Conv2d | torch.nn.Linear)
        costs.append(layer.weight.numel() * (output[0, 0].numel() if output.ndim == 4 else 1))

    for module in model.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
            module.register_forward_hook(note)
    model(torch.rand(1, 1, 8, 8))
    return sum(costs)


def test_operations_are_those_of_every_update(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    let_steps_take(monkeypatch, seconds=0.25)
    spec = make_spec("free-at", evaluate=[], epochs=3)  # its last batch is worth three updates of eight
    whole = multiply_adds(set_up(spec, data_dir=None, download=False).model.eval())
    record = run(spec, output=tmp_path, calibration_seconds=0)
    assert record.compute is not None
    assert record.compute.flops == 2 * 3 * whole * 128 * record.steps  # images have gradients too: three full passes
    assert record.compute.flops_per_second == record.compute.flops / record.timing.train
    assert record.timing.train == 0.25 * record.steps


def test_a_run_is_measured_against_what_the_machine_can_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    let_steps_take(monkeypatch, seconds=0.25)
    calibration._measured.cache_clear()
    heard = Heard()
    record = run(make_spec("standard", epochs=8), output=tmp_path, calibration_seconds=0.1, observer=heard)
    compute, pace = record.compute, record.throughput
    assert compute is not None
    assert compute.peak_flops_per_second is not None
    assert compute.mfu == pytest.approx(compute.flops_per_second / compute.peak_flops_per_second)
    assert heard.stages.index("evaluating clean") < heard.stages.index("calibrating")
    assert pace is not None
    assert pace.images_per_second == 128 / 0.25
    assert record.energy_joules is None  # a CPU's is not metered
    assert load(tmp_path / f"{record.id}.json") == record


def test_no_calibration_leaves_the_utilisation_unknown(tmp_path: Path) -> None:
    heard = Heard()
    record = run(make_spec("standard", evaluate=[]), output=tmp_path, calibration_seconds=0, observer=heard)
    assert record.compute is not None
    assert (record.compute.peak_flops_per_second, record.compute.mfu) == (None, None)
    assert record.timing.calibration == 0
    assert "calibrating" not in heard.stages


def test_measuring_does_not_change_training(tmp_path: Path) -> None:
    def scores(record: Record) -> dict[str, int]:
        return {name: score.correct for name, score in record.scores.items()}

    spec = make_spec("fgsm-rs", epochs=2)
    calibration._measured.cache_clear()
    measured = run(spec, output=tmp_path / "a", calibration_seconds=0.05)
    assert scores(measured) == scores(run(spec, output=tmp_path / "b", calibration_seconds=0))


def test_an_interrupted_run_keeps_what_is_known(tmp_path: Path) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    spec = make_spec("standard", epochs=50)
    with pytest.raises(KeyboardInterrupt):
        run(spec, output=tmp_path, observer=Heard(probed=interrupt))
    record = load(tmp_path / f"{spec.id}.json")
    assert (record.status, record.steps) == ("interrupted", 1200 // 128)
    assert record.compute is not None
    assert record.compute.flops > 0
    assert record.compute.mfu is None
    assert record.throughput is not None
    assert (record.throughput.blocks, record.throughput.noisy) == (1, None)


def test_a_diverged_run_keeps_what_is_known_and_is_not_calibrated(tmp_path: Path) -> None:
    record = run(make_spec("standard", lr=1e30, epochs=3), output=tmp_path)
    assert record.status == "diverged"
    assert record.compute is not None
    assert (record.compute.mfu, record.timing.calibration) == (None, 0)


class HotGpu:
    """A GPU that uses a joule whenever asked to, and is hot once it has used three."""

    used = 0.0

    def __init__(self, _device: torch.device) -> None:
        pass

    def joules(self) -> float:
        return HotGpu.used

    def slowdowns(self) -> frozenset[str]:
        return frozenset({"hardware thermal slowdown"} if HotGpu.used >= 3 else ())


def test_heat_and_energy_are_told_and_probes_are_not_charged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fatbench.runner.cost.Gpu", HotGpu)
    monkeypatch.setattr(HotGpu, "used", 0.0)
    probe = train._probe

    def costly(*arguments: object) -> Probe:
        HotGpu.used += 1000
        return probe(*arguments)  # type: ignore[arg-type]

    def work() -> None:
        HotGpu.used += 1

    monkeypatch.setattr(train, "_probe", costly)
    monkeypatch.setattr(loop, "_WATCH_SECONDS", 1e9)  # looked at where epochs end, however long they take
    record = run(make_spec("standard", epochs=5), output=tmp_path, calibration_seconds=0, observer=Heard(training=work))
    assert record.energy_joules == pytest.approx(5.0)
    assert record.throughput is not None
    assert record.throughput.noisy
    [event] = record.events
    assert (event.kind, event.epoch, event.detail) == ("throttled", 2, "hardware thermal slowdown")
