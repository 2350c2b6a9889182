"""What the authors' scripts do with one batch, method by method: the honest opponent of the engines.

Each module is one script's training loop, rebuilt from what it does (no code is copied): its `DataLoader` with its
number of workers and its transforms of one image at a time on the CPU, its copies to the device, its attack as coded
(weight gradients where it calls `loss.backward()`, forwards that it repeats or makes for its log), its `.item()`
calls, `torch.optim.SGD` as torch has it, its learning-rate scheduler. Eager, contiguous NCHW, float32.

    PASSES      (forward, backward to inputs, backward to weights) of the batch per optimiser step, as coded; a test
                counts them
    HALF        whether the script trains in float16 by default; on a GPU it is then timed so, too
    loader(images, device)
    train(model, loader, device, *, eps, lr, momentum, weight_decay, ...)
                a generator that yields after every batch, and never ends

Left out, all in the scripts' favour: logging and progress bars; starting the workers, once an epoch in the scripts
(here an epoch never ends); normalising images on the CPU (the model does it, as in fatbench's own loops). Every batch
is full. Network and images are those that the engines get, so that loops are compared and not networks.
"""

from importlib import import_module
from importlib.util import find_spec
from types import ModuleType


def exists(method: str) -> bool:
    """Return whether there is a loop of the registered method `method`: it is no duty to write one."""
    return find_spec(_module(method)) is not None


def load(method: str) -> ModuleType:
    """Return the module of the registered method `method`."""
    return import_module(_module(method))


def _module(method: str) -> str:
    return f"{__name__}.{method.replace('-', '_')}"
