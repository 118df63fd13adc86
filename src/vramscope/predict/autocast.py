"""What autocast runs in float32 on CUDA, beyond what it does on the CPU.

Source: ``AT_FORALL_FP32``, ``AT_FORALL_FP32_SET_OPT_DTYPE`` and ``AT_FORALL_DIFFERENT_REDISPATCH_SIGNATURE`` in
aten/src/ATen/autocast_mode.h. What autocast runs in 16 bits is the same on both.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload

aten = torch.ops.aten
_HALVES = (torch.float16, torch.bfloat16)
_BY_ARGUMENT = (
    *("acos", "asin", "cosh", "erfinv", "exp", "expm1", "log", "log10", "log2", "log1p", "reciprocal", "rsqrt", "sinh"),
    *("tan", "pow.Tensor_Scalar", "pow.Tensor_Tensor", "pow.Scalar", "softplus", "layer_norm", "native_layer_norm"),
    *("rms_norm", "group_norm", "frobenius_norm.dim", "nuclear_norm", "nuclear_norm.dim", "cosine_similarity"),
    *("poisson_nll_loss", "cosine_embedding_loss", "nll_loss", "nll_loss2d", "hinge_embedding_loss", "kl_div"),
    *("l1_loss", "smooth_l1_loss", "huber_loss", "mse_loss", "margin_ranking_loss", "multilabel_margin_loss"),
    *("soft_margin_loss", "triplet_margin_loss", "multi_margin_loss", "binary_cross_entropy_with_logits", "dist"),
    *("pdist", "cdist", "renorm", "logsumexp", "upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d"),
    *("upsample_linear1d", "upsample_bilinear2d", "upsample_trilinear3d", "upsample_bicubic2d"),
)
"""The arguments are cast to float32."""
_BY_DTYPE = (
    *("prod", "prod.dim_int", "softmax.int", "log_softmax.int", "cumprod", "cumsum", "linalg_vector_norm"),
    *("linalg_matrix_norm", "linalg_matrix_norm.str_ord", "sum", "sum.dim_IntList"),
)
"""The operator is asked for a float32 result, and reads the 16-bit numbers as they are."""
_APPENDED_DTYPE: Mapping[str, tuple[str, tuple[Any, ...]]] = {
    "norm.Scalar": ("norm.ScalarOpt_dtype", (2,)),
    "norm.ScalarOpt_dim": ("norm.ScalarOpt_dim_dtype", (2, [], False)),
}
"""The overload that takes a dtype, and what its other arguments are where a call leaves them out."""

Kernel = Callable[..., Any]


def autocast_kernels() -> Iterator[tuple[str, Kernel]]:
    """Operators by name, and what stands for each under autocast."""
    for name in _BY_ARGUMENT:
        yield name, _cast_arguments(_overload(name))
    for name in _BY_DTYPE:
        yield name, _ask_for_float32(_overload(name))
    for name, (with_dtype, defaults) in _APPENDED_DTYPE.items():
        yield name, _append_dtype(_overload(name), _overload(with_dtype), defaults)


def _overload(name: str) -> OpOverload:
    packet, _, overload = name.partition(".")
    found: OpOverload = getattr(getattr(aten, packet), overload or "default")
    return found


def _without_autocast() -> Any:
    return torch._C._ExcludeDispatchKeyGuard(torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastCPU))


def _cast_arguments(operator: OpOverload) -> Kernel:
    def kernel(*args: Any, **kwargs: Any) -> Any:
        with _without_autocast():
            return operator(*map(_float32, args), **{key: _float32(value) for key, value in kwargs.items()})

    return kernel


def _ask_for_float32(operator: OpOverload) -> Kernel:
    names = [argument.name for argument in operator._schema.arguments]

    def kernel(*args: Any, **kwargs: Any) -> Any:
        given = {**dict(zip(names, args, strict=False)), **kwargs}
        if _eligible(args[0]) and given.get("dtype") is None:
            given["dtype"] = torch.float32
        first = given.pop(names[0])
        with _without_autocast():
            return operator(first, **given)

    return kernel


def _append_dtype(operator: OpOverload, with_dtype: OpOverload, defaults: tuple[Any, ...]) -> Kernel:
    def kernel(*args: Any, **kwargs: Any) -> Any:
        with _without_autocast():
            if not _eligible(args[0]):
                return operator(*args, **kwargs)
            return with_dtype(*args, *defaults[len(args) - 1 :], dtype=torch.float32, **kwargs)

    return kernel


def _eligible(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point() and value.dtype != torch.float64


def _float32(value: Any) -> Any:
    return value.to(torch.float32) if isinstance(value, Tensor) and value.dtype in _HALVES else value
