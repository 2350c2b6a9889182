"""What a user asked for on the command line."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fatbench.config.spec import Toggle

UNIFIED, OFFICIAL = "unified", "official"


@dataclass(frozen=True)
class Request:
    """What a user asked for on the command line."""

    methods: Sequence[str] = ()
    preset: str | None = None
    flags: Mapping[str, Any] = field(default_factory=dict)  # a Preset's fields, limit_train, eval_batch_size
    hyper: Sequence[str] = ()  # NAME=VALUE, or METHOD.NAME=VALUE for one method among several
    seeds: str = "0"
    eval_samples: str | None = None  # a number, "all", or None for the defaults
    recipe: str = UNIFIED
    require: Sequence[Toggle] = ()  # parts of the fast engine that must be in force; no part of a spec
