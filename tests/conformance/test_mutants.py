"""Every check can fail: each is shown a small method with the fault that it is there for, and says what is wrong."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from fatbench import methods
from fatbench.conformance import checking
from fatbench.conformance.report import Report, Verdict
from fatbench.conformance.sandbox import sandboxed
from fatbench.conformance.toy_problem import Case
from tests.conformance.mutants import BEFORE, BETWEEN, BODY, HEAD, MUTANTS, undeclared

Write = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write the method with lines in place of others, and return its path."""

    def write_source(*changes: tuple[str, str], head: str = "") -> str:
        body = BODY
        for old, new in changes:
            assert old in body, old
            body = body.replace(old, new, 1)
        path = tmp_path / "mutant.py"
        path.write_text(HEAD + head + body)
        return str(path)

    return write_source


def look(title: str, path: str, *, registered: bool = True) -> Verdict:
    method = methods.load(path)
    return checking._verdict(checking.CHECKS[title], Case(sandboxed(method, 200, 5.0), "linf", registered))


@pytest.mark.parametrize("title", list(checking.CHECKS))
def test_the_method_itself_passes(title: str, write: Write) -> None:
    assert look(title, write()).status == "ok"


@pytest.mark.parametrize(("title", "change", "says"), MUTANTS)
def test_a_fault_is_found_and_told(title: str, change: tuple[str, str], says: str, write: Write) -> None:
    found = look(title, write(change))
    assert found.status == ("failed" if says else "ok"), found
    assert says in found.detail


def test_every_check_has_its_mutants() -> None:
    assert {title for title, _, says in MUTANTS if says} == set(checking.CHECKS)


# What is declared


@pytest.mark.parametrize(
    ("head", "change", "says"),
    [
        ("REACH = 2.0\n", ("alpha, x)", "alpha, start)"), "trains up to 2 eps away"),
        ("TRAINS_OUTSIDE = 'so be it'\n", ("ctx.ball.step(start, gradient, alpha, x)", "x + 0.01"), "so be it"),
        ("LEAVES_BOX = 'as theirs'\n", ("ctx.ball.project(x + ctx.ball.sample(x) + delta, x)", "x + 0.1"), "as theirs"),
    ],
)
def test_what_is_declared_is_allowed_and_told(head: str, change: tuple[str, str], says: str, write: Write) -> None:
    found = look("ball and box", write(change, head=head))
    assert found.status == "declared"
    assert says in found.detail


@pytest.mark.parametrize("head", ["REACH = 2.0\n", "TRAINS_OUTSIDE = 'no'\n", "LEAVES_BOX = 'no'\n"])
def test_what_is_declared_must_happen(head: str, write: Write) -> None:
    found = look("ball and box", write(head=head))
    assert found.status == "failed"
    assert found.detail.endswith("leave it out")


def test_a_method_may_say_that_it_cannot_be_captured(write: Write) -> None:
    found = look("CUDA graph", write((BETWEEN, "    loss.item()\n"), head="NOT_CAPTURABLE = 'it looks at its loss'\n"))
    assert found == Verdict("declared", "no: it looks at its loss")


def test_a_method_of_ours_that_waits_is_found_when_it_does_not_say_so(tmp_path: Path) -> None:
    (tmp_path / "nuat.py").write_text(undeclared("nuat", "NOT_CAPTURABLE"))
    found = look("CUDA graph", str(tmp_path / "nuat.py"))
    assert found.status == "failed"
    assert "_linalg_svd makes the host wait" in found.detail
    assert look("CUDA graph", "nuat").status == "declared"


@pytest.mark.parametrize(("remedy", "status"), [("set true_mass above it with --set", "declared"), ("no", "failed")])
def test_two_classes_may_be_refused_with_a_remedy(remedy: str, status: str, write: Write) -> None:
    refusal = f"    if model(x).shape[1] == 2: raise UsageError('half of two: {remedy}')\n"
    found = look("two classes", write((BEFORE, refusal), head="from fatbench.errors import UsageError\n"))
    assert found.status == status
    assert found.detail.endswith(f"half of two: {remedy}")
    assert found.detail.startswith("refuses: ") == (status == "declared")


# The whole


def failures(report: Report) -> list[str]:
    return [finding.check for finding in report.failed]


def test_a_method_that_does_not_run_is_told_so_once(write: Write) -> None:
    report = checking.check(write((BEFORE, "    1 / 0\n")))
    assert failures(report) == ["runs"]
    assert {finding.status for finding in report.findings[1:]} == {"skipped"}
    assert report.facts is None


def test_an_attack_that_never_ends_is_given_up(write: Write) -> None:
    path = write((BEFORE, "    while True: model(x)\n"))
    method = sandboxed(methods.load(path), seconds=0.5)
    found = checking._verdict(checking.CHECKS["runs"], Case(method, "linf", registered=False))
    assert "it does not come to the end of a batch: given up after 0 losses" in found.detail


def test_ones_own_file_need_not_be_a_card(write: Write) -> None:
    report = checking.check(write(("    Differences: none.", ""), ("PASSES = ", "passes = ")))
    assert not report.failed
    found = {finding.check: finding for finding in report.findings}
    assert found["passes"].status == found["batch norm"].status == found["docstring"].status == "unknown"
    assert "counted 2 forward, 2 to inputs, 1 to weights; not declared, as PASSES" in found["passes"].detail


def test_a_fault_in_one_norm_names_it(write: Write) -> None:
    only_linf = "    assert type(ctx.ball).__name__ == 'Linf'\n"
    (first, *_) = checking.check(write((BEFORE, only_linf), head='NORMS = ("linf", "l2")\n')).findings
    assert first.detail.startswith("l2: AssertionError at mutant.py:22")


def test_looking_leaves_the_random_generators_alone(write: Write) -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    checking.check(write())
    assert torch.equal(torch.rand(3), expected)


def test_facts_are_counted(write: Write) -> None:
    memory = "    kept = ctx.buffer('kept', like=x, rows=ctx.num_train)\n    kept[ids] = x_adv\n"
    facts = checking.check(write(("    # after\n", f"{memory}    yield F.cross_entropy(model(x), y)\n"))).facts
    assert facts is not None
    assert (facts.forward, facts.input_backward, facts.weight_backward, facts.units) == (1.5, 1.5, 1.0, 4.0)
    assert (facts.updates, facts.batch_norm_updates) == (2, 1.5)
    assert facts.memory == 3 * 32 * 32 * 4
    assert facts.heeds_smoothing
