"""Room: the batch size with which a device can train a model after all."""

from dataclasses import replace

from fatbench.environment import is_out_of_memory, release_memory
from fatbench.runner.bench import Bench

_SMALLEST = 2  # images: batch norm needs more than one


def fitting_batch_size(bench: Bench) -> int | None:
    """Return the first of half, a quarter, ... of the batch size with which one batch can be trained on; None: none.

    The model of the bench, and its method's generators, are not what they were afterwards.
    """
    size = bench.spec.batch_size // 2
    while size >= _SMALLEST:
        release_memory(bench.device)
        if _fits(bench, size):
            return size
        size //= 2
    return None


def _fits(bench: Bench, size: int) -> bool:
    smaller = bench.spec.model_copy(update={"batch_size": size})
    trial = replace(bench, spec=smaller, loader=bench.loader.resized(size))
    bench.model.zero_grad(set_to_none=True)
    try:
        trial.training().step_through_batch()
    except (RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            return False
        raise
    return True
