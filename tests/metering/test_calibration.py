"""The yardstick: a plausible rate, measured once, without a trace."""

import time

import pytest
import torch

from fatbench.metering import calibration
from fatbench.metering.calibration import peak_flops

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _nothing_measured_yet() -> None:
    calibration._measured.cache_clear()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_device_sustains_at_least_what_one_product_shows(precision: str) -> None:
    size, dtype = 512, {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    a, b = torch.randn(size, size).to(dtype), torch.randn(size, size).to(dtype)
    shown = []
    for _ in range(10):
        start = time.perf_counter()
        torch.mm(a, b)
        shown.append(2 * size**3 / (time.perf_counter() - start))
    peak = peak_flops(CPU, precision, seconds=0.2)  # type: ignore[arg-type]
    assert 0.1 * min(shown) < peak < 1e14  # neighbours may come and go meanwhile


def test_it_takes_its_time_once_per_process_precision_and_threads() -> None:
    start = time.perf_counter()
    first = peak_flops(CPU, "fp32", seconds=0.2)
    assert time.perf_counter() - start >= 0.2
    assert peak_flops(CPU, "fp32", seconds=0.2) == first
    assert calibration._measured.cache_info().hits == 1
    peak_flops(CPU, "bf16", seconds=0.01)
    torch.set_num_threads(2)
    peak_flops(CPU, "fp32", seconds=0.01)
    assert calibration._measured.cache_info().currsize == 3


def test_it_leaves_no_trace() -> None:
    def state() -> tuple[object, ...]:
        matmul, convolution = torch.backends.cuda.matmul, torch.backends.cudnn
        random_numbers = torch.get_rng_state().tolist()
        return random_numbers, matmul.fp32_precision, matmul.allow_tf32, convolution.allow_tf32, torch.get_num_threads()

    before = state()
    peak_flops(CPU, "fp32", seconds=0.05)
    assert state() == before


@pytest.mark.parametrize(("convolutions", "products"), [(True, "tf32"), (False, "ieee")])
def test_float32_products_are_as_precise_as_the_convolutions(
    convolutions: bool, products: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = set()

    class Watched(calibration._Product):
        def flops_per_second(self) -> float:
            seen.add(torch.backends.cuda.matmul.fp32_precision)
            return super().flops_per_second()

    monkeypatch.setattr(calibration, "_Product", Watched)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", convolutions)
    peak_flops(CPU, "fp32", seconds=0.05)
    assert seen == {products}


def test_a_size_that_does_not_fit_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    class Cramped(calibration._Product):
        def __init__(self, size: int, *where: object) -> None:
            if size > 512:
                raise torch.OutOfMemoryError
            super().__init__(size, *where)  # type: ignore[arg-type]

    monkeypatch.setattr(calibration, "_Product", Cramped)
    assert peak_flops(CPU, "fp32", seconds=1.0) > 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_gpu_gets_its_memory_back(precision: str) -> None:
    gpu = torch.device("cuda")
    torch.cuda.empty_cache()
    before = torch.cuda.memory_reserved()
    assert peak_flops(gpu, precision, seconds=0.5) > 1e12  # type: ignore[arg-type]
    assert torch.cuda.memory_reserved() - before < 2**27  # a workspace of cuBLAS stays
