"""Keeping the host close ahead of a GPU."""

from collections import deque

import torch

_AHEAD = 2  # batches: enough that the device never waits, few enough to tell the time by


class Throttle:
    """Lets the host queue at most two batches that the device has not finished; nothing to do where work is not queued.

    So the time on the host's clock is known to be at most two batches behind what is queued, without ever stopping the
    device to ask.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._finished: deque[torch.cuda.Event] = deque()

    @property
    def in_flight(self) -> int:
        """Batches queued that the device may not have finished, at most."""
        return len(self._finished)

    def batch_queued(self) -> None:
        """A batch has been queued: wait until at most two are unfinished."""
        if self._device.type != "cuda":
            return
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(self._device))
        self._finished.append(event)
        while len(self._finished) > _AHEAD:
            self._finished.popleft().synchronize()

    def reset(self) -> None:
        """The device has been waited for: nothing is in flight."""
        self._finished.clear()
