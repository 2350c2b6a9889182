"""What is asked of "cuda" before a tensor of the device takes part."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from .tensor import BEHIND, CUDA, GpuTensor, call, carry_out, device, to_device, to_host


class Core(TorchDispatchMode):
    """Tensors that torch's core makes by a device tensor's options, without naming that tensor, are the device's."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        named = kwargs.get("device")
        on_device = named is not None and torch.device(named) in (BEHIND, CUDA)
        moves = func._schema.name == "aten::_to_copy"
        if on_device and moves and not isinstance(args[0], GpuTensor):
            dtype = kwargs.get("dtype")
            return to_device(args[0] if dtype is None else args[0].to(dtype))
        if (on_device and not moves) or any(isinstance(one, GpuTensor) for one in tree_leaves((args, kwargs))):
            return carry_out(func, args, kwargs)
        return func(*args, **kwargs)


class Asked(TorchFunctionMode):
    """What Python asks of "cuda", before torch looks for a driver."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is Tensor.to:
            return _moved(args, kwargs)
        if func is Tensor.cuda:
            return args[0] if isinstance(args[0], GpuTensor) else to_device(args[0])
        if func is Tensor.pin_memory:
            pinned = args[0].clone()
            pinned.pinned = True
            return pinned
        if func is Tensor.__setitem__ and isinstance(args[0], GpuTensor) and isinstance(args[2], (int, float)):
            return _put_number(*args)
        if func is F.one_hot and isinstance(args[0], GpuTensor) and len(args) > 1:
            return _one_hot(*args)
        like = any(isinstance(one, GpuTensor) and one.dim() for one in args)
        if kwargs.get("device") is not None and _is_cuda(kwargs["device"]) and not like:
            return _made(func, args, kwargs)
        return func(*args, **kwargs)


def _made(func: Any, args: Any, kwargs: dict[str, Any]) -> GpuTensor:
    """Make a tensor on the device."""
    if any(isinstance(one, GpuTensor) for one in args):  # a size that the device knows
        device().wait(f"_local_scalar_dense for torch.{getattr(func, '__name__', func)}")
        args = tuple(int(one.held) if isinstance(one, GpuTensor) else one for one in args)
    requires_grad = kwargs.pop("requires_grad", False)
    if func in (torch.tensor, torch.as_tensor):  # a copy of the host's
        device().wait(f"host -> device by torch.{func.__name__}")
    made = call(func, args, {**kwargs, "device": "cpu"})
    return made if isinstance(made, GpuTensor) else GpuTensor(made, requires_grad)


def _put_number(tensor: Tensor, index: Any, value: float) -> None:
    """`x[index] = 1`: by a mask that is a kernel's argument, by other tensors a copy of the host's."""
    if isinstance(index, GpuTensor) and index.dtype == torch.bool:
        tensor.masked_fill_(index, value)
        return
    if any(isinstance(one, Tensor) for one in (index if isinstance(index, tuple) else (index,))):
        device().wait("index_put_: host -> device of a number")
    Tensor.__setitem__(tensor, index, value)


def _one_hot(labels: Tensor, classes: int) -> Tensor:
    """Without the look at the labels that torch takes on a CPU only."""
    return labels.new_zeros(*labels.shape, classes).scatter_(-1, labels.unsqueeze(-1), 1)


def _moved(args: Any, kwargs: dict[str, Any]) -> Tensor:
    """`Tensor.to` in all its forms."""
    tensor, *rest = args
    to, dtype = kwargs.pop("device", None), kwargs.pop("dtype", None)
    for one in rest[:3]:
        if isinstance(one, (str, torch.device)) or (isinstance(one, int) and not isinstance(one, bool)):
            to = one
        elif isinstance(one, torch.dtype):
            dtype = one
        elif isinstance(one, Tensor):
            to, dtype = one.device, one.dtype
    copy, memory_format = kwargs.get("copy", False), kwargs.get("memory_format")
    if to is not None and _is_cuda(to) != isinstance(tensor, GpuTensor):
        tensor, copy = to_device(tensor) if _is_cuda(to) else to_host(tensor), False
    more = {"copy": True} if copy else {}
    if memory_format is not None:
        more["memory_format"] = memory_format
    if dtype is None and not more:
        return tensor  # type: ignore[no-any-return]
    return Tensor.to(tensor, tensor.dtype if dtype is None else dtype, **more)


def _is_cuda(name: Any) -> bool:
    return torch.device(name).type == "cuda"
