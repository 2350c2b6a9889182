"""Energy and slowdowns, asked of a surrogate for NVML; and of the real one, where it finds no driver."""

import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from fatbench.metering.energy import EnergyMeter, Gpu

CUDA = torch.device("cuda", 0)
UUID = "12345678-9abc-def0-1234-56789abcdef0"


class NvmlError(Exception):
    pass


class FakeNvml:
    """What fatbench asks of pynvml, for one GPU; an answer of None is refused as NVML refuses."""

    NVMLError = NvmlError

    def __init__(self) -> None:
        self.millijoules: int | None = 5_000_000
        self.reasons: int | None = 0x4  # at its power cap, as a busy GPU is
        self.uuids = [f"GPU-{UUID}"]

    def nvmlInit(self) -> None:  # noqa: N802
        pass

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:  # noqa: N802
        if uuid not in self.uuids:
            raise NvmlError("Not Found")
        return "the handle"

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: str) -> int:  # noqa: N802
        return self._answer(handle, self.millijoules)

    def nvmlDeviceGetCurrentClocksEventReasons(self, handle: str) -> int:  # noqa: N802
        return self._answer(handle, self.reasons)

    def _answer(self, handle: str, value: int | None) -> int:
        assert handle == "the handle"
        if value is None:
            raise NvmlError("Not Supported")
        return value


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    fake = FakeNvml()
    monkeypatch.setitem(sys.modules, "pynvml", fake)  # type: ignore[arg-type]
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(uuid=UUID))
    return fake


def test_energy_is_in_joules(nvml: FakeNvml) -> None:
    assert Gpu(CUDA).joules() == 5000.0


def test_the_meter_charges_what_runs_while_it_is_on_and_not_paused(nvml: FakeNvml) -> None:
    meter = EnergyMeter(Gpu(CUDA))

    def use(joules: int) -> None:
        assert nvml.millijoules is not None
        nvml.millijoules += 1000 * joules

    use(1)
    with meter.on():
        use(20)
        with meter.paused():
            use(300)
        use(4000)
    use(50_000)
    assert meter.joules == pytest.approx(4020.0)


def test_a_run_that_fails_is_charged_until_then(nvml: FakeNvml) -> None:
    meter = EnergyMeter(Gpu(CUDA))

    def fail() -> None:
        nvml.millijoules = 5_007_000
        raise RuntimeError

    with pytest.raises(RuntimeError), meter.on():
        fail()
    assert meter.joules == pytest.approx(7.0)


def test_an_answer_refused_on_the_way_leaves_the_energy_unknown(nvml: FakeNvml) -> None:
    meter = EnergyMeter(Gpu(CUDA))
    with meter.on():
        nvml.millijoules = None
    assert meter.joules is None


@pytest.mark.parametrize(
    ("reasons", "expected"),
    [
        (0x1, set()),  # idle
        (0x4, set()),  # at the power cap
        (0x2 | 0x10 | 0x100, set()),  # clocks set by a person, sync boost, display
        (0x20, {"software thermal slowdown"}),
        (0x4 | 0x8 | 0x40, {"hardware slowdown", "hardware thermal slowdown"}),
        (0x80, {"hardware power brake"}),
        (None, set()),
    ],
)
def test_slowdowns_are_heat_and_failing_power(nvml: FakeNvml, reasons: int | None, expected: set[str]) -> None:
    nvml.reasons = reasons
    assert Gpu(CUDA).slowdowns() == expected


def silent(gpu: Gpu) -> bool:
    return gpu.joules() is None and not gpu.slowdowns() and EnergyMeter(gpu).joules is None


def test_a_cpu_has_no_energy_to_tell(nvml: FakeNvml) -> None:
    assert silent(Gpu(torch.device("cpu")))


def test_a_gpu_that_nvml_does_not_know_is_unknown(nvml: FakeNvml) -> None:
    nvml.uuids = ["GPU-of-another-container"]
    assert silent(Gpu(CUDA))


def test_an_old_gpu_without_a_counter_is_unknown_but_has_slowdowns(nvml: FakeNvml) -> None:
    nvml.millijoules, nvml.reasons = None, 0x40
    assert EnergyMeter(Gpu(CUDA)).joules is None
    assert Gpu(CUDA).slowdowns() == {"hardware thermal slowdown"}


def test_without_the_package_nothing_is_known(nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert silent(Gpu(CUDA))


def test_the_real_nvml_without_a_driver_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    pynvml: Any = pytest.importorskip("pynvml")
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(uuid=UUID))
        assert silent(Gpu(CUDA))
    else:
        pytest.skip("there is a driver here")


def test_what_is_asked_exists_in_the_real_nvml() -> None:
    pynvml: Any = pytest.importorskip("pynvml")
    assert [
        name for name in dir(FakeNvml) if name.startswith("nvml") and not callable(getattr(pynvml, name, None))
    ] == []
    assert issubclass(pynvml.NVMLError, Exception)
    assert pynvml.nvmlClocksEventReasonSwThermalSlowdown == 0x20
    assert pynvml.nvmlClocksEventReasonHwSlowdown == 0x8
    assert pynvml.nvmlClocksEventReasonHwThermalSlowdown == 0x40
    assert pynvml.nvmlClocksEventReasonHwPowerBrakeSlowdown == 0x80


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_real_gpu_uses_energy_while_it_works() -> None:
    meter = EnergyMeter(Gpu(CUDA))
    if meter.joules is None:
        pytest.skip("this GPU does not meter its energy")
    a = torch.randn(4096, 4096, device=CUDA)
    with meter.on():
        for _ in range(200):
            a @ a
        torch.cuda.synchronize()
    assert 1.0 < meter.joules < 10_000.0
