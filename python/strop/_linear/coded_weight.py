"""Weights in codes: quantized, and laid out for the kernels that multiply with them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch._subclasses import FakeTensor
from typing_extensions import Self

from strop import _C
from strop._core.errors import check_tensors, in_the_name_of, translated
from strop._core.tensor_dataclass import (
    TensorDataclass,
    check_state,
    parsed_to,
    tensor_dataclass,
)
from strop._linear import ops
from strop._quantize.bit_packing import unpack_bits
from strop._quantize.formats import NumberFormat, block_grid, decoded_scales
from strop._quantize.quantized_tensor import QuantizedTensor

_NAME = "strop.PackedWeight"
ACTIVATIONS = ("", "int8", "uint8")
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
_KIND = 3  # LayoutKind::kCodes of csrc/linear/layout.h
_KEYS = ("codes", "scale", "zero_point", "tensor_scale")


@tensor_dataclass
class PackedWeight(TensorDataclass):
    """A weight in codes, as :func:`strop.pack_weight` makes it for :func:`strop.packed_linear`.

    Frozen, checked when it is made or loaded, and a pytree of its tensors. Its state dict is what the
    codes are, with ``shape`` and ``plan``, every one a tensor; the layout that kernels want is made anew
    from these.

    Attributes:
        codes: uint8, packed densely, as of :class:`strop.QuantizedTensor`.
        scale: of the blocks, likewise.
        zero_point: likewise; None is 0.
        tensor_scale: of NVFP4, one float32; else None.
        layout: what kernels of a CPU read; None elsewhere.
        format: the number format's name.
        block_size: of the blocks; None for recipes.
        shape: (N, K).
        dtype: that the weight had.
        activations: empty, ``int8`` or ``uint8``: what each row of the input is quantized to.

    Raises:
        ValueError: for shapes or values that do not fit each other.
        TypeError: for dtypes that do not fit.

    Example:
        >>> import strop, torch
        >>> w = strop.pack_weight(torch.linspace(-1, 1, 64).view(2, 32), format="int4")
        >>> w.shape, w.format, w.nbytes < 2 * 32 * 4 * 16
        ((2, 32), 'int4', True)
        >>> w.to_dense().shape
        torch.Size([2, 32])

    """

    codes: Tensor
    scale: Tensor
    zero_point: Tensor | None
    tensor_scale: Tensor | None
    layout: Tensor | None
    format: str
    block_size: tuple[int, ...] | None
    shape: tuple[int, ...]
    dtype: torch.dtype
    activations: str

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self.codes.device

    @property
    def nnz(self) -> int:
        """Weights that take part: all of them."""
        return self.shape[0] * self.shape[1]

    @property
    def sparsity(self) -> float:
        """The share of weights that were pruned: none."""
        return 0.0

    @property
    def requires_grad(self) -> bool:
        """False: the weight is frozen, which modules of torch ask of their parameters."""
        return False

    def quantized(self) -> QuantizedTensor:
        """The codes and scales by themselves."""
        return QuantizedTensor._trusted(
            codes=self.codes,
            scale=self.scale,
            zero_point=self.zero_point,
            tensor_scale=self.tensor_scale,
            format=self.format,
            block_size=self.block_size,
            shape=self.shape,
            dtype=self.dtype,
        )

    def to_dense(self) -> Tensor:
        """The weight that the codes stand for, of ``dtype``."""
        return self.quantized().dequantize()

    def plan(self) -> str:
        """What runs, as text to print."""
        rows, columns = self.shape
        how = f"{self.activations} activations" if self.activations else "float activations"
        where = "by its kernels" if self.layout is not None else "dense, decoded at every call"
        return f"[{rows}, {columns}], {self.format}, {how}: {where}"

    @classmethod
    def of(cls, quantized: QuantizedTensor, activations: str) -> Self:
        """With the layout that kernels want."""
        fields = {name: getattr(quantized, name) for name in QuantizedTensor.tensor_fields}
        facts = {name: getattr(quantized, name) for name in QuantizedTensor.metadata_fields}
        layout = _layout(quantized, activations)
        return cls._trusted(**fields, layout=layout, **facts, activations=activations)

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """On another device, or of another dtype to restore: arguments as of ``torch.Tensor.to``.

        Codes and scales stay what they are; the layout is made where kernels read it.
        """
        move = parsed_to(self.device, self.dtype, *args, **kwargs)
        moved = self.quantized().to(device=move.device, dtype=move.dtype, **move.options)
        if move.device == self.device:
            fields: dict[str, Any] = {name: getattr(moved, name) for name in _KEYS}
            return self._with({**fields, "dtype": moved.dtype})
        return type(self).of(moved, self.activations)

    def state_dict(self) -> dict[str, Tensor]:
        """``codes``, ``scale``, ``zero_point`` and ``tensor_scale`` where there are some, ``shape``, ``plan``."""
        plan = {
            "format": self.format,
            "block_size": self.block_size,
            "dtype": str(self.dtype).removeprefix("torch."),
            "activations": self.activations,
        }
        tensors = {name: getattr(self, name) for name in _KEYS}
        return {
            **{name: tensor for name, tensor in tensors.items() if tensor is not None},
            "shape": torch.tensor(self.shape),
            "plan": torch.tensor(list(json.dumps(plan).encode()), dtype=torch.uint8),
        }

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Tensor], **facts: Any) -> Self:
        """A validated weight from :meth:`state_dict`.

        Raises:
            ValueError: for keys that are unknown or missing, and tensors that do not fit.

        """
        check_state(_NAME, state)
        known = {*_KEYS, "shape", "plan"}
        missing = {"codes", "scale", "shape", "plan"} - set(state)
        if missing or set(state) - known or facts:
            found = sorted(set(state) | set(facts))
            raise ValueError(f"{_NAME}: state dict has keys {found}; {sorted(known)} are known")
        try:
            plan = json.loads(bytes(state["plan"].tolist()))
            format, block, dtype, activations = (
                plan[n] for n in ("format", "block_size", "dtype", "activations")
            )
            dtype = {str(d).removeprefix("torch."): d for d in DTYPES}[dtype]
            shape = tuple(int(n) for n in state["shape"].tolist())
        except (ValueError, KeyError, TypeError, AttributeError, RuntimeError):
            raise ValueError(
                f"{_NAME}: the plan or the shape is not as state_dict gives it"
            ) from None
        with in_the_name_of(_NAME):
            quantized = QuantizedTensor(
                state["codes"],
                state["scale"],
                state.get("zero_point"),
                state.get("tensor_scale"),
                format,
                None if block is None else tuple(block),
                shape,
                dtype,
            )
        check(quantized, activations)
        return cls.of(quantized, activations)

    def validate(self) -> None:
        """Raises ValueError or TypeError where the fields do not fit each other."""
        with in_the_name_of(_NAME):
            quantized = QuantizedTensor(
                self.codes,
                self.scale,
                self.zero_point,
                self.tensor_scale,
                self.format,
                self.block_size,
                self.shape,
                self.dtype,
            )
        check(quantized, self.activations)
        if self.layout is not None:
            _check_layout(self.layout, self.shape, self.device)

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickled, (self.quantized(), self.activations)


def _unpickled(quantized: QuantizedTensor, activations: str) -> PackedWeight:
    return PackedWeight.of(quantized, activations)


torch.serialization.add_safe_globals([_unpickled])


def check(quantized: QuantizedTensor, activations: str) -> None:
    """Raises ValueError or TypeError for what no product knows."""
    format = NumberFormat.get(quantized.format)
    if len(quantized.shape) != 2:
        raise ValueError(f"{_NAME}: shape is {quantized.shape}; (N, K) is needed")
    if quantized.dtype not in DTYPES or quantized.scale.dtype == torch.float64:
        raise TypeError(f"{_NAME}: the weight is of float64; its codes are multiplied in float32")
    if not 0 < format.bits <= 8:
        raise ValueError(f"{_NAME}: format {format.name} has no codes of at most 8 bits")
    if activations not in ACTIVATIONS:
        raise ValueError(f"{_NAME}: activations is {activations!r}; None, int8 and uint8 are known")
    if activations and not format.is_integer:
        raise ValueError(
            f"{_NAME}: activations is {activations!r}, which multiplies integers; format "
            f"{format.name} is none"
        )


def _check_layout(layout: Tensor, shape: tuple[int, ...], device: torch.device) -> None:
    """Raises where a layout is not one of codes of such a weight."""
    check_tensors(_NAME, layout=layout)
    if layout.device != device:
        raise ValueError(f"{_NAME}: layout is on {layout.device}, codes on {device}")
    if isinstance(layout, FakeTensor) or device.type != "cpu":
        raise ValueError(f"{_NAME}: layout is no tensor with data on a CPU, where kernels read it")
    if layout.dtype != torch.uint8 or layout.dim() != 1:
        raise TypeError(f"{_NAME}: layout is no uint8 tensor of one dimension")
    try:
        _C.check_layout(layout.detach().numpy(), *shape)
    except (TypeError, ValueError) as error:
        text = str(error).partition(": ")[2]
        raise type(error)(f"{_NAME}: layout: {text}") from None
    if layout[:24].view(torch.int64)[2] != _KIND:
        raise ValueError(f"{_NAME}: layout is that of another kind of weight")


def _layout(quantized: QuantizedTensor, activations: str) -> Tensor | None:
    """What kernels read: a byte a code, and a scale and a zero point for each group of each row."""
    codes = quantized.codes
    if codes.device.type != "cpu" or isinstance(codes, FakeTensor):
        return None
    format = NumberFormat.get(quantized.format)
    rows, columns = quantized.shape
    grid = block_grid(format, quantized.block_size, quantized.shape)
    scale = decoded_scales(format, quantized.scale)
    if quantized.tensor_scale is not None:
        scale = quantized.tensor_scale * scale
    whole = (1, format.block) if format.block else (-1, -1)
    block_rows, group = quantized.block_size or whole
    block_rows, group = (rows if block_rows < 0 else block_rows), (columns if group < 0 else group)

    def of_groups(numbers: Tensor) -> Tensor:
        each = numbers.float().expand(grid).repeat_interleave(max(block_rows, 1), 0)[:rows]
        return each.reshape(rows, -1) if columns else each.new_ones(rows, 1)

    zero = quantized.zero_point
    try:
        with torch.inference_mode(False), torch.no_grad():
            made: Tensor = ops.codes_layout(
                unpack_bits(codes, format.bits, columns),
                of_groups(scale).contiguous(),
                None if zero is None else of_groups(zero).contiguous(),
                max(group, 1),
                format.name,
                activations,
            )
            return made
    except Exception as error:
        raise translated(_NAME, error, {"codes": codes}) from None
