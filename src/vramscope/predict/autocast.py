"""What autocast does on CUDA and the CPU's does not, and the other way round.

Source: ``AT_FORALL_LOWER_PRECISION_FP``, ``AT_FORALL_FP32``, ``AT_FORALL_FP32_SET_OPT_DTYPE``,
``AT_FORALL_DIFFERENT_REDISPATCH_SIGNATURE`` and ``AT_FORALL_PROMOTE`` in aten/src/ATen/autocast_mode.h.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
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
    *("_upsample_nearest_exact1d", "_upsample_nearest_exact2d", "_upsample_nearest_exact3d"),
    *("_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa"),
)
"""The arguments are cast to float32."""
_IN_16_BITS = (
    *("_convolution", "convolution", "addmv", "addr", "einsum", "mv", "chain_matmul", "linalg_multi_dot"),
    *("_thnn_fused_lstm_cell", "_thnn_fused_gru_cell", "lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell"),
    *("_scaled_dot_product_flash_attention", "scaled_dot_product_attention", "_convolution.deprecated", "conv1d"),
    *("conv2d", "conv3d", "conv_tbc", "conv_transpose1d", "conv_transpose2d.input", "conv_transpose3d.input"),
    *("addbmm", "addmm", "baddbmm", "bmm", "linalg_vecdot", "linear", "matmul", "mm", "prelu"),
)
"""The arguments are cast to 16 bits."""
_BY_WIDEST = (
    *("addcdiv", "addcmul", "atan2", "bilinear", "cross", "dot", "vdot", "grid_sampler", "index_put", "tensordot"),
    "scatter_add",
)
"""The arguments are cast to the widest type among them, and to 16 bits at least."""
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


def autocast_kernels(cache: "CastCache") -> Iterator[tuple[str, Kernel]]:
    """Operators by name, and what stands for each under autocast: the CPU's own are left out unless CUDA has them."""
    known = _known_to("AutocastCUDA")
    for name in sorted(_known_to("AutocastCPU") - known):
        yield name, torch.library.fallthrough_kernel
    for name, kernel in _replaced(cache):
        if name in known:
            yield name, kernel


def _replaced(cache: "CastCache") -> Iterator[tuple[str, Kernel]]:
    for name in _BY_ARGUMENT:
        yield name, _cast_arguments(_overload(name), _float32)
    for name in _IN_16_BITS:
        yield name, _cast_arguments(_overload(name), cache.in_16_bits)
    for name in _BY_WIDEST:
        yield name, _promote(_overload(name), cache)
    for name in _BY_DTYPE:
        yield name, _ask_for_float32(_overload(name))
    for name, (with_dtype, defaults) in _APPENDED_DTYPE.items():
        yield name, _append_dtype(_overload(name), _overload(with_dtype), defaults)
    yield "binary_cross_entropy", _banned


class CastCache:
    """Parameters in 16 bits, kept until the outermost autocast ends, except in inference mode.

    Source: ``cached_cast`` in aten/src/ATen/autocast_mode.cpp. Torch's own cache cannot be filled from Python, and its
    kernels for the CPU must not fill it besides: all that cast to 16 bits are replaced.
    """

    def __init__(self) -> None:
        self._casts: dict[int, tuple[Tensor, Tensor]] = {}

    @contextmanager
    def emptied_with_torchs(self) -> Iterator[None]:
        """Until left, this cache is emptied whenever torch's own is."""
        empty = torch.clear_autocast_cache

        def empty_both() -> None:
            self._casts.clear()
            empty()

        torch.clear_autocast_cache = empty_both
        try:
            yield
        finally:
            torch.clear_autocast_cache = empty
            self._casts.clear()

    def in_16_bits(self, value: Any) -> Any:
        """A floating point tensor in autocast's type, and so within lists of tensors; all else as it is."""
        if isinstance(value, list | tuple):
            return [self.in_16_bits(part) for part in value]
        wanted = torch.get_autocast_dtype("cpu")
        lasts = isinstance(value, Tensor) and value.requires_grad and value.is_leaf and not value._is_view()
        if not lasts or value.dtype != torch.float32 or not _may_cache():
            return _cast(value, wanted)
        if id(value) not in self._casts:
            with torch.enable_grad():  # the first use may be without gradients, the next one with them
                self._casts[id(value)] = value, _cast(value, wanted)
        return self._casts[id(value)][1]


def _may_cache() -> bool:
    return torch.is_autocast_cache_enabled() and not torch.is_inference_mode_enabled()


def _known_to(key: str) -> set[str]:
    """The operators that a dispatch key has kernels for, without their namespace."""
    names = (name for name in torch._C._dispatch_get_all_op_names() if name.startswith("aten::"))
    has = torch._C._dispatch_has_kernel_for_dispatch_key
    return {name.removeprefix("aten::") for name in names if has(name, key)}


def _overload(name: str) -> OpOverload:
    packet, _, overload = name.partition(".")
    found: OpOverload = getattr(getattr(aten, packet), overload or "default")
    return found


def _without_autocast() -> Any:
    return torch._C._ExcludeDispatchKeyGuard(torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastCPU))


def _cast_arguments(operator: OpOverload, cast: Callable[[Any], Any]) -> Kernel:
    def kernel(*args: Any, **kwargs: Any) -> Any:
        # the last argument is cast first, as the compilers of torch's Linux builds evaluate arguments
        named = {key: cast(kwargs[key]) for key in reversed(kwargs)}
        given = [cast(value) for value in reversed(args)]
        with _without_autocast():
            return operator(*reversed(given), **named)

    return kernel


def _promote(operator: OpOverload, cache: CastCache) -> Kernel:
    def kernel(*args: Any, **kwargs: Any) -> Any:
        given = (*args, *kwargs.values())
        parts = [part for value in given for part in (value if isinstance(value, list | tuple) else [value])]
        is_wide = any(isinstance(part, Tensor) and part.dtype == torch.float32 for part in parts)
        return _cast_arguments(operator, _float32 if is_wide else cache.in_16_bits)(*args, **kwargs)

    return kernel


def _banned(*args: Any, **kwargs: Any) -> Any:
    raise RuntimeError(
        "torch.nn.functional.binary_cross_entropy and torch.nn.BCELoss are unsafe to autocast on CUDA: use "
        "binary_cross_entropy_with_logits or BCEWithLogitsLoss on what comes before the sigmoid"
    )


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
    return _cast(value, torch.float32)


def _cast(value: Any, dtype: torch.dtype) -> Any:
    """A floating point tensor in another type, and so within lists of tensors; all else as it is."""
    if isinstance(value, list | tuple):
        return [_cast(part, dtype) for part in value]
    return value.to(dtype) if _eligible(value) and value.dtype != dtype else value
