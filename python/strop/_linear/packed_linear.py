"""Products with weights in codes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch._C import _is_any_autocast_enabled as any_autocast
from torch._ops import OpOverload
from torch._subclasses import FakeTensor
from torch.autograd import Function
from torch.nn import functional

from strop._core.call_path import DIRECT, RECORDED, call_path, is_tracing, transformed
from strop._core.errors import translated
from strop._core.failed_allocation import raises_memory_errors
from strop._core.gradient import below_autograd, differentiable, mark_written
from strop._core.op import op
from strop._linear import ops
from strop._linear.activations import ACTIVATIONS, checked_activation
from strop._linear.coded_weight import DTYPES, PackedWeight
from strop._linear.given_out import copied
from strop._quantize import codes_ops
from strop._quantize.fake_quantize import fake_quantize

_OP = "strop.packed_linear"


def packed_linear(
    input: Tensor,
    weight: PackedWeight,
    bias: Tensor | None = None,
    *,
    activation: str | None = None,
    out: Tensor | None = None,
) -> Tensor:
    r"""A linear layer with a weight in codes, and an activation in the same pass.

    .. math:: y = \mathrm{activation}(x W^T + b)

    Where the weight was packed without ``activations``, W is what :func:`strop.dequantize` gives, and
    sums are float32. With them each row of x is quantized first, as :func:`strop.quantize` does with
    ``block_size=(1, -1)``, and integers are multiplied: the same bits on every instruction set, with any
    number of threads. A row of x with an Inf or a NaN gives NaN then.

    Gradients: of input and bias, by W; where x is quantized, straight through that. The weight is frozen.

    Args:
        input: [..., K], float32, bfloat16 or float16.
        weight: a :class:`PackedWeight` of shape (N, K).
        bias: [N], of a dtype that the input may have.
        activation: None, ``relu``, ``gelu`` (by erf), ``gelu_tanh`` or ``silu``.
        out: [..., N], which must not overlap the arguments; any strides.

    Returns:
        [..., N], of the input's dtype; ``out`` if given. Under autocast the input is cast as
        ``torch.nn.functional.linear`` casts it; the weight stays.

    Raises:
        ValueError: a value or shape that does not fit, before anything is written.
        TypeError: a dtype or type that does not fit.
        RuntimeError: for ``out`` where a gradient would be needed.

    Example:
        >>> import strop, torch
        >>> w = strop.pack_weight(torch.tensor([[0.0, 2.0, 0.0], [1.0, 0.0, -1.0]]), format="int8")
        >>> strop.packed_linear(torch.tensor([[1.0, 2.0, 3.0]]), w, activation="relu").shape
        torch.Size([1, 2])

    """
    if not isinstance(weight, PackedWeight):
        raise TypeError(f"{_OP}: weight is a {type(weight).__name__}; a PackedWeight is needed")
    checked_activation(_OP, activation)
    if is_tracing():
        y = _public_op(input, weight, bias, activation)
        return y if out is None else out.copy_(y)
    try:
        if out is not None:
            return _into(out, input, weight, bias, activation)
        if _without_kernel(input, weight) or any_autocast() or call_path(input, bias) != DIRECT:
            return _public_op(input, weight, bias, activation)
        outputs = weight.shape[0]
        return cast(Tensor, ops.by_layout(input, weight.layout, outputs, bias, activation or ""))
    except Exception as error:
        if isinstance(input, Tensor) and input.device != weight.device:
            raise ValueError(
                f"{_OP}: input is on {input.device}; the weight is on {weight.device}"
            ) from None
        raise translated(_OP, error, {"input": input, "bias": bias, "out": out}) from None


def _without_kernel(x: Tensor, weight: PackedWeight) -> bool:
    """Whether the input has a shape alone, or the weight is elsewhere than on a CPU."""
    return weight.layout is None or x.is_meta or isinstance(x, FakeTensor)


def _into(
    out: Tensor,
    x: Tensor,
    weight: PackedWeight,
    bias: Tensor | None,
    activation: str | None,
) -> Tensor:
    if call_path(x, bias, out) == RECORDED:
        raise RuntimeError(f"{_OP}: out is given, but a gradient is needed; call without")
    if _without_kernel(x, weight) or transformed():
        return copied(_OP, _public_op(x, weight, bias, activation), out)
    into = out if out.is_contiguous() else out.new_empty(out.shape)
    ops.by_layout_out(x, weight.layout, weight.shape[0], bias, activation or "", out=into)
    if into is not out:
        return out.copy_(into)
    mark_written(out)
    return out


class CodedArguments(NamedTuple):
    """What the public op takes of a weight, after the input and before the bias."""

    layout: Tensor
    codes: Tensor
    scale: Tensor
    zero_point: Tensor | None
    tensor_scale: Tensor | None
    format: str
    block_size: Sequence[int]
    shape: Sequence[int]

    def dense(self, dtype: torch.dtype) -> Tensor:
        """The weight that the codes stand for."""
        return cast(
            Tensor,
            codes_ops.dequantize(
                self.codes.contiguous(), *self[2:6], list(self.block_size), list(self.shape), dtype
            ),
        )


def _public_op(
    x: Tensor, weight: PackedWeight, bias: Tensor | None, activation: str | None
) -> Tensor:
    """The op that graphs contain; where there is no kernel, what it consists of."""
    given = CodedArguments(
        weight.layout if weight.layout is not None else weight.codes,
        weight.codes,
        weight.scale,
        weight.zero_point,
        weight.tensor_scale,
        weight.format,
        list(weight.block_size or []),
        list(weight.shape),
    )
    return cast(Tensor, _public(x, *given, weight.activations, bias, activation or ""))


def _composite(input: Tensor, *rest: Any) -> Tensor:
    weight, activations, bias, activated = _split(rest)
    x = input
    if activations:
        blocks = (*(1 for _ in x.shape[:-1]), -1)
        x = fake_quantize(x, format=activations, symmetric=activations == "int8", block_size=blocks)
    bias = None if bias is None else bias.to(x.dtype)
    return activated(functional.linear(x, weight.dense(torch.float32).to(x.dtype), bias))


def _split(
    rest: Sequence[Any],
) -> tuple[CodedArguments, str, Tensor | None, Callable[[Tensor], Tensor]]:
    count = len(CodedArguments._fields)
    activations, bias, activation = rest[count:]
    return CodedArguments(*rest[:count]), activations, bias, ACTIVATIONS[activation]


class _Linear(Function):
    """Without activation, which torch's own differentiates."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, bias: Tensor | None, weight: CodedArguments, activations: str
    ) -> Tensor:
        ctx.weight = weight
        ctx.bias_dtype = None if bias is None else bias.dtype
        return cast(Tensor, _direct(x, *weight, activations, bias, ""))

    @staticmethod
    @raises_memory_errors
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        of_x = of_bias = None
        if ctx.needs_input_grad[0]:
            of_x = gradient @ ctx.weight.dense(torch.float32).to(gradient.dtype)
        if ctx.needs_input_grad[1]:
            of_bias = ops.bias_gradient(gradient, ctx.bias_dtype)
        return of_x, of_bias, None, None


def _recorded(input: Tensor, *rest: Any) -> Tensor:
    weight, activations, bias, activated = _split(rest)
    return activated(cast(Any, _Linear).apply(input, bias, weight, activations))


def _fake(x: Tensor, *rest: Any) -> Tensor:
    weight, _, bias, _ = _split(rest)
    outputs, columns = weight.shape
    _check_dtype("input", x)
    if x.dim() == 0 or ops._unlike(x.shape[-1], columns):
        raise ValueError(
            f"{_OP}: input has shape {list(x.shape)}; the weight takes {columns} columns"
        )
    if bias is not None:
        _check_dtype("bias", bias)
    if bias is not None and (bias.dim() != 1 or ops._unlike(bias.shape[0], outputs)):
        raise ValueError(f"{_OP}: bias has shape {list(bias.shape)}; [{outputs}] is needed")
    return x.new_empty((*x.shape[:-1], outputs))


def _check_dtype(name: str, tensor: Tensor) -> None:
    if tensor.dtype not in DTYPES:
        dtype = str(tensor.dtype).removeprefix("torch.")
        raise TypeError(
            f"{_OP}: {name} has dtype {dtype}; beside values of float32 float32, bfloat16 or float16 "
            "is needed"
        )


def _vmap(
    op: OpOverload, info: Any, in_dims: Sequence[int | None], input: Tensor, *rest: Any
) -> tuple[Tensor, int]:
    """The batch as one more leading dimension of the input."""
    input_dim, *dims = in_dims
    *of_weight, bias_dim, _ = dims
    if any(isinstance(d, int) for d in of_weight):
        raise NotImplementedError(f"{_OP}: vmap over a PackedWeight is not supported")
    *weight, bias, activation = rest

    def product(x: Tensor, bias: Tensor | None) -> Tensor:
        return op(x, *weight, bias, activation)  # type: ignore[no-any-return]

    return ops.of_batch(product, info.batch_size, (input, input_dim), (bias, bias_dim)), 0


def _autocast(device: str) -> Callable[..., Tensor]:
    keys = torch._C.DispatchKeySet(getattr(torch._C.DispatchKey, f"Autocast{device.upper()}"))

    def kernel(input: Tensor, *rest: Any) -> Tensor:
        with torch._C._ExcludeDispatchKeyGuard(keys):
            return cast(Tensor, _public(input.to(torch.get_autocast_dtype(device)), *rest))

    return kernel


def _on_gpu(input: Tensor, *rest: Any) -> Tensor:
    if rest[len(CodedArguments._fields)]:
        raise ValueError(f"{_OP}: quantized activations have no kernel on a GPU yet")
    return _composite(input, *rest)


_public = op(
    "packed_linear.codes",
    fake=_fake,
    vmap=_vmap,
    autograd=differentiable(composite=_composite, recorded=_recorded),
)
_direct = below_autograd(_public)
_kernels = torch.library.Library("strop", "IMPL")
_kernels.impl("packed_linear.codes", _on_gpu, "CUDA")
_kernels.impl("packed_linear.codes", _autocast("cpu"), "AutocastCPU")
_kernels.impl("packed_linear.codes", _autocast("cuda"), "AutocastCUDA")
