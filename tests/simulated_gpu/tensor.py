"""A tensor that says "cuda:0" and holds one of the CPU's, and how operations on such tensors are carried out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map

from .device import Call, is_drawing, tensors_of

if TYPE_CHECKING:
    from .device import Device

CUDA = torch.device("cuda", 0)  # what Python is told ...
BEHIND = torch.device("cpu", 0)  # ... and torch's core, which has no other device
HOST = torch.device("cpu")

# Operations whose result's size, or whose algorithm, the host has to ask the device for.
WAITING = {
    *("_local_scalar_dense", "equal", "is_nonzero", "nonzero", "masked_select"),
    *("bincount", "histc", "mode", "multinomial", "unique_consecutive", "unique_dim", "_unique2"),
    *("linalg_lstsq", "_linalg_eigh", "_linalg_eigvals", "_linalg_svd"),
}
INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_"}

_device: list[Device] = []  # the one in force, if any


def device() -> Device:
    """The device that is simulated now."""
    return _device[-1]


class GpuTensor(Tensor):
    """`held` has the numbers."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor, requires_grad: bool = False) -> GpuTensor:
        made: GpuTensor = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            layout=held.layout,
            device=BEHIND,
            requires_grad=requires_grad,
        )
        made.held = held.detach() if held.requires_grad else held
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl
    device = property(lambda self: CUDA)  # type: ignore[assignment]
    is_cuda = property(lambda self: True)  # type: ignore[assignment]
    is_cpu = property(lambda self: False)  # type: ignore[assignment]

    @property  # type: ignore[override]
    def data(self) -> Any:
        return Tensor.data.__get__(self)  # type: ignore[attr-defined]

    @data.setter
    def data(self, value: GpuTensor) -> None:
        Tensor.data.__set__(self, value)  # type: ignore[attr-defined]
        self.held = value.held

    def __repr__(self) -> str:  # type: ignore[override]
        return f"GpuTensor({self.held})"

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        if id(self) not in memo:
            copied: Tensor = GpuTensor(self.held.clone(memory_format=torch.preserve_format), self.requires_grad)
            if getattr(self, "_is_param", False):
                copied = torch.nn.Parameter(copied, self.requires_grad)
            memo[id(self)] = copied
        found: Tensor = memo[id(self)]
        return found

    def numpy(self, *_: Any, **__: Any) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first.")

    __array__ = numpy

    def data_ptr(self) -> int:
        return self.held.data_ptr()

    def tolist(self) -> Any:
        device().wait("tolist")
        return self.held.tolist()

    def cpu(self, **_: Any) -> Tensor:
        return to_host(self)

    def get_device(self) -> int:
        return 0

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return carry_out(func, args, kwargs or {})


def to_host(tensor: GpuTensor) -> Tensor:
    device().wait("device -> host")
    return tensor.held.detach().clone(memory_format=torch.preserve_format)


def to_device(tensor: Tensor) -> GpuTensor:
    device().wait("host -> device")
    return GpuTensor(tensor.detach().clone(memory_format=torch.preserve_format))


def held(value: Any) -> Any:
    """Return arguments or results with the tensors that hold the numbers."""
    return tree_map(lambda one: one.held if isinstance(one, GpuTensor) else one, value)


def carry_out(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Carry an operation out, of which an argument lies on the device, or which makes something there."""
    name = func._schema.name.removeprefix("aten::")
    tensors = tensors_of(tree_flatten((args, kwargs))[0])
    if name == "_to_copy" and isinstance(args[0], GpuTensor) and _goes_to_host(kwargs):
        device().wait("device -> host")
        rest = {key: value for key, value in kwargs.items() if key not in ("device", "non_blocking", "pin_memory")}
        return func(args[0].held, **rest)
    if name == "copy_" and len({isinstance(one, GpuTensor) for one in tensors}) == 2:
        return _copied_across(func, args, kwargs)
    _check_places(func, name, args, tensors)
    if name in WAITING or (name == "repeat_interleave" and kwargs.get("output_size") is None):
        device().wait(name)
    kwargs = {key: None if key in ("device", "pin_memory") else value for key, value in kwargs.items()}
    inner_args, inner_kwargs = held((args, kwargs))
    result = call(func, inner_args, inner_kwargs)
    if name == "_local_scalar_dense" or not isinstance(result, (Tensor, list, tuple)):
        return result
    wrapped = tree_map(lambda one: GpuTensor(one) if isinstance(one, Tensor) else one, result)
    return return_and_correct_aliasing(func, args, kwargs, wrapped)


def call(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Call an operation on what holds the numbers, drawing from the device's generator, and take it down."""
    if is_drawing(func, kwargs):
        with device().drawing():
            result = func(*args, **kwargs)
    else:
        result = func(*args, **kwargs)
    tape = device().tape
    if tape is not None:
        tape.append(Call(func, args, kwargs, result))
    return result


def _goes_to_host(kwargs: dict[str, Any]) -> bool:
    to = kwargs.get("device")
    return to is not None and torch.device(to) == HOST


def _copied_across(func: Any, args: Any, kwargs: dict[str, Any]) -> Tensor:
    """Copy between host and device: only from pinned memory can it go on while the host does."""
    target, source = args[0], args[1]
    waits = not (kwargs.get("non_blocking") or (len(args) > 2 and args[2])) or not getattr(source, "pinned", False)
    if not isinstance(target, GpuTensor):
        device().wait("device -> host")
    elif waits:
        device().wait("host -> device")
    elif device().tape is not None:
        raise RuntimeError("every replay would read that pinned memory")
    func(*held(args), **kwargs)
    return target  # type: ignore[no-any-return]


def _check_places(func: Any, name: str, args: Any, tensors: list[Tensor]) -> None:
    """See that operands lie where a GPU wants them.

    Raises:
        RuntimeError: they do not, or the host may not wait for the copy that is needed.
    """
    host = [one for one in tensors if not isinstance(one, GpuTensor)]
    on_device = isinstance(args[0], GpuTensor) if args else True
    if name in INDEXING:
        indices = [index for index in args[1] if index is not None]
        for index in indices:
            if index.dtype in (torch.bool, torch.uint8):
                device().wait(f"{name} by a mask")
            if isinstance(index, GpuTensor) and not on_device:
                raise RuntimeError("indices should be either on cpu or on the same device as the indexed tensor (cpu)")
            if on_device and not isinstance(index, GpuTensor):
                device().wait(f"{name}: host -> device of indices")
        host = [one for one in host if not any(one is index for index in indices)]
        if on_device and any(one is not args[0] for one in host) and name != "index":
            device().wait(f"{name}: host -> device of a number")  # torch copies it, where an operation would take it
    if len(host) < len(tensors) and any(one.dim() for one in host):
        raise RuntimeError(f"Expected all tensors to be on the same device, but found cuda:0 and cpu! ({name})")
    if len(host) < len(tensors) and func._schema.is_mutable and not isinstance(args[0], (GpuTensor, list, tuple)):
        raise RuntimeError(f"{name}: the result lies on the host, an operand on the device")
