"""fatbench: a benchmark of fast adversarial training."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("fatbench")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0+unknown"
