"""The search for the largest batch, on made-up needs: it must hold whatever the curve looks like."""

from hypothesis import given
from hypothesis import strategies as st

from vramscope.predict.fit import largest_batch


@given(st.integers(0, 10**6), st.integers(1, 10**4), st.integers(1, 10**7), st.integers(1, 4096))
def test_the_batch_fits_and_the_next_one_does_not(fixed, slope, limit, step):
    def need(batch):  # rises in steps, as segments do
        return -(-(fixed + slope * batch) // step) * step

    found = largest_batch(need, limit)
    if found.fits and found.batch < 1 << 20:
        assert need(found.batch) <= limit < need(found.batch + 1)
        assert (found.peak_bytes, found.next_bytes) == (need(found.batch), need(found.batch + 1))
    elif not found.fits:
        assert need(1) > limit


def test_no_batch_is_predicted_twice():
    asked = []

    def need(batch):
        asked.append(batch)
        return 1000 + 10 * batch

    # 1000 + 10 * 900 = 10,000: the last that fits
    assert largest_batch(need, 10_000).batch == 900
    assert len(asked) == len(set(asked))


def test_a_batch_that_never_stops_fitting_ends_at_the_bound():
    assert largest_batch(lambda batch: 1, 10, most=64).batch == 64
