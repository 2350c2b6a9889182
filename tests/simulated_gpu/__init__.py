"""A GPU that is not there, for tests of what the engine does on one.

`with simulated() as gpu:` lets "cuda" be used on any machine, by unpatched production code. The CPU's kernels compute,
so numbers are real and whole runs work; what differs from a CPU is what differs on a GPU:

- tensors of host and device do not mix (a number on the host may, and indices);
- whatever makes the host wait for the device is counted by place, and is an error in torch's sync-debug mode and in a
  recording;
- the device has a random generator of its own;
- `torch.cuda.graph` records a tape of operations, which `replay` repeats in the same memory, unseen by autograd.

What it cannot show: speed, memory, rounding, kernels that do not exist, streams that race.
"""

from .cuda import simulated
from .device import Device

__all__ = ["Device", "simulated"]
