"""FGSM: the script of `fgsm_rs`, with --delta-init zero and a step of eps."""

from functools import partial

from benchmarks.naive import fgsm_rs
from benchmarks.naive.fgsm_rs import HALF, PASSES, loader

__all__ = ["HALF", "PASSES", "loader", "train"]

train = partial(fgsm_rs.train, start="zero", alpha=1.0)
