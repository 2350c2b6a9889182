"""AutoAttack with fewer iterations, for a look at what it costs, and for tests of what surrounds it."""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import pyautoattack


@contextmanager
def shortened(share: float) -> Iterator[None]:
    """Give all attacks that the library sets up inside this share of the standard's iterations and queries."""
    standard = pyautoattack.AutoAttack._set_version

    def shorter(self: pyautoattack.AutoAttack, version: str = "standard") -> None:
        standard(self, version)
        for attack in (self.apgd, self.apgd_targeted, self.fab):
            attack.n_iter = _share_of(attack.n_iter, share)
        for attack in (self.apgd, self.apgd_targeted):  # as its constructor has it
            attack.n_iter_2 = _share_of(attack.n_iter, 0.22)
            attack.n_iter_min = _share_of(attack.n_iter, 0.06)
            attack.size_decr = _share_of(attack.n_iter, 0.03)
        self.square.n_queries = _share_of(self.square.n_queries, share)

    with patch.object(pyautoattack.AutoAttack, "_set_version", shorter):
        yield


def _share_of(steps: int, share: float) -> int:
    return max(int(share * steps), 1)
