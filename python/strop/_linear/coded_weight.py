"""Weights in codes: quantized, and laid out for the kernels that multiply with them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor
from torch._subclasses import FakeTensor
from typing_extensions import Self

from strop import _C
from strop._core.errors import check_tensors, in_the_name_of, translated
from strop._core.tensor_dataclass import parsed_to, tensor_dataclass
from strop._linear import ops, plans
from strop._linear.packed_weight import DTYPES, PackedWeight
from strop._quantize.bit_packing import unpack_bits
from strop._quantize.formats import NumberFormat, block_grid, decoded_scales
from strop._quantize.quantized_tensor import QuantizedTensor

_NAME = "strop.PackedWeight"
ACTIVATIONS = ("", "int8", "uint8")
MULTIPLIED = (torch.float32, torch.bfloat16, torch.float16)
"""The dtypes of what is multiplied with codes, and of weights that become codes."""
_KIND = 3  # LayoutKind::kCodes of csrc/linear/layout.h


@tensor_dataclass
class CodedWeight(PackedWeight):
    """A :class:`strop.PackedWeight` in codes.

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

    """

    kind = "codes"
    canonical = ("codes", "scale", "zero_point", "tensor_scale")
    plan_source = "packed"
    codes: Tensor
    scale: Tensor
    zero_point: Tensor | None
    tensor_scale: Tensor | None
    layout: Tensor | None
    format: str
    block_size: tuple[int, ...] | None
    shape: tuple[int, int]
    dtype: torch.dtype
    activations: str

    @property
    def nnz(self) -> int:
        """Weights that take part: all of them."""
        return self.shape[0] * self.shape[1]

    @property
    def input_dtype(self) -> torch.dtype:
        """That of the weight."""
        return self.dtype

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

    def method_names(self) -> list[str]:
        """What multiplies, for each class of rows: codes."""
        return ["codes"] * len(plans.CLASSES)

    def plan(self) -> str:
        """What runs, as text to print."""
        rows, columns = self.shape
        how = f"{self.activations} activations" if self.activations else "float activations"
        kernels = self.layout is not None or self.device.type == "cuda"
        where = "by its kernels" if kernels else "dense, decoded at every call"
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
        self.follow()
        move = parsed_to(self.device, self.dtype, *args, **kwargs)
        moved = self.quantized().to(device=move.device, dtype=move.dtype, **move.options)
        if move.device == self.device:
            fields: dict[str, Any] = {name: getattr(moved, name) for name in self.canonical}
            return self._with({**fields, "dtype": moved.dtype})
        return type(self).of(moved, self.activations)

    def carried(self, tensors: Mapping[str, Tensor | None], dtype: torch.dtype) -> Self:
        """The same weight after a module's move gave other tensors, and its input another dtype."""
        made = self.beside(tensors)
        if made.device != self.device:
            made = type(self).of(made.quantized(), self.activations)
        return made if dtype == self.dtype else made._with({"dtype": dtype})

    def facts(self) -> dict[str, Any]:
        """What the codes mean, and what they are multiplied with."""
        return {
            "format": self.format,
            "block_size": self.block_size and list(self.block_size),
            "dtype": str(self.dtype).removeprefix("torch."),
            "activations": self.activations,
        }

    @classmethod
    def of_facts(
        cls,
        tensors: Mapping[str, Tensor | None],
        shape: tuple[int, int],
        facts: Mapping[str, Any],
    ) -> Self:
        """Made and checked, of what a state dict has."""
        try:
            format, block, activations = (facts[n] for n in ("format", "block_size", "activations"))
            dtype, block_size = DTYPES[facts["dtype"]], None if block is None else tuple(block)
        except (KeyError, TypeError):
            raise ValueError(f"{_NAME}: the plan is {dict(facts)}, which is unknown") from None
        with in_the_name_of(_NAME):
            quantized = QuantizedTensor(
                **cast(Any, tensors), format=format, block_size=block_size, shape=shape, dtype=dtype
            )
        check(quantized, activations)
        return cls.of(quantized, activations)

    @classmethod
    def of_shapes(cls, tensors: Mapping[str, Tensor | None], shape: tuple[int, int]) -> Self:
        """Of tensors that have shapes alone."""
        given: dict[str, Any] = dict(tensors)
        facts: dict[str, Any] = {"format": "int8", "block_size": (1, -1), "activations": ""}
        return cls._trusted(**given, layout=None, shape=shape, dtype=torch.float32, **facts)

    def _again(self) -> Self:
        with in_the_name_of(_NAME):
            quantized = self._checked()
        return type(self).of(quantized, self.activations)

    def _checked(self) -> QuantizedTensor:
        return QuantizedTensor(
            self.codes,
            self.scale,
            self.zero_point,
            self.tensor_scale,
            self.format,
            self.block_size,
            self.shape,
            self.dtype,
        )

    def validate(self) -> None:
        """Raises ValueError or TypeError where the fields do not fit each other."""
        with in_the_name_of(_NAME):
            quantized = self._checked()
        check(quantized, self.activations)
        if self.layout is not None:
            _check_layout(self.layout, self.shape, self.device)


def check(quantized: QuantizedTensor, activations: str) -> None:
    """Raises ValueError or TypeError for what no product knows."""
    format = NumberFormat.get(quantized.format)
    if len(quantized.shape) != 2:
        raise ValueError(f"{_NAME}: shape is {quantized.shape}; (N, K) is needed")
    if quantized.dtype not in MULTIPLIED or quantized.scale.dtype == torch.float64:
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
