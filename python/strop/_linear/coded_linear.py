"""Products with weights in codes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch._C import _is_any_autocast_enabled as any_autocast
from torch._subclasses import FakeTensor
from torch.autograd import Function
from torch.nn import functional

from strop._core.call_path import DIRECT, RECORDED, call_path, is_tracing, transformed
from strop._core.failed_allocation import raises_memory_errors
from strop._core.gradient import below_autograd, differentiable
from strop._core.op import op
from strop._linear import ops, plans
from strop._linear.activations import ACTIVATIONS
from strop._linear.code_tensors import spread
from strop._linear.coded_weight import BY_KERNELS, MULTIPLIED, CodedWeight
from strop._linear.masked_codes import MaskedCodes
from strop._linear.results import copied, in_words, written
from strop._prune import ops as prune_ops
from strop._quantize import codes_ops
from strop._quantize.bit_packing import pack_bits
from strop._quantize.fake_quantize import fake_quantize
from strop._quantize.formats import NumberFormat

_OP = "strop.packed_linear"
_UNPACK = plans.NUMBER_OF["unpack"]


def product(
    input: Tensor,
    weight: CodedWeight | MaskedCodes,
    bias: Tensor | None,
    activation: str | None,
    out: Tensor | None = None,
) -> Tensor:
    """:func:`strop.packed_linear` of a weight and an activation that are known to be right."""
    if is_tracing():
        y = _public_op(input, weight, bias, activation)
        return y if out is None else out.copy_(y)
    try:
        _followed(weight)
        if out is not None:
            return _into(out, input, weight, bias, activation)
        if _without_kernel(input, weight) or any_autocast() or call_path(input, bias) != DIRECT:
            return _public_op(input, weight, bias, activation)
        method = _method(input, weight)
        if method == _UNPACK:
            return _public_op(input, weight, bias, activation)
        outputs, isa = weight.shape[0], plans.ISA_OF[method]
        return cast(
            Tensor, ops.by_layout(input, weight.layout, outputs, bias, activation or "", isa)
        )
    except Exception as error:
        raise in_words(error, input, weight, bias, out) from None


def _method(x: Tensor, weight: CodedWeight | MaskedCodes) -> int:
    """The number of the method for as many rows; a plan is for one dtype of input."""
    if weight.methods is BY_KERNELS or x.dtype != weight.dtype:
        return BY_KERNELS[0]
    return plans.method_of(weight.methods, x, weight.shape[1])


def _followed(weight: CodedWeight | MaskedCodes) -> None:
    """Has the layout follow its tensors, as ``weight.follow()`` asks for all of them; each call costs."""
    made_of = weight._made_of
    if made_of is not None and weight.kind == CodedWeight.kind:
        codes, scale = weight.codes, weight.scale
        places = made_of[len(made_of) // 2 :]
        if (
            made_of[0] == codes._version
            and made_of[1] == scale._version
            and places[0] == codes.data_ptr()
            and places[1] == scale.data_ptr()
            and weight.zero_point is None
            and weight.tensor_scale is None
        ):
            return
    weight.follow()


def _without_kernel(x: Tensor, weight: CodedWeight | MaskedCodes) -> bool:
    """Whether the input has a shape alone, or the weight is elsewhere than on a CPU."""
    return _is_elsewhere(weight) or x.is_meta or isinstance(x, FakeTensor)


def _is_elsewhere(weight: CodedWeight | MaskedCodes) -> bool:
    return weight.layout is None or weight.layout.is_cuda


def _into(
    out: Tensor,
    x: Tensor,
    weight: CodedWeight | MaskedCodes,
    bias: Tensor | None,
    activation: str | None,
) -> Tensor:
    if call_path(x, bias, out) == RECORDED:
        raise RuntimeError(f"{_OP}: out is given, but a gradient is needed; call without")
    if x.is_cuda and _is_elsewhere(weight) and not transformed():
        of_weight = CodedArguments.of(weight, x.dtype)
        return written(out, partial(_by_codes_out, x, *of_weight, bias, activation or ""))
    method = _method(x, weight)
    if _without_kernel(x, weight) or transformed() or method == _UNPACK:
        return copied(_OP, _public_op(x, weight, bias, activation), out)
    rest = (weight.layout, weight.shape[0], bias, activation or "", plans.ISA_OF[method])
    return written(out, partial(ops.by_layout_out, x, *rest))


class CodedArguments(NamedTuple):
    """What the public op takes of a weight, after the input and before the bias."""

    layout: Tensor
    plan: Sequence[int]
    codes: Tensor
    scale: Tensor
    zero_point: Tensor | None
    tensor_scale: Tensor | None
    format: str
    block_size: Sequence[int]
    shape: Sequence[int]
    activations: str
    bits: Tensor | None

    @classmethod
    def of(cls, weight: CodedWeight | MaskedCodes, dtype: torch.dtype) -> CodedArguments:
        """Those of a weight for input of a dtype; where nothing reads a layout, the codes in its place.

        Beside a mask a GPU reads where the codes of each row begin.
        """
        return cls(
            weight.layout if weight.layout is not None else weight.codes,
            list(weight.methods if dtype == weight.dtype else BY_KERNELS),
            weight.codes,
            weight.scale,
            weight.zero_point,
            weight.tensor_scale,
            weight.format,
            list(weight.block_size or []),
            list(weight.shape),
            weight.activations,
            weight.bits,
        )

    def dense(self, dtype: torch.dtype) -> Tensor:
        """The weight that the codes stand for."""
        codes, kept = self.codes, None
        if self.bits is not None:
            kept = prune_ops.unpack_mask(self.bits, self.shape[1])
            width = NumberFormat.get(self.format).bits
            codes = pack_bits(spread(codes, kept, width), width)
        made = cast(
            Tensor,
            codes_ops.dequantize(
                codes.contiguous(),
                self.scale,
                self.zero_point,
                self.tensor_scale,
                self.format,
                list(self.block_size),
                list(self.shape),
                dtype,
            ),
        )
        return made if kept is None else torch.where(kept, made, 0)


def _public_op(
    x: Tensor, weight: CodedWeight | MaskedCodes, bias: Tensor | None, activation: str | None
) -> Tensor:
    """The op that graphs contain."""
    of_weight = CodedArguments.of(weight, x.dtype)
    return cast(Tensor, _public(x, *of_weight, bias, activation or ""))


def _composite(input: Tensor, *rest: Any) -> Tensor:
    weight, bias, activated = _split(rest)
    x = input
    if kind := weight.activations:
        blocks = (*(1 for _ in x.shape[:-1]), -1)
        x = fake_quantize(x, format=kind, symmetric=kind == "int8", block_size=blocks)
    bias = None if bias is None else bias.to(x.dtype)
    return activated(functional.linear(x, weight.dense(torch.float32).to(x.dtype), bias))


def _split(
    rest: Sequence[Any],
) -> tuple[CodedArguments, Tensor | None, Callable[[Tensor], Tensor]]:
    weight, (bias, activation) = ops.split(CodedArguments, rest)
    return weight, bias, ACTIVATIONS[activation]


class _Linear(Function):
    """Without activation, which torch's own differentiates."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, bias: Tensor | None, weight: CodedArguments) -> Tensor:
        ctx.weight, ctx.versions = weight, ops.versions_of(weight)
        ctx.bias_dtype = None if bias is None else bias.dtype
        return cast(Tensor, _direct(x, *weight, bias, ""))

    @staticmethod
    @raises_memory_errors
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        of_x = of_bias = None
        if ctx.needs_input_grad[0]:
            ops.check_versions(ctx.weight, ctx.versions)
            of_x = gradient @ ctx.weight.dense(torch.float32).to(gradient.dtype)
        if ctx.needs_input_grad[1]:
            of_bias = ops.bias_gradient(gradient, ctx.bias_dtype)
        return of_x, of_bias, None


def _recorded(input: Tensor, *rest: Any) -> Tensor:
    weight, bias, activated = _split(rest)
    return activated(cast(Any, _Linear).apply(input, bias, weight))


def _fake(x: Tensor, *rest: Any) -> Tensor:
    weight, bias, _ = _split(rest)
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
    if tensor.dtype not in MULTIPLIED:
        dtype = str(tensor.dtype).removeprefix("torch.")
        raise TypeError(
            f"{_OP}: {name} has dtype {dtype}; beside values of float32 float32, bfloat16 or float16 "
            "is needed"
        )


_public = op(
    "packed_linear.codes",
    fake=_fake,
    vmap=ops.vmap_of(CodedArguments),
    autograd=differentiable(composite=_composite, recorded=_recorded),
)
_direct = below_autograd(_public)
ops.cast_by_autocast(_public)
_OUT = "_packed_linear_codes.out"  # of a GPU
_by_codes_out = op(_OUT, fake=ops.on_one_device(_OUT, _fake))
