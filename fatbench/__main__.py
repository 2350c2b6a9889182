"""`python -m fatbench` is `fatbench`."""

from fatbench.cli import main

main()
