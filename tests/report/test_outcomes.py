"""Images are matched by their pixels, and files of outcomes are untrusted."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fatbench.errors import UsageError
from fatbench.record.samples import Samples, save_samples
from fatbench.report.comparison import compare, with_pairs
from fatbench.report.outcomes import matched, samples_of
from fatbench.report.run import Run

from .records import outcome, run, samples, standing

TRADES = {"method": "trades"}


def of(hashes, stands, labels=None):
    numbers = np.array(hashes, dtype=np.uint64)
    of_labels = np.array(labels if labels is not None else [0] * len(hashes), dtype=np.int64)
    return Samples(numbers, of_labels, {"pgd-20": outcome(stands)})


def lines(*files):
    return matched(files, "pgd-20", [""] * len(files)).standing(range(len(files))).astype(int).tolist()


def test_images_are_matched_whatever_their_order():
    assert lines(of([7, 5, 9], [1, 0, 1]), of([9, 7, 5], [0, 1, 1])) == [[0, 1, 1], [1, 1, 0]]  # 5, 7, 9


def test_only_images_that_all_runs_were_tested_on_count():
    assert lines(of([1, 2, 3], [1, 0, None]), of([2, 3, 4], [1, 1, 1])) == [[0], [1]]


def test_equal_images_are_told_apart_by_their_order():
    assert lines(of([5, 6, 5], [1, 0, 0]), of([5, 5, 5], [1, 0, 1])) == [[1, 0], [1, 0]]


def test_runs_may_have_nothing_in_common():
    assert lines(of([1], [1]), of([2], [1])) == [[], []]
    assert lines(of([], []), of([], [])) == [[], []]


@given(st.lists(st.lists(st.integers(0, 9), max_size=12), min_size=1, max_size=4), st.randoms())
def test_matching_is_what_a_loop_would_do(hashes, random):
    stands = [[random.randint(0, 1) for _ in one] for one in hashes]
    known = []
    for one, outcomes in zip(hashes, stands, strict=True):
        seen = {}
        known.append(
            {(h, seen.setdefault(h, []).append(0) or len(seen[h])): s for h, s in zip(one, outcomes, strict=True)}
        )
    shared = sorted(set.intersection(*map(set, known)))
    files = [of(one, outcomes) for one, outcomes in zip(hashes, stands, strict=True)]
    assert lines(*files) == [[one[key] for key in shared] for one in known]


def test_an_image_with_two_labels_is_refused():
    with pytest.raises(UsageError, match="one was tested on the same images as others here, but with other labels"):
        matched([of([1, 2], [1, 1], [3, 4]), of([2, 1], [1, 1], [4, 5])], "pgd-20", ["one", "two"])


def test_a_record_without_outcomes_has_none(tmp_path):
    one = run(tmp_path, [1, 0])
    assert samples_of(one, "pgd-20") is not None
    assert samples_of(one, "autoattack") is None
    assert samples_of(Run(one.record), "pgd-20") is None
    assert samples_of(Run(one.record.model_copy(update={"artefacts": {}}), one.path), "pgd-20") is None
    (tmp_path / one.record.artefacts["samples"]).unlink()
    assert samples_of(one, "pgd-20") is None


@pytest.mark.parametrize(
    "place",
    ["/etc/passwd", "../other/samples.npz", "a/../../x.npz", "C:\\x.npz", "a\\..\\..\\x", "\\\\host\\x", "a\0b", ".."],
)
def test_a_record_points_nowhere_but_below_its_folder(tmp_path, place):
    inside = run(tmp_path / "in", [1, 0])
    run(tmp_path / "other", [1, 0])
    hostile = Run(inside.record.model_copy(update={"artefacts": {"samples": place}}), inside.path)
    with pytest.raises(UsageError, match="for its outcomes"):
        samples_of(hostile, "pgd-20")


def test_a_link_out_of_the_folder_is_refused(tmp_path):
    elsewhere = run(tmp_path / "elsewhere", [1, 0])
    one = run(tmp_path / "in", [1, 0])
    file = tmp_path / "in" / one.record.artefacts["samples"]
    file.unlink()
    file.symlink_to(tmp_path / "elsewhere" / elsewhere.record.artefacts["samples"])
    with pytest.raises(UsageError, match="not below its folder"):
        samples_of(one, "pgd-20")
    file.unlink()
    file.symlink_to(file)
    with pytest.raises(UsageError, match=r"not below its folder|cannot read"):
        samples_of(one, "pgd-20")


def test_a_folder_in_place_of_a_file_is_no_outcome(tmp_path):
    one = run(tmp_path, [1, 0])
    named = one.record.model_copy(update={"artefacts": {"samples": one.record.id}})
    assert samples_of(Run(named, one.path), "pgd-20") is None


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"not a zip at all"])
def test_a_damaged_file_is_refused_in_one_line(tmp_path, content):
    one = run(tmp_path, [1, 0])
    (tmp_path / one.record.artefacts["samples"]).write_bytes(content)
    with pytest.raises(UsageError, match=r"samples\.npz"):
        samples_of(one, "pgd-20")


def test_outcomes_of_another_run_are_refused(tmp_path):
    one = run(tmp_path, [1, 0, 1])
    save_samples(samples([1, 1, 1]), tmp_path / one.record.artefacts["samples"])
    with pytest.raises(UsageError, match="pgd-20 is 3 of 3 in it, and 2 of 3 in the record"):
        samples_of(one, "pgd-20")


def test_damaged_outcomes_leave_a_table_without_its_best_and_no_pairs(tmp_path):
    kinds = ((40, {}), (5, TRADES))
    runs = [run(tmp_path, standing(50, count), seed=seed, **of) for count, of in kinds for seed in (0, 1)]
    (tmp_path / runs[-1].record.artefacts["samples"]).write_bytes(b"")
    [group] = compare(runs)
    assert not any(row.best for row in group.rows)
    assert [note for note in group.notes if note.startswith("no row is marked as the best: ")]
    with pytest.raises(UsageError):
        with_pairs([group])
