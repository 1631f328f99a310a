"""The ops on packed weights: what torch has to know of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar, cast

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch._subclasses import FakeTensor

from strop._core import library
from strop._core.failed_allocation import raises_memory_errors
from strop._core.fake import check_devices
from strop._core.op import op

_NAME = "strop.packed_linear"
Result = Callable[..., Any]
_kernels = torch.library.Library("strop", "IMPL")


# What is checked here is what csrc/linear/arguments.cpp says of tensors with data, but for symbols.


class WeightArguments(NamedTuple):
    """What the public op takes of a weight, after the input and before the bias."""

    bits: Tensor
    values: Tensor
    quads: Tensor | None
    pairs: Tensor | None
    panels: Tensor | None
    dense: Tensor | None
    back_quads: Tensor | None
    back_pairs: Tensor | None
    starts: Tensor | None
    plan: Sequence[int]


_Arguments = TypeVar("_Arguments", bound=tuple[Any, ...])


def split(kind: type[_Arguments], arguments: Sequence[Any]) -> tuple[_Arguments, Sequence[Any]]:
    """A weight's arguments first of what follows the input, and the others: bias, activation, maybe more."""
    count = len(cast(Any, kind)._fields)
    return cast(Any, kind)(*arguments[:count]), arguments[count:]


def _floating(op: str, **tensors: Tensor | None) -> None:
    for name, tensor in tensors.items():
        if tensor is not None and tensor.dtype not in library.FLOATING:
            dtype = str(tensor.dtype).removeprefix("torch.")
            known = "float32, bfloat16, float16 or float64"
            raise TypeError(f"{op}: {name} has dtype {dtype}; {known} is needed")


def _of_rank(op: str, rank: int, **tensors: Tensor | None) -> None:
    words = {1: "one dimension is", 2: "two dimensions are"}
    for name, tensor in tensors.items():
        if tensor is not None and tensor.dim() != rank:
            raise ValueError(f"{op}: {name} has shape {list(tensor.shape)}; {words[rank]} needed")


def _unlike(a: int, b: int) -> bool:
    """Whether two sizes are known to differ."""
    return isinstance(a, int) and isinstance(b, int) and a != b


def _linear(x: Tensor, outputs: int, bias: Tensor | None = None) -> Tensor:
    _floating(_NAME, input=x, bias=bias)
    if x.dim() == 0:
        raise ValueError(f"{_NAME}: input has shape []; one or more dimensions are needed")
    _of_rank(_NAME, 1, bias=bias)
    if bias is not None and _unlike(bias.shape[0], outputs):
        raise ValueError(f"{_NAME}: bias has shape {list(bias.shape)}; [{outputs}] is needed")
    return x.new_empty((*x.shape[:-1], outputs))


def fake_of_bits(x: Tensor, bits: Tensor, values: Tensor, *rest: Any) -> Tensor:
    """By the bits of a weight, and what follows: bias and activation, and maybe more."""
    if bits.dtype != torch.uint8:
        raise TypeError(f"{_NAME}: bits has dtype {bits.dtype}; uint8 is needed")
    _floating(_NAME, values=values)
    _of_rank(_NAME, 2, bits=bits)
    _of_rank(_NAME, 1, values=values)
    activation = next(i for i, value in enumerate(rest) if isinstance(value, str))
    y = _linear(x, bits.shape[0], rest[activation - 1])
    if _unlike((x.shape[-1] + 7) // 8, bits.shape[1]):
        raise ValueError(
            f"{_NAME}: input has shape {list(x.shape)}; the weight takes up to {8 * bits.shape[1]} columns"
        )
    return y


def _fake_by_layout(
    x: Tensor, layout: Tensor, outputs: int, bias: Tensor | None, activation: str, isa: str = ""
) -> Tensor:
    return _linear(x, outputs, bias)


def _fake_dense(bits: Tensor, values: Tensor, *rest: Any) -> Tensor:
    op = "strop.PackedWeight"
    _floating(op, values=values)
    _of_rank(op, 2, bits=bits)
    _of_rank(op, 1, values=values)
    return values.new_empty((bits.shape[0], rest[-1]))


def _fake_transposed(gradient: Tensor, quads: Tensor, pairs: Tensor, columns: int) -> Tensor:
    return _linear(gradient, columns)


def _fake_pack_masked(weight: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    op = "strop.pack_weight"
    _floating(op, weight=weight)
    _of_rank(op, 2, weight=weight, mask=mask)
    if mask is not None and mask.dtype != torch.bool:
        raise TypeError(f"{op}: mask has dtype {mask.dtype}; bool is needed")
    if mask is not None and any(map(_unlike, mask.shape, weight.shape)):
        raise ValueError(
            f"{op}: mask has shape {list(mask.shape)}; weight has {list(weight.shape)}"
        )
    count = _unknown_size(op, "weight", weight)
    bits = weight.new_empty((weight.shape[0], (weight.shape[1] + 7) // 8), dtype=torch.uint8)
    return bits, weight.new_empty((count,))


def _unknown_size(op: str, name: str, tensor: Tensor) -> int:
    if not isinstance(tensor, FakeTensor):
        raise ValueError(
            f"{op}: {name} is on meta; what is made of it has a size that depends on values"
        )
    return torch.library.get_ctx().new_dynamic_size()  # type: ignore[return-value]


def _fake_layout(bits: Tensor, values: Tensor, columns: int, layout: str) -> Tensor:
    op = "strop.PackedWeight"
    _floating(op, values=values)
    _of_rank(op, 2, bits=bits)
    if layout == "starts":
        return bits.new_empty((bits.shape[0] + 1,), dtype=torch.int64)
    return bits.new_empty((_unknown_size(op, "bits", bits),))


def _fake_codes_layout(
    codes: Tensor,
    scale: Tensor,
    zero_point: Tensor | None,
    group: int,
    format: str,
    activations: str,
    bits: Tensor | None = None,
) -> Tensor:
    return codes.new_empty((_unknown_size("strop.pack_weight", "codes", codes),))


def on_one_device(op: str, fake: Result) -> Result:
    packet, _, overload = op.partition(".")
    schema = getattr(getattr(library.ops, packet), overload or "default")._schema
    names = [argument.name for argument in schema.arguments]
    called = _NAME if "linear" in op or "transposed" in op else "strop.pack_weight"

    def checked(*given: Any, **options: Any) -> Any:
        tensors = dict(zip(names, given, strict=False)) | options
        tensors.pop("made_of", None)  # on the CPU, wherever the weight is
        check_devices(called, tensors, "{0} is on {2}, {1} is on {3}; one device is needed")
        out = options.pop("out", None)
        made = fake(*given, **options)
        if out is None:
            return made
        if out.dim() != made.dim() or any(map(_unlike, out.shape, made.shape)):
            raise ValueError(
                f"{called}: out has shape {list(out.shape)}; {list(made.shape)} is needed"
            )
        if out.dtype != made.dtype:
            here, there = (str(t.dtype).removeprefix("torch.") for t in (out, made))
            raise TypeError(f"{called}: out has dtype {here}; input has {there}")
        return None

    return checked


def vmap_of(kind: type[tuple[Any, ...]]) -> Callable[..., tuple[Tensor, int]]:
    """The rule of a product whose weight has these arguments: the batch is one more dimension of the input."""

    def rule(
        op: OpOverload, info: Any, in_dims: Sequence[int | None], input: Tensor, *rest: Any
    ) -> tuple[Tensor, int]:
        weight, (bias, *more) = split(kind, rest)
        input_dim, *dims = in_dims
        of_weight, (bias_dim, *_) = split(kind, dims)
        if any(isinstance(d, int) for d in of_weight):
            raise NotImplementedError(f"{_NAME}: vmap over a PackedWeight is not supported")

        def product(x: Tensor, bias: Tensor | None) -> Tensor:
            return op(x, *weight, bias, *more)  # type: ignore[no-any-return]

        return _of_batch(product, info.batch_size, (input, input_dim), (bias, bias_dim)), 0

    return rule


def cast_by_autocast(op: OpOverload) -> None:
    """Has autocast cast an op's input as it does that of ``torch.nn.functional.linear``."""
    name = op.name().partition("::")[2]
    for device in ("cpu", "cuda"):
        key = f"Autocast{device.upper()}"
        _kernels.impl(name, _casting(op, device, getattr(torch._C.DispatchKey, key)), key)


def _casting(op: OpOverload, device: str, key: torch._C.DispatchKey) -> Callable[..., Tensor]:
    keys = torch._C.DispatchKeySet(key)

    def kernel(input: Tensor, *rest: Any) -> Tensor:
        with torch._C._ExcludeDispatchKeyGuard(keys):
            if input.dtype != torch.float64:
                input = input.to(torch.get_autocast_dtype(device))
            return op(input, *rest)  # type: ignore[no-any-return]

    return kernel


def _of_batch(
    product: Callable[[Tensor, Tensor | None], Tensor],
    size: int,
    input: tuple[Tensor, int | None],
    bias: tuple[Tensor | None, int | None],
) -> Tensor:
    """Products of a batch of inputs or biases, each with its dimension of the batch."""
    (x, at), (b, b_at) = input, bias
    x = x.expand(size, *x.shape) if at is None else x.movedim(at, 0)
    if b is None or b_at is None:
        return product(x, b)
    b = b.movedim(b_at, 0)
    return torch.stack([product(x[i], b[i]) for i in range(size)])


def versions_of(weight: Sequence[Any]) -> tuple[int, ...]:
    """How many times torch has counted a write to each tensor of a weight."""
    return tuple(t._version for t in weight if isinstance(t, Tensor) and not t.is_inference())


def check_versions(weight: Sequence[Any], before: tuple[int, ...]) -> None:
    """Raises RuntimeError where a weight was written to between forward and backward, as torch does."""
    if versions_of(weight) != before:
        raise RuntimeError(
            f"{_NAME}: the weight was modified by an inplace operation after the forward, and the gradient "
            "of the input needs it as it was"
        )


def bias_gradient(gradient: Tensor, dtype: torch.dtype) -> Tensor:
    """Of a result's gradient [..., N]."""
    return (gradient.flatten(0, -2).sum(0) if gradient.dim() > 1 else gradient).to(dtype)


def _op(name: str, fake: Result) -> OpOverload:
    return op(name, fake=on_one_device(name, fake))


by_layout = _op("_packed_linear", _fake_by_layout)
by_layout_out = _op("_packed_linear.out", _fake_by_layout)
transposed = _op("_packed_transposed", _fake_transposed)
by_bits = _op("_packed_linear_bits", fake_of_bits)
by_bits_out = _op("_packed_linear_bits.out", fake_of_bits)
unpack_by_starts = raises_memory_errors(_op("_unpack_by_starts", _fake_dense))
pack_masked = _op("pack_masked", _fake_pack_masked)
unpack_masked = raises_memory_errors(_op("unpack_masked", _fake_dense))
layout = raises_memory_errors(_op("_masked_layout", _fake_layout))
codes_layout = raises_memory_errors(_op("_codes_layout", _fake_codes_layout))


def _on_gpus_alone(*given: Any, **options: Any) -> None:
    raise ValueError(f"{_NAME}: starts are of a weight on a GPU; a CPU unpacks without")


_kernels.impl("_unpack_by_starts", _on_gpus_alone, "CPU")
