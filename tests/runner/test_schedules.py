"""What a spec says of its schedule is what the optimiser steps at."""

from typing import Any

import pytest

from fatbench.config.request import Request
from fatbench.config.resolve import resolve
from fatbench.runner.setup import set_up


@pytest.mark.parametrize(
    ("flags", "rates"),
    [
        ({"schedule": "piecewise"}, {0.49: 1.0, 0.5: 0.1, 0.75: 0.01}),
        ({"schedule": "piecewise", "milestones": ["0.2", "0.9"]}, {0.19: 1.0, 0.2: 0.1, 0.75: 0.1, 0.9: 0.01}),
        ({"schedule": "cyclic"}, {0.25: 0.5, 0.5: 1.0, 0.75: 0.5}),
        ({"schedule": "cyclic", "peak": "0.4"}, {0.2: 0.5, 0.4: 1.0, 0.7: 0.5}),
        ({"schedule": "onecycle", "peak": "0.5"}, {0.5: 1.0}),
    ],
)
def test_the_rate_is_where_the_spec_says(flags: dict[str, Any], rates: dict[float, float]) -> None:
    (spec,) = resolve(Request(["standard"], settings={"epochs": 100, "lr": 0.3, **flags}), "cpu")
    training = set_up(spec, None, False).training()
    for progress, fraction in rates.items():
        training.counters = (round(progress * 100 * len(training.loader)), 0, 0)
        assert training.status().lr == pytest.approx(0.3 * fraction)
