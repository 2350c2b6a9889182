"""The simulated GPU refuses what a GPU refuses, counts what it waits for, and replays what was recorded."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from . import Device, simulated


@pytest.fixture
def gpu() -> Iterator[Device]:
    with simulated() as found:
        yield found


def on_gpu(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float32).to("cuda")


def test_it_is_a_gpu_to_whoever_asks(gpu: Device) -> None:
    x = torch.zeros(2, device="cuda", requires_grad=True)
    assert (x.device.type, x.is_cuda, x.requires_grad) == ("cuda", True, True)
    assert (x * 2).device == x.new_ones(3).device == torch.zeros_like(x).device == torch.device("cuda", 0)
    (x * torch.ones(2, device="cuda")).sum().backward()
    assert x.grad is not None
    assert x.grad.device.type == "cuda"
    assert x.grad.cpu().tolist() == [1.0, 1.0]


def test_nothing_is_left_of_it() -> None:
    with simulated():
        pass
    assert not torch.zeros(1).is_cuda
    if not torch.backends.cuda.is_built():
        assert not torch.cuda.is_available()


def test_host_and_device_do_not_mix(gpu: Device) -> None:
    x, host = on_gpu(1, 2), torch.ones(2)
    for mixed in (lambda: x + host, lambda: host.add_(x), lambda: torch.cat([x, host]), lambda: host[x.long()]):
        with pytest.raises(RuntimeError, match="same device"):
            mixed()
    with pytest.raises(TypeError, match="can't convert cuda:0"):
        x.numpy()
    assert (x + 1 + torch.tensor(2.0)).cpu().tolist() == [4.0, 5.0]  # a number on the host is welcome


WAITING = {
    "item": lambda x: x.sum().item(),
    "float": lambda x: float(x.sum()),
    "if": lambda x: bool(x.sum() > 0),
    "tolist": lambda x: x.tolist(),
    "cpu": lambda x: x.cpu(),
    "to the host": lambda x: x.to("cpu"),
    "from the host": lambda _: torch.ones(3).to("cuda"),
    "tensor": lambda _: torch.tensor([1.0], device="cuda"),
    "copy": lambda x: x.copy_(torch.ones(3)),
    "a mask": lambda x: x[x > 1],
    "tensors by mask": lambda x: x.__setitem__(x > 1, x[:2].clone()),
    "a number by index": lambda x: x.__setitem__(x.long() - 1, 0.0),
    "an index on the host": lambda x: x[torch.tensor([0, 1])],
    "nonzero": lambda x: x.nonzero(),
    "unique": lambda x: x.unique(),
    "classes to be found": lambda x: torch.nn.functional.one_hot(x.long()),
    "repeats": lambda x: x.repeat_interleave(x.long()),
    "equal": lambda x: torch.equal(x, x),
    "singular values": lambda x: torch.linalg.svd(torch.diag(x)),
}
FREE = {
    "arithmetic": lambda x: (x * 2 + 1).clamp(0, 1).sum(),
    "noise": torch.rand_like,
    "numbers": lambda x: torch.full((3,), 2.0, device=x.device) + torch.arange(3, device=x.device),
    "an index": lambda x: x[x.long() - 1],
    "one number": lambda x: x.__setitem__(0, 1.0),
    "numbers by index": lambda x: x.index_fill_(0, x.long() - 1, 1.0),
    "a number by mask": lambda x: x.__setitem__(x > 1, 0.0),
    "tensors by index": lambda x: x.__setitem__(x.long() - 1, x.clone()),
    "masked": lambda x: x.masked_fill(x > 1, 0.0),
    "where": lambda x: torch.where(x > 1, 0.0, x),
    "known classes": lambda x: torch.nn.functional.one_hot(x.long(), 5),
    "sorted": lambda x: (x.sort(), x.topk(2), x.argmax()),
    "pinned": lambda x: x.copy_(torch.ones(3).pin_memory(), non_blocking=True),
}


@pytest.mark.parametrize("what", WAITING)
def test_what_makes_the_host_wait_is_counted_by_place_and_may_be_forbidden(gpu: Device, what: str) -> None:
    x = on_gpu(1, 2, 3)
    gpu.waits.clear()
    WAITING[what](x)
    assert gpu.waits
    assert all("test_device.py:" in place for place in gpu.waits)
    torch.cuda.set_sync_debug_mode("error")
    with pytest.raises(RuntimeError, match="called a synchronizing CUDA operation"):
        WAITING[what](x)
    torch.cuda.set_sync_debug_mode("default")
    with pytest.raises(RuntimeError, match="CUDA error"), torch.cuda.graph(torch.cuda.CUDAGraph()):
        WAITING[what](x)


@pytest.mark.parametrize("what", FREE)
def test_what_does_not_is_not(gpu: Device, what: str) -> None:
    x = on_gpu(1, 2, 3)
    gpu.waits.clear()
    torch.cuda.set_sync_debug_mode("error")
    FREE[what](x)
    assert not gpu.waits


def test_its_generator_is_its_own(gpu: Device) -> None:
    torch.manual_seed(3)
    host, state = torch.get_rng_state(), torch.cuda.get_rng_state()
    first = torch.rand(4, device="cuda")
    assert torch.equal(torch.get_rng_state(), host)
    torch.rand(4)
    torch.cuda.set_rng_state(state)
    assert torch.equal(torch.rand(4, device="cuda"), first)
    torch.manual_seed(3)  # seeds both
    assert torch.equal(torch.rand(4, device="cuda"), first)
    assert not torch.equal(torch.rand(4, device="cuda"), first)


def test_a_recording_is_done_again_in_the_same_memory_with_other_noise_and_unseen(gpu: Device) -> None:
    x, total, graph = on_gpu(1, 2), on_gpu(0, 0), torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        noise = torch.rand(2, device="cuda")
        total.add_(x * 10)
    version = total._version
    seen = []
    for value in (2.0, 3.0):
        x.fill_(value)
        graph.replay()
        seen.append(noise.cpu().tolist())
    assert total.cpu().tolist() == [10 + 50, 20 + 50]  # what is recorded is done, too: the CPU cannot do otherwise
    assert total._version == version
    assert seen[0] != seen[1]
    assert gpu.recordings == 1


def test_a_recording_that_breaks_off_leaves_generator_and_stream_as_torch_does(gpu: Device) -> None:
    stream, state = torch.cuda.current_stream(), torch.cuda.get_rng_state()
    with pytest.raises(RuntimeError, match="previous error"), torch.cuda.graph(torch.cuda.CUDAGraph(), stream="other"):
        torch.zeros(1, device="cuda").item()
    assert torch.cuda.current_stream() == "other"
    with pytest.raises(RuntimeError, match="Offset increment"):
        torch.rand(1, device="cuda")
    torch.cuda.set_stream(stream)
    torch.cuda.default_generators[0].graphsafe_set_state(torch.Generator("cuda"))
    torch.cuda.set_rng_state(state)
    torch.rand(1, device="cuda")
