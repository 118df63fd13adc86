"""What changed between two runs, and which changes are regressions."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from views.samples import ACTIVATION, WEIGHT, comparison, inference, training
from vramscope.errors import RecordingError, UsageError
from vramscope.ledger.comparison import compare_recordings
from vramscope.ledger.diff import Change, Course, Diff, Kind, diff_comparisons, require_same_passes
from vramscope.ledger.thresholds import parse_threshold


def diff_of(before: int, after: int, *thresholds: str) -> Diff:
    """The diff of two training runs whose activations have these sizes."""
    sides = (compare_recordings({"training": training(size)}) for size in (before, after))
    return diff_comparisons(*sides, [parse_threshold(text) for text in thresholds])


def change_of(diff: Diff, kind: Kind, name: str) -> Change:
    return next(change for change in diff.passes[0].of(kind) if change.name == name)


def test_equal_runs_have_no_changes() -> None:
    diff = diff_comparisons(comparison(), comparison(), [parse_threshold("0 B"), parse_threshold("activations:0%")])
    assert [part.name for part in diff.passes] == ["inference", "training"]
    assert all(change.course is Course.SAME for part in diff.passes for change in part.changes)
    assert (diff.regressions, diff.differences, diff.warnings) == ((), (), ())


def test_doubled_activations() -> None:
    diff = diff_of(ACTIVATION, 2 * ACTIVATION)
    # at the peak both gradients are there, and the first module's activation: it is freed after its gradient was made
    peak = 2 * WEIGHT + 2 * WEIGHT + ACTIVATION
    assert change_of(diff, Kind.PEAK, "peak") == Change(Kind.PEAK, "peak", peak, peak + ACTIVATION)
    assert change_of(diff, Kind.CATEGORY, "activations").growth_bytes == ACTIVATION
    # both activations are kept until backward begins
    assert change_of(diff, Kind.CATEGORY_PEAK, "activations").growth_bytes == 2 * ACTIVATION
    assert change_of(diff, Kind.ACTIVATIONS, "retained").growth_bytes == 2 * ACTIVATION
    assert change_of(diff, Kind.OPERATOR, "aten::linear").growth_bytes == 2 * ACTIVATION
    assert {change.name for change in diff.passes[0].changed(Kind.MODULE)} == {"first", "second"}


@given(st.integers(1, 9000), st.integers(1, 9000))
def test_the_categories_sum_to_the_peak_on_both_sides(before: int, after: int) -> None:
    for part in diff_of(before, after).passes:
        (peak,), categories = part.of(Kind.PEAK), part.of(Kind.CATEGORY)
        assert sum(change.before_bytes for change in categories) == peak.before_bytes
        assert sum(change.after_bytes for change in categories) == peak.after_bytes


@pytest.mark.parametrize(
    ("before", "after", "course"),
    [
        (5, 5, Course.SAME),
        (5, 6, Course.GREW),
        (6, 5, Course.SHRANK),
        (0, 5, Course.APPEARED),
        (5, 0, Course.WENT),
    ],
)
def test_what_became_of_a_figure(before: int, after: int, course: Course) -> None:
    assert Change(Kind.PEAK, "peak", before, after).course is course


def test_what_appears_and_goes() -> None:
    before = compare_recordings({"training": training(names=("first", "old"))})
    after = compare_recordings({"training": training(names=("first", "new"))})
    there, back = diff_comparisons(before, after), diff_comparisons(after, before)
    assert change_of(there, Kind.MODULE, "new").course is Course.APPEARED
    assert change_of(there, Kind.MODULE, "old").course is Course.WENT
    assert change_of(back, Kind.MODULE, "new").course is Course.WENT


@pytest.mark.parametrize(
    ("threshold", "fails"),
    [
        # the peak grows by one activation of 480 bytes, from 6,880: by 6.98 %
        ("peak:479 B", True),
        ("peak:480 B", False),
        ("peak:6.9%", True),
        ("peak:7%", False),
        # the category by two, from 960
        ("activations:959 B", True),
        ("activations:960 B", False),
        ("activations:99%", True),
        ("activations:100%", False),
        ("parameters:0 B", False),
        # a module holds weight, gradient and activation together, for the activation goes after the gradient is made
        ("module=first:0", True),
        ("module=first:480 B", False),
        ("module=:0", True),
        ("communication:0%", False),
    ],
)
def test_a_limit_is_inclusive(threshold: str, fails: bool) -> None:
    diff = diff_of(ACTIVATION, 2 * ACTIVATION, threshold)
    assert bool(diff.regressions) == fails


def test_growth_from_nothing_is_a_regression_for_any_percentage() -> None:
    before, after = (compare_recordings({"x": recording}) for recording in (inference(), training()))
    diff = diff_comparisons(before, after, [parse_threshold("gradients:1000000%")])
    assert [verdict.before_bytes for verdict in diff.regressions] == [0]


def test_a_regression_names_the_module_that_grew_most() -> None:
    before = compare_recordings({"training": training()})
    diff = diff_comparisons(before, _with_larger_second(), [parse_threshold("activations:1%")])
    (verdict,) = diff.regressions
    assert verdict.module is not None
    assert (verdict.module.name, verdict.module.growth_bytes) == ("second", 64)


def _with_larger_second():  # type: ignore[no-untyped-def]
    """Only the second module's activations are larger, by 64 bytes."""
    recording = training()
    of_second = recording.events.address == 510_000
    size = recording.events.size + 64 * of_second * (2 * (recording.events.size > 0) - 1)
    total = recording.devices[0].start_total + size.cumsum()
    events = replace(recording.events, size=size, requested=size, total=total, reserved=total)
    device = replace(recording.devices[0], end_total=int(total[-1]))
    return compare_recordings({"training": replace(recording, events=events, devices=(device,))})


def test_a_missing_pass_is_refused() -> None:
    both, one = comparison(), compare_recordings({"training": training()})
    with pytest.raises(
        RecordingError, match="second side has no inference pass: compare one pass with --pass training"
    ):
        diff_comparisons(both, one)
    with pytest.raises(RecordingError, match="first side has no inference pass"):
        diff_comparisons(one, both)
    with pytest.raises(RecordingError, match=r"after\.vram has no inference pass"):
        require_same_passes(both, one, ("before.vram", "after.vram"))
    require_same_passes(one, one)


def test_single_recordings_of_different_passes_are_compared() -> None:
    before = compare_recordings({"inference": inference()})
    assert (
        diff_comparisons(before, compare_recordings({"training": training()})).passes[0].name == "inference to training"
    )


def test_a_misspelt_module_is_refused() -> None:
    with pytest.raises(UsageError, match="did you mean second"):
        diff_of(ACTIVATION, ACTIVATION, "module=secnd:0")


def test_a_module_is_judged_with_all_below_it_and_nothing_else() -> None:
    before, after = (
        compare_recordings({"training": training(size, names=("body.first", "bodyguard", "body.second"))})
        for size in (ACTIVATION, 2 * ACTIVATION)
    )
    thresholds = [parse_threshold(text) for text in ("module=body.first:0", "module=body:0", "peak:0")]
    first, body, everything = (verdict.after_bytes for verdict in diff_comparisons(before, after, thresholds).verdicts)
    assert first < body < everything  # "bodyguard" is not below "body"


@pytest.mark.parametrize("modules", [[], [["idle", "ReLU"]]])
def test_modules_that_hold_something_or_that_the_model_has_can_be_judged(modules: list[list[str]]) -> None:
    recording = training()
    recording = replace(recording, workload={**recording.workload, "modules": modules})
    side, names = compare_recordings({"training": recording}), ["first", *(path for path, _ in modules)]
    diff = diff_comparisons(side, side, [parse_threshold(f"module={name}:0") for name in names])
    assert [verdict.is_regression for verdict in diff.verdicts] == [False] * len(names)


def test_doubtful_figures_are_shown_but_never_judged() -> None:
    whole = compare_recordings({"training": training()})
    cut = compare_recordings({"training": replace(training(), complete=False)})
    assert "incomplete" in diff_comparisons(whole, cut).warnings[0]
    with pytest.raises(RecordingError, match="cannot judge"):
        diff_comparisons(whole, cut, [parse_threshold("5%")])
    lost = training()
    lost = replace(lost, events=lost.events.take(slice(1, None)))
    with pytest.raises(RecordingError, match="lacks events"):
        diff_comparisons(whole, compare_recordings({"training": lost}), [parse_threshold("5%")])


def test_runs_that_are_not_alike_are_told_apart() -> None:
    other = training()
    other = replace(other, workload={**other.workload, "batch": 8, "amp": "bfloat16", "checkpoint": True})
    one = replace(training(), workload={**training().workload, "amp": None, "checkpoint": False})
    diff = diff_comparisons(compare_recordings({"a": one}), compare_recordings({"a": other}))
    assert diff.differences == (("batch", "4", "8"), ("amp", "none", "bfloat16"), ("checkpoint", "no", "yes"))
