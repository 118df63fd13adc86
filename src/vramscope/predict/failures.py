"""Why a model could not be predicted: the operator, the line, and what to try."""

from collections.abc import Collection

from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    UnsupportedOperatorException,
)

from vramscope.errors import VramscopeError, WorkloadError
from vramscope.recorders.virtual.substitutes import TAKEN_FOR_DATA
from vramscope.workloads.messages import raised_at, summarize_error

_BY_DATA = (DataDependentOutputException, DynamicOutputShapeException)
_NO_FAKE = ("no fake impl", "Meta tensors", "meta tensors", "tensor subclasses", "data pointer", "fake tensor")
_TRY = (
    "leave it out of what is predicted, give it a fake (torch.library.register_fake), or measure with "
    "`vramscope compare`"
)


def explain(error: BaseException, notes: Collection[str] = ()) -> WorkloadError | None:
    """What to say where fake tensors are to blame, None where something else is.

    Args:
        error: what ended the run.
        notes: what was told of it before.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, UnsupportedOperatorException):
            return _explained(f"{cause.func} has no fake form", cause)
        if isinstance(cause, _BY_DATA):
            return _explained(f"{cause.func} makes something whose size or value only the data decide", cause)
        if any(word in str(cause) for word in _NO_FAKE) and not isinstance(cause, VramscopeError):
            return _explained(summarize_error(cause).rstrip("."), cause)
        cause = cause.__cause__
    taken = next((note for note in TAKEN_FOR_DATA if note in notes), None)
    if taken is None or not isinstance(error, WorkloadError):
        return None
    return WorkloadError(f"{error}; this was predicted without data, which may be why it failed: {taken}")


def _explained(why: str, cause: BaseException) -> WorkloadError:
    place = raised_at(cause)
    return WorkloadError(
        f"this model cannot be predicted, because it does not run without data: {why}"
        f"{f' ({place})' if place else ''}; {_TRY}"
    )
