"""The search for the largest size, on made-up needs: it must hold whatever the curve looks like."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vramscope.errors import UsageError, WorkloadError
from vramscope.predict.search import Need, Search


def flat(size_bytes):
    """A need without a byte unused."""
    return Need(size_bytes, size_bytes, size_bytes)


@given(
    st.integers(0, 10**6), st.integers(1, 10**4), st.integers(1, 10**7), st.integers(1, 4096), st.integers(1, 1 << 21)
)
def test_the_size_fits_and_the_next_one_does_not(fixed, slope, limit, step, start):
    def need(size):  # rises in steps, as segments do
        return -(-(fixed + slope * size) // step) * step

    found = Search(lambda size: flat(need(size)), limit, most=1 << 20).find(start)
    if found.size == 0:
        assert need(1) > limit
    elif found.next_size is None:
        assert need(1 << 20) <= limit
    else:
        assert need(found.size) <= limit < need(found.size + 1)
        assert {found.size, found.size + 1} <= set(found.needs)


@given(st.lists(st.integers(0, 400), min_size=64, max_size=64), st.integers(100, 3000))
def test_where_reserved_falls_the_answer_still_fits_and_the_next_does_not(unused, limit):
    asked = []

    def predict(size):
        asked.append(size)
        allocated = 30 * size
        return Need(allocated, allocated + unused[size % 64], allocated + unused[size % 64])

    found = Search(predict, limit).find()
    if found.size:
        assert found.needs[found.size].process_bytes <= limit < found.needs[found.size + 1].process_bytes
        assert not any(size > found.size and need.process_bytes <= limit for size, need in found.needs.items())
    assert sorted(asked) == list(found.needs)  # none twice


def test_a_larger_size_that_takes_fewer_segments_is_found():
    # blocks alone fit up to 100; 50 needs a further segment of 600, 51 to 100 do not
    def predict(size):
        allocated = 10 * size
        reserved = allocated + (600 if size == 50 else 0)
        return Need(allocated, reserved, reserved)

    assert Search(predict, 1000).find(49).size == 100


def test_no_size_is_predicted_twice():
    asked = []

    def predict(size):
        asked.append(size)
        return flat(1000 + 10 * size)

    # 1000 + 10 * 900 = 10,000: the last that fits
    assert Search(predict, 10_000).find().size == 900
    assert asked == [1, 2, 32, 512, 900, 901]  # by a line, and no more than 16 times as far


def test_from_a_beginning_that_is_a_little_too_large_the_answer_is_close():
    asked = []

    def predict(size):
        asked.append(size)
        return flat(1000 + 100 * size)

    # 1000 + 100 * 90 = 10,000; of the 10,100 at 91 the limit is 99 %
    assert Search(predict, 10_000).find(91).size == 90
    assert asked == [91, 90]


def test_a_size_that_never_stops_fitting_ends_at_the_bound():
    found = Search(lambda size: flat(1), 10, most=64).find()
    assert (found.size, found.next_size, found.refused) == (64, None, "")


def test_what_cannot_be_run_ends_the_search_with_the_reason():
    def predict(size):
        if size > 37:
            raise UsageError("at most 37 tokens")
        return flat(size)

    asked = []
    found = Search(lambda size: asked.append(size) or predict(size), 1000).find()
    assert (found.size, found.refused) == (37, "at most 37 tokens")
    assert len(asked) == len(set(asked))


@pytest.mark.parametrize("start", [38, 1 << 20])
def test_a_beginning_that_cannot_be_run_is_no_end(start):
    def predict(size):
        if size > 37:
            raise UsageError("at most 37 tokens")
        return flat(100 * size)

    assert Search(predict, 2000).find(start).size == 20
    assert Search(predict, 99).find(start).size == 0
    assert Search(predict, 5000).find(start).refused == "at most 37 tokens"


@pytest.mark.parametrize("error", [UsageError, WorkloadError])
def test_what_cannot_be_run_at_all_is_an_error(error):
    def predict(size):
        raise error(f"not {size}")

    with pytest.raises(error, match="not 1"):
        Search(predict, 1000).find()


@given(st.sampled_from([2, 3, 4, 8]), st.booleans(), st.integers(0, 2000), st.integers(1, 300))
def test_where_only_multiples_can_be_run_the_largest_that_fits_is_found(unit, few_too, limit, start):
    def predict(size):
        if size % unit and not (few_too and size < unit):  # groups of what there is, as batch statistics take
            raise WorkloadError(f"{size} is no multiple of {unit}")
        return flat(7 * size)

    found = Search(predict, limit).find(start)
    runs = [size for size in range(1, 400) if size % unit == 0 or (few_too and size < unit)]
    largest = max((size for size in runs if 7 * size <= limit), default=0)
    assert (found.size, found.next_size) == (largest, min(size for size in runs if size > largest))
    assert bool(found.refused) == (found.next_size != found.size + 1)


@given(st.integers(2, 8), st.integers(0, 2000))
def test_where_a_few_samples_cannot_be_run_no_size_above_them_is_left_out(first, limit):
    def predict(size):
        if size < first:
            raise WorkloadError(f"no fewer than {first}")
        return flat(7 * size)

    found = Search(predict, limit).find()
    largest = limit // 7 if limit // 7 >= first else 0
    assert (found.size, found.next_size) == (largest, max(largest + 1, first))
