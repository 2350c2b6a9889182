"""AutoAttack (Croce & Hein, ICML 2020) through pyautoattack, with what the library leaves to its user.

Its attacks run one at a time on the images that still stand, with the standard parameters, chunk by chunk: verdicts are
those of its own standard evaluation, bit for bit, each part's share is known, and what is known survives a crash. Few
classes work (the library's targeted attacks assume ten), and so do contiguous inputs, seeds, the debugger's hook that
the library removes, and warnings that it only logs. The fast engine attacks an accelerated surrogate of the model.
"""

from fatbench.evaluation.autoattack.adapter import VERSION, parts_for
from fatbench.evaluation.autoattack.run import run_autoattack

__all__ = ["VERSION", "parts_for", "run_autoattack"]
