import pytest
from hypothesis import given
from hypothesis import strategies as st

from vramscope.allocator.settings import MIB, AllocatorSettings, describe, parse_settings, parse_what_is_known
from vramscope.errors import UnsupportedError, UsageError


def test_an_empty_string_means_the_defaults() -> None:
    assert parse_settings("") == AllocatorSettings()


def test_all_options_that_change_placement() -> None:
    settings = parse_settings(
        "expandable_segments:True, max_split_size_mb:128, max_non_split_rounding_mb:40, "
        "garbage_collection_threshold:0.8, roundup_power2_divisions:8, per_process_memory_fraction:0.5"
    )
    assert settings == AllocatorSettings(
        max_split_size=128 * MIB,
        max_non_split_rounding=40 * MIB,
        roundup_power2_divisions=(8,) * 16,
        garbage_collection_threshold=0.8,
        expandable_segments=True,
        per_process_memory_fraction=0.5,
    )


def test_the_large_segment_size_counts_first_and_sets_the_rounding_limit() -> None:
    settings = parse_settings("max_split_size_mb:12,large_segment_size_mb:12")
    assert (settings.large_segment_size, settings.max_split_size) == (12 * MIB, 12 * MIB)
    assert settings.max_non_split_rounding == 12 * MIB


def test_the_list_form_of_the_divisions() -> None:
    settings = parse_settings("roundup_power2_divisions:[256:1,512:2,1024:4,>:8],expandable_segments:False")
    # 256 MiB is interval 8; the first boundary fills everything below it
    assert settings.roundup_power2_divisions == (1,) * 9 + (2, 4) + (8,) * 5


def test_divisions_that_round_nothing_are_off() -> None:
    assert parse_settings("roundup_power2_divisions:[256:0,>:1]").roundup_power2_divisions is None


def test_options_that_move_no_block_are_kept_by_name() -> None:
    text = "pinned_use_background_threads:True,max_split_size_mb:64"
    assert parse_settings(text) == AllocatorSettings(
        max_split_size=64 * MIB, ignored=("pinned_use_background_threads",)
    )


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("max_split_mb:128", "no option 'max_split_mb'"),
        ("max_split_size_mb", "is not OPTION:VALUE"),
        ("max_split_size_mb:", "is not OPTION:VALUE"),
        (":5", "is not OPTION:VALUE"),
        ("max_split_size_mb:19", "at least 20, not 19"),
        ("max_split_size_mb:20,large_segment_size_mb:64", "at least 64, not 20"),
        ("max_non_split_rounding_mb:5", "at least 20"),
        ("large_segment_size_mb:10", "at least 11"),
        ("max_split_size_mb:-1", "whole number, not '-1'"),
        ("max_split_size_mb:128MB", "whole number"),
        ("max_split_size_mb:1e3", "whole number"),
        ("garbage_collection_threshold:0", "between 0 and 1"),
        ("garbage_collection_threshold:1.0", "between 0 and 1"),
        ("garbage_collection_threshold:nan", "takes a number"),
        ("per_process_memory_fraction:1.5", "from 0 to 1"),
        ("expandable_segments:true", "True or False"),
        ("roundup_power2_divisions:3", "powers of two"),
        ("roundup_power2_divisions:0", "powers of two"),
        ("roundup_power2_divisions:[256:3]", "powers of two"),
        ("roundup_power2_divisions:[100:2]", "powers of two"),
        ("roundup_power2_divisions:[256:1,512]", "is not MB:DIVISIONS"),
        ("roundup_power2_divisions:[256:1", "is not MB:DIVISIONS"),
        ("roundup_power2_divisions:[]", "is not MB:DIVISIONS"),
        ("²:1", "no option"),
        ("max_split_size_mb:²", "whole number"),
    ],
)
def test_bad_settings_are_refused_in_one_line(text: str, complaint: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_settings(text)
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


def test_another_backend_is_not_modelled() -> None:
    assert parse_settings("backend:native") == AllocatorSettings()
    with pytest.raises(UnsupportedError, match="cudaMallocAsync"):
        parse_settings("backend:cudaMallocAsync")


def test_what_is_not_understood_is_told_and_the_rest_counts() -> None:
    settings, problems = parse_what_is_known("warp:9,max_split_size_mb:64,expandable_segments:maybe,backend:other,lone")
    assert settings == AllocatorSettings(max_split_size=64 * MIB)
    assert [next(word for word in ("warp", "maybe", "other", "lone") if word in text) for text in problems] == [
        "warp",
        "maybe",
        "other",
        "lone",
    ]


def test_the_defaults_have_no_description() -> None:
    assert describe(AllocatorSettings()) == ""
    assert describe(parse_settings("expandable_segments:False,roundup_power2_divisions:1")) == ""


DIVISIONS = st.sampled_from([0, 1, 2, 8, 64])


@given(
    st.none() | st.integers(64, 10**6),
    st.integers(64, 10**6),
    st.none() | st.lists(DIVISIONS, min_size=16, max_size=16),
    st.just(0.0) | st.floats(0.0, 1.0, exclude_min=True, exclude_max=True),
    st.booleans(),
    st.integers(11, 64),
    st.floats(0.0, 1.0),
)
def test_a_description_means_what_it_describes(
    split: int | None,
    rounding: int,
    divisions: list[int] | None,
    threshold: float,
    expandable: bool,
    large: int,
    fraction: float,
) -> None:
    settings = AllocatorSettings(
        max_split_size=None if split is None else split * MIB,
        max_non_split_rounding=rounding * MIB,
        roundup_power2_divisions=tuple(divisions) if divisions and max(divisions) > 1 else None,
        garbage_collection_threshold=threshold,
        expandable_segments=expandable,
        large_segment_size=large * MIB,
        per_process_memory_fraction=fraction,
    )
    assert parse_settings(describe(settings)) == settings
