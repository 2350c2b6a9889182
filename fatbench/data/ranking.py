"""Orders and fingerprints of images that depend on the images alone, not on the order in which a file has them."""

import hashlib
import heapq
from collections import deque

import numpy as np
from numpy.typing import NDArray


def digests(x: NDArray[np.uint8]) -> list[bytes]:
    """Return the sha256 of each image's pixels, x being (N, C, H, W)."""
    return [
        hashlib.sha256(row.data).digest()
        for row in np.ascontiguousarray(x).reshape(len(x), np.prod(x.shape[1:], dtype=int))
    ]


def hash_priority(x: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Return the first 64 bits of each image's sha256, (N,): a ranking that nobody chose."""
    return np.frombuffer(b"".join(digests(x)), dtype=">u8")[::4].astype(np.uint64)


def stratified_order(labels: NDArray[np.int64], priority: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return all rows in an order of which every beginning is stratified, (N,): beginnings of it are nested, too.

    Within a class, rows come by priority. Among the first n rows, each class is less than one image away from its
    share n N_c / N: the r-th image of a class must not come before its share exceeds r, and must have come when the
    share reaches r + 1, and serving the most urgent first keeps all these dates (Liu & Layland, 1973).
    """
    total, counts = len(labels), np.bincount(labels)
    by_class = np.lexsort((priority, labels))
    sizes = counts[labels[by_class]]
    rank = np.arange(total) - (np.cumsum(counts) - counts)[labels[by_class]]
    release = rank * total // sizes
    due = -(-(rank + 1) * total // sizes)
    jobs = zip(release.tolist(), due.tolist(), priority[by_class].tolist(), by_class.tolist(), strict=True)
    coming = deque(sorted(jobs))
    waiting: list[tuple[int, int, int]] = []
    order = []
    for place in range(total):
        while coming and coming[0][0] <= place:
            heapq.heappush(waiting, coming.popleft()[1:])
        order.append(heapq.heappop(waiting)[-1])
    return np.array(order, dtype=np.int64)


def fingerprint(*parts: tuple[NDArray[np.uint8], NDArray[np.int64]]) -> str:
    """Return a sha256, in hexadecimal, of labelled images in several parts; the order within a part does not matter."""
    total = hashlib.sha256()
    for x, y in parts:
        total.update(repr((len(x), *x.shape[1:])).encode())
        for row in sorted(d + int(label).to_bytes(8, "little") for d, label in zip(digests(x), y, strict=True)):
            total.update(row)
    return total.hexdigest()
