import inspect

import pytest

from vramscope import errors

EXIT_CODES = {
    "VramscopeError": 2,
    "UsageError": 2,
    "NothingToTrainError": 2,
    "TargetError": 2,
    "WorkloadError": 2,
    "MemoryExhaustedError": 2,
    "RecordingError": 2,
    "OutputError": 2,
    "UnsupportedError": 2,
}
ERRORS = {
    name: kind for name, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.VramscopeError)
}


def test_every_error_has_a_documented_exit_code() -> None:
    assert {name: error.exit_code for name, error in ERRORS.items()} == EXIT_CODES


@pytest.mark.parametrize("name", EXIT_CODES)
def test_one_base_catches_every_error(name: str) -> None:
    with pytest.raises(errors.VramscopeError, match="what, where, why"):
        raise ERRORS[name]("what, where, why")


@pytest.mark.parametrize("name", EXIT_CODES)
def test_an_error_prints_as_its_message(name: str) -> None:
    assert str(ERRORS[name]("model.vram is cut: record it again")) == "model.vram is cut: record it again"


def test_a_defect_is_not_mistaken_for_an_expected_error() -> None:
    assert not issubclass(ValueError, errors.VramscopeError)
    assert not issubclass(errors.VramscopeError, (ValueError, RuntimeError, OSError))
