"""What `fit` says of an answer that rests on the most that may lie outside the allocator."""

import pytest

from vramscope.cli.fit_words import words_of
from vramscope.predict.fit import Fit, Limit
from vramscope.predict.gpus import find_gpu
from vramscope.predict.parallel import Parallel, Ranks
from vramscope.predict.remedies import Plan
from vramscope.predict.search import Found, Need
from vramscope.predict.setup import Setup
from vramscope.units import format_size
from vramscope.workloads.workload import WorkloadOptions

# a context takes 287,047,680 to 666,632,192 bytes, NCCL 544,000,000 to 4,000,000,000
CONTEXT_MOST, NCCL_MOST = 666_632_192, 4_000_000_000
LIMIT = 10_000_000_000
HINT = "{} may fit too: outside the allocator there may be as little as {}"


def words(size, next_reserved, outside, ranks=None):
    """The lines of a search that ended at ``size``."""
    reserved = {size: LIMIT - outside, size + 1: next_reserved}
    needs = {at: Need(taken, taken, taken + outside) for at, taken in reserved.items() if at}
    plan = Plan("mlp", WorkloadOptions(), "training", setup=Setup(ranks=ranks))
    found = Found(size, needs)
    return words_of(Fit(plan, "batch", Limit(find_gpu("t4-16gb"), LIMIT, 0), found, (), ()), verbose=False)


@pytest.mark.parametrize(
    ("ranks", "outside", "least"),
    [
        (None, CONTEXT_MOST, 287_047_680),
        (Ranks(Parallel.DDP, 2), CONTEXT_MOST + NCCL_MOST, 287_047_680 + 544_000_000),
    ],
)
def test_the_next_size_may_fit_where_less_lies_outside(ranks, outside, least):
    hint = HINT.format("batch 4", format_size(least))
    assert hint in words(3, LIMIT - least, outside, ranks)
    assert hint not in words(3, LIMIT - least + 1, outside, ranks)


def test_nothing_is_promised_where_not_even_one_fits():
    assert HINT.format("batch 1", "273.8 MiB") not in words(0, LIMIT - 287_047_680, CONTEXT_MOST)
