import numpy as np

from fatbench.data.arrays import Arrays
from fatbench.data.ranking import hash_priority, stratified_order

_TEST = 497
_VALIDATION = 100


def read_digits() -> Arrays:
    """Return scikit-learn's digits: 1,300 training images (of which 100 are for validation) and 497 test images.

    They are the test set of UCI's "Optical Recognition of Handwritten Digits" (Alpaydin & Kaynak, 1998), 8x8 with 17
    grey levels, spread here over 0..255. The test images are stratified and chosen by their hash, once and for all.
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    x = np.rint(digits.images * (255 / 16)).astype(np.uint8)[:, None]
    y = digits.target.astype(np.int64)
    order = stratified_order(y, hash_priority(x))
    test, train = np.sort(order[:_TEST]), np.sort(order[_TEST:])
    return Arrays(x[train], y[train], x[test], y[test], validation=_VALIDATION)
