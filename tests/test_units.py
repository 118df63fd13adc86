from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vramscope.errors import UsageError
from vramscope.units import format_size, parse_size, spaced_size

FACTORS = {
    "B": 1,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
}
PETABYTE = 10**15

units = st.sampled_from(sorted(FACTORS))
sizes = st.integers(min_value=0, max_value=PETABYTE)


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("0B", 0),
        ("512 B", 512),
        ("24GiB", 24 * 2**30),
        ("24GB", 24 * 10**9),
        ("1.5 GB", 1_500_000_000),
        ("1.5GiB", 3 * 2**29),
        ("0.5 KiB", 512),
        ("007MB", 7_000_000),
        ("2.0B", 2),
        # 0.1 has no exact binary fraction: as a float times 10**12 it may miss, as a decimal it may not
        ("0.000000000001TB", 1),
        ("0.1GB", 100_000_000),
    ],
)
def test_parse_gives_exact_bytes(text: str, size_bytes: int) -> None:
    assert parse_size(text) == size_bytes


@given(count=st.integers(min_value=0, max_value=10**6), unit=units)
def test_parse_multiplies_by_the_unit(count: int, unit: str) -> None:
    assert parse_size(f"{count}{unit}") == count * FACTORS[unit]


@given(size_bytes=sizes, unit=units)
def test_every_size_written_out_in_any_unit_is_read_back(size_bytes: int, unit: str) -> None:
    # A factor is 2**a * 5**b with a <= 40, so size / factor ends within 40 decimals; its digits before and after the
    # point are at most 16 + 40, written here by integer arithmetic.
    digits = str(size_bytes * 10**40 // FACTORS[unit]).rjust(41, "0")
    assert parse_size(f"{digits[:-40]}.{digits[-40:]} {unit}") == size_bytes


@given(
    count=st.integers(min_value=0, max_value=10**6),
    unit=units.flatmap(lambda name: st.sampled_from([name, name.lower(), name.upper()])),
    before=st.text(" \t", max_size=3),
    between=st.text(" \t", max_size=3),
    after=st.text(" \t\n", max_size=3),
)
def test_parse_ignores_case_and_surrounding_space(count: int, unit: str, before: str, between: str, after: str) -> None:
    assert parse_size(f"{before}{count}{between}{unit}{after}") == parse_size(f"{count}{unit}")


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "24",
        "GiB",
        "24 G",
        "24 gigabytes",
        "24PiB",
        "24iB",
        "-1GiB",
        "+1GiB",
        "1e3MB",
        "0x10MB",
        "1,5GB",
        "1,000MB",
        "1_000MB",
        ".5GiB",
        "1.GiB",
        "1.2.3GiB",
        "1 000 MB",
        "nan B",
        "inf GiB",
        "24GiB extra",
        "about 24GiB",
        "24GiB 12GiB",
        "24GiB;",
    ],
)
def test_parse_refuses_what_is_no_size(text: str) -> None:
    with pytest.raises(UsageError, match="is not a size: write a number and a unit, such as 24GiB"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    # 0.1 * 1024 = 102.4; 0.3 * 1024**2 = 314572.8; 1.7 * 1024**3 = 1825361100.8
    [("1.5B", 1), ("0.1KiB", 102), ("0.3MiB", 314_572), ("1.7GiB", 1_825_361_100)],
)
def test_parse_drops_a_fraction_of_a_byte(text: str, size_bytes: int) -> None:
    assert parse_size(text) == size_bytes


@pytest.mark.parametrize("text", ["0.5B", "0.0001KB"])
def test_parse_refuses_less_than_a_byte(text: str) -> None:
    with pytest.raises(UsageError, match="is less than a byte: give 0B, or one byte and more"):
        parse_size(text)


@given(st.text(max_size=12))
def test_parse_gives_bytes_or_refuses_in_one_line(text: str) -> None:
    try:
        size_bytes = parse_size(text)
    except UsageError as error:
        assert len(str(error).splitlines()) == 1
    else:
        assert size_bytes >= 0


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0 B"),
        (1, "1 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (2**20, "1.0 MiB"),
        # the 124,439,808 float32 parameters of gpt2: 497,759,232 / 1024**2 = 474.7002
        (497_759_232, "474.7 MiB"),
        (24 * 2**30, "24.0 GiB"),
        (3 * 2**40, "3.0 TiB"),
        # there is no larger unit
        (2048 * 2**40, "2,048.0 TiB"),
        (-1, "-1 B"),
        (-1536, "-1.5 KiB"),
    ],
)
def test_format_chooses_a_binary_unit(size_bytes: int, text: str) -> None:
    assert format_size(size_bytes) == text


@given(st.integers(min_value=-PETABYTE, max_value=PETABYTE))
def test_a_formatted_size_is_within_half_of_its_last_digit(size_bytes: int) -> None:
    number, unit = format_size(size_bytes).split(" ")
    shown_bytes = Fraction(Decimal(number.replace(",", ""))) * FACTORS[unit]
    last_digit_bytes = Fraction(FACTORS[unit], 10) if unit != "B" else 0
    assert abs(shown_bytes - size_bytes) <= last_digit_bytes / 2


# From 1,000 on a size is printed with a thousands separator, which an option refuses.
@given(st.integers(min_value=0, max_value=999), st.sampled_from(["B", "KiB", "MiB", "GiB", "TiB"]))
def test_whole_binary_sizes_survive_formatting_and_parsing(count: int, unit: str) -> None:
    size_bytes = count * FACTORS[unit]
    assert parse_size(format_size(size_bytes)) == size_bytes


@given(st.integers(min_value=1, max_value=PETABYTE))
def test_a_negative_size_is_formatted_as_its_magnitude_with_a_sign(size_bytes: int) -> None:
    assert format_size(-size_bytes) == "-" + format_size(size_bytes)


@pytest.mark.parametrize(
    ("text", "shown"), [("1730MiB", "1730 MiB"), ("24gib", "24 GiB"), (" 1.50 kb ", "1.50 KB"), ("0B", "0 B")]
)
def test_a_size_is_shown_in_the_unit_that_was_given(text: str, shown: str) -> None:
    assert spaced_size(text) == shown
