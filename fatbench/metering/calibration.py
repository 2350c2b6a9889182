"""The speed that this device reaches at what it does best: the yardstick of model FLOPs utilisation."""

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from math import ceil
from typing import Any

import torch

from fatbench.config.spec import Precision

_SIZES = {"cpu": (512, 1024, 2048), "mps": (1024, 2048, 4096), "cuda": (2048, 4096, 8192, 16384)}
_SEARCH = 0.4  # of the time, to find the best size
_BLOCK_SECONDS = 0.05  # enough to hide the launch of a product and the wait for the last
_TRIAL = 4  # products that trying a size takes: filling the matrices, two to make ready, and a block of one
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def peak_flops(device: torch.device, precision: Precision, seconds: float = 5.0) -> float:
    """Return the floating-point operations per second of large square matrix products, a multiply-add being two.

    Several sizes are tried and the best is held for the rest of `seconds`; the median of its blocks counts, which is
    what the device sustains rather than what it bursts to. Measured once per process, device, precision and number of
    threads. Random generators and torch's settings are left alone, and a GPU gets its memory back.

    float32 products use TensorFloat-32 if convolutions do, as they do by torch's default: nearly all the work of the
    networks measured against this is convolutions.
    """
    backends: list[Any] = [torch.backends.cudnn.conv, torch.backends.cuda.matmul]  # type: ignore[attr-defined]
    tf32 = any(backend.fp32_precision == "tf32" for backend in backends)
    return _measured(device, precision, seconds, torch.get_num_threads(), tf32)


@cache
def _measured(device: torch.device, precision: Precision, seconds: float, _threads: int, tf32: bool) -> float:
    end = time.perf_counter() + seconds
    try:
        with _float32_products("tf32" if tf32 else "ieee"):
            best = _fastest(device, _DTYPES[precision], time.perf_counter() + _SEARCH * seconds)
            rates = [best.flops_per_second()]
            while time.perf_counter() < end:
                rates.append(best.flops_per_second())
        del best
    finally:
        if device.type == "cuda":
            torch.cuda.empty_cache()
    return statistics.median(rates)


class _Product:
    """A matrix product on the device, over and over; made ready by two that do not count."""

    def __init__(self, size: int, device: torch.device, dtype: torch.dtype) -> None:
        own = torch.Generator(device).manual_seed(0)  # noise, for a GPU clocks higher on zeros
        self._left, self._right = torch.randn(2, size, size, device=device, dtype=dtype, generator=own)
        self._out = torch.empty_like(self._left)
        self._flops = 2 * size**3
        self._seconds(1)
        self._repeats = ceil(_BLOCK_SECONDS / self._seconds(1))

    def flops_per_second(self) -> float:
        """Return the rate of one block."""
        return self._repeats * self._flops / self._seconds(self._repeats)

    def _seconds(self, repeats: int) -> float:
        start = time.perf_counter()
        for _ in range(repeats):
            torch.mm(self._left, self._right, out=self._out)
        self._out[0, 0].item()  # waits for the device
        return time.perf_counter() - start


def _fastest(device: torch.device, dtype: torch.dtype, deadline: float) -> _Product:
    """Return the fastest product; sizes for which time or memory is short are passed over."""
    smallest, *larger = _SIZES[device.type]
    best = _Product(smallest, device, dtype)
    rate = best.flops_per_second()
    for size in larger:
        if time.perf_counter() + _TRIAL * 2 * size**3 / rate > deadline:
            break
        try:
            product = _Product(size, device, dtype)
        except RuntimeError:  # torch's own word for no memory is one, a library's on a GPU another
            break
        reached = product.flops_per_second()
        if reached > rate:
            best, rate = product, reached
    return best


@contextmanager
def _float32_products(precision: str) -> Iterator[None]:
    """Multiply float32 matrices as "ieee" or "tf32" on a GPU, then as before."""
    matmul = torch.backends.cuda.matmul
    before, matmul.fp32_precision = matmul.fp32_precision, precision
    try:
        yield
    finally:
        matmul.fp32_precision = before
