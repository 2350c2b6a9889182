"""What --strict does not forgive."""

from fatbench.record import Record
from fatbench.record.parts import Diagnostics, Event, Finding, Masking, Selection
from fatbench.report.validity import reasons_to_distrust
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
