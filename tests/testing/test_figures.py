"""What a test used, on a recording written by hand."""

from helpers import Script
from vramscope.ledger.categories import Category
from vramscope.ledger.ledger import Ledger
from vramscope.testing.figures import Sizes, figures_of


def used() -> Ledger:
    """Modules hold 10, then 17, 7, 12 and 5 bytes on the CPU, beside 1000 of before; another device holds 70."""
    script = Script(devices=2)
    script.seed(0x1, 1000)
    with script.phase("forward"):
        with script.module("a.b"), script.operator("aten::mul"):
            script.alloc(0x10, 10)
        with script.module("ab"), script.operator("aten::mul"):
            script.alloc(0x20, 7)
            script.alloc(0x20, 70, device=1)
        script.free(0x10, 10)
        with script.module("a"), script.operator("aten::mul"):
            script.alloc(0x30, 5)
        script.free(0x20, 7)
    return script.ledger()


def held(sizes: Sizes) -> dict[str, int]:
    return {name: size for name, size in sizes.items() if size}


def test_the_figures_are_of_what_the_test_itself_allocated_on_the_device() -> None:
    found = figures_of(used(), "cpu")
    assert (found.device, found.peak_bytes, found.leaked_bytes) == ("cpu", 17, 5)
    assert set(found.by_category) == set(found.category_peaks) == set(found.leaked_by_category) == set(Category)
    assert held(found.by_category) == held(found.category_peaks) == held(found.possible_peaks) == {"activations": 17}
    assert held(found.leaked_by_category) == {"activations": 5}
    assert found.modules == {"a.b": 10, "ab": 7}
    assert found.category_modules == {"activations": {"a.b": 10, "ab": 7}}
    assert figures_of(used(), "cuda:1").peak_bytes == 70


def test_a_modules_peak_has_everything_below_it_at_one_moment() -> None:
    # "a" holds the 10 of "a.b", and its own 5 when those are gone; "ab" is not below it
    assert figures_of(used(), "cpu").module_peaks == {"": 17, "a": 10, "a.b": 10, "ab": 7}
