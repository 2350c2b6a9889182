"""What --strict does not forgive."""

import math

import pytest
from pydantic import ValidationError

from fatbench.record import Record
from fatbench.record.parts import Diagnostics, Event, Finding, Masking, Selection
from fatbench.report.aggregate import aggregate, status
from fatbench.report.comparison import compare
from fatbench.report.frame import frame
from fatbench.report.run import Run
from fatbench.report.validity import guessing, reasons_to_distrust
from tests.report.records import DATA, external, score
from tests.report.records import record as make_record

EVENT = Event(kind="catastrophic-overfitting", step=90, epoch=9, train_seconds=1.0, detail="pgd-10 fell")


def selection(step: int) -> Selection:
    return Selection(policy="restored", epoch=step // 10, step=step, train_seconds=1.0)


def with_(**fields: object) -> Record:
    return make_record().model_copy(update=fields)


def test_a_healthy_record_leaves_no_doubt() -> None:
    assert reasons_to_distrust(make_record()) == []
    slow = Event(kind="throttled", step=1, epoch=1, train_seconds=1.0)
    assert reasons_to_distrust(with_(events=[slow], diagnostics=Diagnostics(masking=Masking(verdict="none")))) == []


def test_every_reason_is_a_line() -> None:
    finding = Finding(code="softmax-outputs", detail="return logits", evaluation="autoattack")
    masking = Masking(verdict="suspect", reasons=["noise beats FGSM", "zero gradients"])
    record = with_(status="diverged", events=[EVENT], diagnostics=Diagnostics(findings=[finding], masking=masking))
    assert [one.detail for one in reasons_to_distrust(record)] == [
        "the training diverged",
        "catastrophic overfitting in epoch 9: pgd-10 fell",
        "softmax-outputs (autoattack): return logits",
        "gradients seem to be masked: noise beats FGSM; zero gradients",
    ]


def test_overfitting_after_the_weights_that_are_scored_is_forgiven() -> None:
    assert reasons_to_distrust(with_(events=[EVENT], selection=selection(80))) == []
    assert len(reasons_to_distrust(with_(events=[EVENT], selection=selection(90)))) == 1


def scored(correct: int, total: int = 500, classes: int = 10, most_frequent: int = 0, **fields: object) -> Record:
    data = DATA.model_copy(update={"classes": classes, "test": total, "most_frequent": most_frequent})
    return with_(scores={"clean": score(correct, total)}, data=data, **fields)


def test_the_case_of_a_network_that_learned_nothing() -> None:
    reason = guessing(scored(50))
    assert reason is not None
    assert reason.detail.startswith("near chance: clean accuracy is 10.0% (50 of 500), that of guessing 10.0%: ")
    assert "--lr" in reason.detail
    elsewhere = external(fields={"scores": {"clean": score(36)}})
    assert "wrong normalisation, order of classes, or weights?" in reasons_to_distrust(elsewhere)[0].detail


@pytest.mark.parametrize(
    ("correct", "total", "classes", "most_frequent", "label"),
    [
        (50, 500, 10, 0, "near chance"),
        (62, 500, 10, 0, "near chance"),  # 1.8 standard errors above
        (70, 500, 10, 0, None),
        (5, 500, 10, 0, "below chance"),  # permuted labels
        (0, 500, 10, 0, "below chance"),
        (2, 6, 3, 3, None),  # too few to say
        (1, 10, 10, 1, None),
        (3, 30, 10, 0, None),
        (6, 12, 2, 6, None),
        (500, 1000, 2, 500, "near chance"),
        (550, 1000, 2, 500, None),
        (1000, 1000, 2, 1000, None),  # one class in the test set: nothing tells guessing from knowing
        (900, 1000, 2, 900, "near chance"),  # one class for all
        (900, 1000, 2, 0, None),  # an older record did not count them
        (930, 1000, 2, 900, None),
        (100, 10_000, 100, 100, "near chance"),
        (150, 10_000, 100, 100, None),
        (500, 500, 1, 500, None),
    ],
)
def test_a_network_that_guesses_is_told_from_one_that_learned_and_from_too_few_images(
    correct: int, total: int, classes: int, most_frequent: int, label: str | None
) -> None:
    reason = guessing(scored(correct, total, classes, most_frequent))
    assert (reason and reason.label) == label


def test_guessing_is_found_nearly_always_and_learning_never_taken_for_it() -> None:
    """Over what a network with a given accuracy scores, by the exact binomial distribution."""

    def share_found(accuracy: float, total: int, classes: int) -> float:
        return math.fsum(
            math.comb(total, k) * accuracy**k * (1 - accuracy) ** (total - k)
            for k in range(total + 1)
            if guessing(scored(k, total, classes))
        )

    for total, classes in ((400, 2), (200, 3), (500, 10)):
        assert share_found(1 / classes, total, classes) > 0.95
    for total in (1, 2, 3, 6, 12, 25, 50, 100, 500):
        for classes in (2, 3, 10, 100):
            learned = 3 / (classes + 2)  # three times the odds of guessing
            assert share_found(learned, total, classes) < 0.02, (total, classes)


def test_what_was_right_before_an_attack_will_do() -> None:
    of = {"autoattack": score(0, 200, clean=20), "pgd-20": score(0, 360, clean=300)}
    assert guessing(make_record(fields={"scores": of})) is None
    del of["pgd-20"]
    reason = guessing(make_record(fields={"scores": of}))
    assert reason is not None
    assert "10.0% (20 of 200)" in reason.detail
    for clean in (4, 361):
        with pytest.raises(ValidationError, match=f"{clean} right before the attack, 5 after it, out of 360"):
            score(5, clean=clean)


def test_near_chance_needs_a_clean_score_and_a_run_that_did_not_diverge() -> None:
    assert guessing(make_record(fields={"scores": {"pgd-20": score(0)}})) is None  # standard training's is 0, too
    assert guessing(scored(50, status="diverged")) is None
    assert guessing(make_record(data=None)) is None


def test_a_row_near_chance_says_so_and_earns_no_mark() -> None:
    rows = compare([make_record(36, 36, 20, seconds=1.0), make_record(340, 10, 1, method="standard", seconds=2.0)])[
        0
    ].rows
    by_method = {row.method: row for row in rows}
    assert status(by_method["fgsm-rs"]) == "near chance"
    assert not any(row.pareto or row.best for row in rows)
    assert list(frame([scored(50), make_record()])["findings"].fillna("")) == ["near chance", ""]
    two = [Run(scored(50)), Run(make_record(seed=1))]
    assert status(aggregate("x", by_method["fgsm-rs"].configuration, two)) == "near chance (1 of 2)"
