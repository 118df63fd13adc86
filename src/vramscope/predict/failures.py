"""Why a model could not be predicted: the operator, the line, and what to try."""

from collections.abc import Collection

from torch._ops import OpOverload
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    UnsupportedOperatorException,
)

from vramscope.errors import TargetError, VramscopeError, WorkloadError
from vramscope.recorders.virtual.substitutes import TAKEN_FOR_DATA
from vramscope.workloads.messages import raised_at, summarize_error

_BY_DATA = (DataDependentOutputException, DynamicOutputShapeException)
_NO_FAKE = ("no fake impl", "Meta tensors", "meta tensors", "tensor subclasses", "data pointer", "fake tensor")
_MEASURE = "or measure with `vramscope compare`"
_GIVE_IT_A_FAKE = "leave it out of what is predicted, give it a fake (torch.library.register_fake), " + _MEASURE
_OF_TORCH = "torch has no fake form of it: predict with other operators in its place or without it, " + _MEASURE
_FLEX = "flex_attention: predict with another attention, such as scaled_dot_product_attention, or measure on a GPU"
_HIGHER_ORDER = "HigherOrderOperator"
_SPARSE = f"sparse tensors other than of torch.sparse_coo_tensor: predict with one of these, {_MEASURE}"
_NOT_PREDICTED = {
    f"{_HIGHER_ORDER} flex_attention": _FLEX,
    "FlexAttention does not support": _FLEX,  # torch/nn/attention/flex_attention.py: tensors are said to be on a CPU
    _HIGHER_ORDER: f"an operator that takes functions: call them without it for the prediction, {_MEASURE}",
    **dict.fromkeys(("storage of Sparse", "Sparse CSR tensors", "Sparse CSC tensors"), _SPARSE),
    # FakeTensorMode.create_symbolic_nested_int in torch/_subclasses/fake_tensor.py
    "self.shape_env must not be None": f"nested tensors of jagged layout: predict with padded ones, {_MEASURE}",
}
"""What predictions do not know at all, by words of torch's error; the more particular come first."""


def explain(error: BaseException, notes: Collection[str] = ()) -> WorkloadError | None:
    """What to say where fake tensors are to blame, None where something else is.

    Args:
        error: what ended the run.
        notes: what was told of it before.
    """
    cause: BaseException | None = error
    while cause is not None:
        explained = None if isinstance(cause, VramscopeError) else _explained(cause)
        if explained is not None:
            return explained
        cause = cause.__cause__
    taken = "; ".join(note for note in TAKEN_FOR_DATA if note in notes)
    if not taken or not isinstance(error, WorkloadError | TargetError):
        return None
    return WorkloadError(f"this was predicted without data, which may be why it failed: {taken}. {error}")


def _explained(cause: BaseException) -> WorkloadError | None:
    if isinstance(cause, UnsupportedOperatorException):
        return _runs_not(f"{cause.func} has no fake form", cause, _remedy(cause.func))
    if isinstance(cause, _BY_DATA):
        why = f"{cause.func} makes something whose size or value only the data decide"
        return _runs_not(why, cause, _remedy(cause.func))
    text = str(cause)
    unknown = next((said for words, said in _NOT_PREDICTED.items() if words in text), None)
    if unknown is not None:
        return WorkloadError(f"this model{_at(cause)} cannot be predicted, because predictions do not know {unknown}")
    if any(word in text for word in _NO_FAKE):
        return _runs_not(summarize_error(cause).rstrip("."), cause, _GIVE_IT_A_FAKE)
    return None


def _remedy(func: OpOverload) -> str:
    return _OF_TORCH if func.namespace == "aten" else _GIVE_IT_A_FAKE


def _runs_not(why: str, cause: BaseException, remedy: str) -> WorkloadError:
    return WorkloadError(
        f"this model cannot be predicted, because it does not run without data: {why}{_at(cause)}; {remedy}"
    )


def _at(cause: BaseException) -> str:
    place = raised_at(cause)
    return f" ({place})" if place else ""
