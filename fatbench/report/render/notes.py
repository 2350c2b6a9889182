"""The words around a table: its heading, its footnotes, and what its numbers mean."""

from collections.abc import Sequence

from fatbench.report.comparison import Group
from fatbench.report.formats import evaluation_title, plain
from fatbench.report.render.columns import BEST_MARK, NOISY_MARK, PARETO_MARK
from fatbench.report.setting import Setting
from fatbench.report.validity import NOISY


def headings(groups: Sequence[Group]) -> list[str]:
    """Return each group's title: what its rows share. Groups that differ in nothing else show the hash of the data."""
    written = [_heading(group) for group in groups]
    return [
        f"{text}, data {plain(group.setting.data_sha256 or 'unknown')[:8]}" if written.count(text) > 1 else text
        for text, group in zip(written, groups, strict=True)
    ]


def footnotes(group: Group) -> list[str]:
    """Return what a reader of the group's table must know beside it."""
    base = group.reference
    several = len({row.model for row in group.rows}) > 1
    shown = base is not None and group.setting.epochs is not None
    relative = f"x faster: than {base.label}{f' on {base.model}' if several else ''}" if base and shown else ""
    noisy = any(NOISY in row.events and row.train_seconds for row in group.rows)
    timed = group.setting.budget_seconds is not None
    accuracy = ", nor on accuracy: within a time budget a disturbed run takes fewer steps" * timed
    pace = f"{NOISY_MARK} noisy: uneven in pace, or throttled; do not rely on this speed{accuracy}"
    finding = pace if noisy else ""
    strongest = evaluation_title(next(reversed(group.evaluations), ""))
    beaten = "distinguishable from all other rows evaluated on it, on the same test images (p < 0.05)"
    best = f"{BEST_MARK} best on {strongest}: {beaten}"
    undominated = f"none is as fast and more robust, or as robust and faster ({strongest})"
    pareto = f"{PARETO_MARK} Pareto-optimal by the means: {undominated}"
    earned = [best] * any(row.best for row in group.rows) + [pareto] * any(row.pareto for row in group.rows)
    return [line for line in (relative, finding, *earned, *group.notes) if line]


def legend(groups: Sequence[Group]) -> str:
    """Return what the numbers of all the tables mean."""
    rows = [row for group in groups for row in group.rows]
    kinds = {score.interval for row in rows for score in row.scores.values()}
    one = "one seed: [95% Wilson interval of its count on n test images]" if "wilson" in kinds or not kinds else ""
    several = "mean ± sample standard deviation over seeds, [95% t-interval over seeds, for these n test images]"
    meaning = "; ".join(text for text in (one, f"several seeds: {several}" if "t" in kinds else "") if text)
    return f"Accuracies in %. {meaning[:1].upper()}{meaning[1:]}. Times are training time only.{_legend(groups)}"


def _legend(groups: Sequence[Group]) -> str:
    if not any(group.paired for group in groups):
        return ""
    tests = {pair.test for group in groups for pair in group.paired or () if pair.test}
    models = (
        "one seed each, about these weights and not about the methods: exact McNemar test, the hull of Newcombe's and"
        " the exact 95% interval"
    )
    methods = (
        "several seeds, about the methods: images and seeds as crossed random effects, a row's variance between seeds"
        " moderated by the other rows' (no collapsed or suspect ones)"
    )
    parts = {models: "mcnemar" in tests, methods: bool(tests - {"mcnemar"})}
    found = "; ".join(text for text, wanted in parts.items() if wanted)
    tested = f" {found[:1].upper()}{found[1:]}." if found else ""
    adjusted = "p after Holm, over the pairs of a table; intervals of one pair each, not adjusted"
    lacking = any(pair.needed for group in groups for pair in group.paired or ())
    need = " What would tell: at 80% power, if the difference is as large as seen." if lacking else ""
    return f"\nPairs: on the test images that all runs of both saw.{tested} {adjusted}.{need}"


def _heading(group: Group) -> str:
    one: Setting = group.setting
    shared = {row.model for row in group.rows}
    threads = f"{one.threads} thread{'s' * (one.threads != 1)}" if one.threads else ""
    size = f"{one.limit_train} training images" if one.limit_train else "of the training images"
    parts = [
        one.dataset,
        shared.pop() if len(shared) == 1 else "",
        f"{one.norm} eps {one.eps}",
        one.budget,
        f"batch {one.batch_size}" if one.batch_size else "",
        one.precision or "",
        f"{one.engine} engine" if one.engine not in ("reference", None) else "",
        f"{plain(one.device) if one.device else f'unknown device ({one.device_type})'}{', TF32' if one.tf32 else ''}",
        threads,
        f"protocol {one.protocol}",
        f"SUBSET {size}" if one.subset else "",
    ]
    return ", ".join(part for part in parts if part)
