"""Weights with a mask whose values are in codes.

A CPU multiplies with the values that they stand for, decoded when the weight is made; a GPU, where its plan says so,
with bits and codes as they are, and then has no values.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from typing_extensions import Self

from strop._core.tensor_dataclass import parsed_to, tensor_dataclass
from strop._linear import planning, plans
from strop._linear.code_tensors import SCALES, kept_codes, whole_codes
from strop._linear.coded_weight import MULTIPLIED
from strop._linear.masked_layouts import fits
from strop._linear.masked_weight import PLANS, TENSORS, MaskedWeight
from strop._linear.packed_weight import DTYPES
from strop._prune import ops as prune_ops
from strop._quantize.quantized_tensor import QuantizedTensor

_NAME = "strop.PackedWeight"
_CODES, _UNPACK = plans.NUMBER_OF["codes"], plans.NUMBER_OF["unpack"]
_BY_CODES = ["codes"] * len(plans.CLASSES)


@tensor_dataclass
class MaskedCodes(MaskedWeight):
    """A :class:`strop.PackedWeight` with a mask and a format: what it saves is codes, what it runs is values, or codes.

    Attributes:
        codes: uint8, those of the weights whose bit is set, row by row, packed densely as one row.
        scale: of the blocks of the whole weight, as of :class:`strop.QuantizedTensor`.
        zero_point: likewise; None is 0.
        tensor_scale: of NVFP4, one float32; else None.
        number_format: the number format's name.
        block_size: of the blocks; None for recipes.

    """

    kind = "masked codes"
    canonical = ("bits", "codes", *SCALES)
    codes: Tensor
    scale: Tensor
    zero_point: Tensor | None
    tensor_scale: Tensor | None
    number_format: str
    block_size: tuple[int, ...] | None

    @property
    def format(self) -> str:  # type: ignore[override]
        """The number format's name."""
        return self.number_format

    @property
    def by_codes(self) -> bool:
        """Whether a GPU multiplies with the codes, so that there are no values."""
        return _CODES in self.methods

    @property
    def layout(self) -> Tensor | None:
        """What kernels read beside bits and codes."""
        return self.starts

    @property
    def nnz(self) -> int:
        """Weights that are kept."""
        if self.by_codes:
            return int(cast(Tensor, self.starts)[-1])
        return super().nnz

    @classmethod
    def with_codes_alone(
        cls,
        bits: Tensor,
        quantized: QuantizedTensor,
        plan: str,
        classes: Iterable[int] = range(len(plans.CLASSES)),
    ) -> Self | None:
        """For a GPU, without values; None where the plan is otherwise.

        Args:
            bits: of the mask.
            quantized: codes and scales of the whole weight.
            plan: of :func:`strop.pack_weight`; ``measure`` goes by bytes as well, for there is one way.
            classes: of rows that are asked for.

        """
        if not _is_on_gpu(bits) or plan == "dense":
            return None
        codes = kept_codes(quantized, bits)
        kept = prune_ops.unpack_mask(bits, quantized.shape[1]).sum(1).cumsum(0)
        starts = torch.cat([kept.new_zeros(1), kept])
        scales = {name: getattr(quantized, name) for name in SCALES}
        costs = _costs_by_codes(quantized.shape, quantized.dtype, (codes, *scales.values()))
        methods = planning.planned_kept_codes(costs, classes, packed_only=plan == "packed")
        if methods is None:
            return None
        return cls._trusted(
            **dict.fromkeys(TENSORS[2:]) | {"starts": starts},
            bits=bits,
            values=quantized.scale.new_empty(0, dtype=quantized.dtype),
            shape=(quantized.shape[0], quantized.shape[1]),
            methods=methods,
            plan_source="packed" if plan == "packed" else "auto",
            input_dtype=quantized.dtype,
            **scales,
            codes=codes,
            number_format=quantized.format,
            block_size=quantized.block_size,
        )

    @classmethod
    def of(cls, masked: MaskedWeight, quantized: QuantizedTensor) -> Self:
        """Of the mask of a weight that is planned, and of codes for all of it."""
        return cls._with_codes(masked, kept_codes(quantized, masked.bits), quantized)

    @classmethod
    def _with_codes(cls, masked: MaskedWeight, codes: Tensor, quantized: QuantizedTensor) -> Self:
        return cls._trusted(
            **_fields(masked),
            **{name: getattr(quantized, name) for name in SCALES},
            codes=codes,
            number_format=quantized.format,
            block_size=quantized.block_size,
        )

    def quantized(self) -> QuantizedTensor:
        """Codes and scales for the whole weight; the code 0 where it is masked."""
        return whole_codes(self.bits, self.held(), self.shape, self._numbers())

    def to_dense(self) -> Tensor:
        """The weight with its zeros."""
        if not self.by_codes:
            return super().to_dense()
        kept = prune_ops.unpack_mask(self.bits, self.shape[1])
        return torch.where(kept, self.quantized().dequantize(), 0)

    def _kept_as(self) -> str:
        return self.format if self.by_codes else super()._kept_as()

    def _costs(self) -> plans.Costs:
        if not self.by_codes:
            return super()._costs()
        held = self.held()
        return _costs_by_codes(self.shape, self.dtype, (held[n] for n in ("codes", *SCALES)))

    def _numbers(self) -> dict[str, Any]:
        return {"format": self.format, "block_size": self.block_size, "dtype": self.dtype}

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """On another device, or of another dtype to restore: arguments as of ``torch.Tensor.to``.

        Codes and scales stay what they are; their values and the plan are made anew.
        """
        self.follow()
        move = parsed_to(self.device, self.dtype, *args, **kwargs)
        tensors = {
            name: None if tensor is None else tensor.to(move.device, **move.options)
            for name, tensor in self.held().items()
        }
        return self.carried(tensors, move.dtype)

    def carried(self, tensors: Mapping[str, Tensor | None], dtype: torch.dtype) -> Self:
        """The same weight after a module's move gave other tensors, and its input another dtype."""
        codes = cast(Tensor, tensors["codes"])
        if codes.is_meta:
            return self.of_shapes(tensors, self.shape)
        if dtype not in MULTIPLIED:
            raise TypeError(f"{_NAME}: dtype is {dtype}; float32, bfloat16 or float16 is needed")
        if (codes.device, dtype) == (self.device, self.dtype):
            return self.beside(tensors)
        name = str(dtype).removeprefix("torch.")
        facts = {**self.facts(), "dtype": name, "input": name}
        facts["machine"] = ""  # (planned anew, unless it was forced)
        if codes.device.type != self.device.type and self.plan_source != "dense":
            facts["methods"] = _BY_CODES  # (where that is worth it)
        return self.of_facts(tensors, self.shape, facts)

    def facts(self) -> dict[str, Any]:
        """The plan, and what the codes mean."""
        dtype = str(self.dtype).removeprefix("torch.")
        block_size = self.block_size and list(self.block_size)
        return {**super().facts(), "format": self.format, "block_size": block_size, "dtype": dtype}

    @classmethod
    def of_facts(
        cls,
        tensors: Mapping[str, Tensor | None],
        shape: tuple[int, int],
        facts: Mapping[str, Any],
    ) -> Self:
        """Made and checked, of what a state dict has."""
        bits = cast(Tensor, tensors["bits"])
        try:
            block, dtype = facts["block_size"], DTYPES[facts["dtype"]]
            numbers = {"format": facts["format"], "block_size": block and tuple(block)}
            methods = [plans.NUMBER_OF[name] for name in facts["methods"]]
            here = fits(methods, bits.device) and _CODES not in methods
            plan = facts["plan"]
        except (KeyError, TypeError):
            raise ValueError(f"{_NAME}: the plan is {dict(facts)}, which is unknown") from None
        quantized = whole_codes(bits, tensors, shape, {**numbers, "dtype": dtype})
        made = None if here or plan not in PLANS else cls.with_codes_alone(bits, quantized, plan)
        if made is not None:
            return made.beside({"codes": tensors["codes"]})
        if _CODES in methods:  # as of another kind of device, for which a plan is made anew
            facts = {**facts, "methods": ["quads" if bits.is_cuda else "bitmap"] * len(methods)}
        values = quantized.dequantize()[prune_ops.unpack_mask(bits, shape[1])]
        masked = MaskedWeight.of_facts({"bits": bits, "values": values}, shape, facts)
        return cls._with_codes(masked, cast(Tensor, tensors["codes"]), quantized)

    @classmethod
    def of_shapes(cls, tensors: Mapping[str, Tensor | None], shape: tuple[int, int]) -> Self:
        """Of tensors that have shapes alone."""
        bits, values = cast(Tensor, tensors["bits"]), cast(Tensor, tensors["scale"]).new_empty(0)
        masked = MaskedWeight.of_shapes({"bits": bits, "values": values.float()}, shape)
        return cls._trusted(
            **{**_fields(masked), **tensors}, number_format="int8", block_size=(1, -1)
        )

    def _digest(self) -> bytes:
        return b""  # (values may have been written to: they are what the codes say)

    def _again(self) -> Self:
        return self.of_facts(self.held(), self.shape, self.facts())

    def _now(self) -> tuple[int, ...]:
        bits, values = self.bits, self.values
        places = (bits._version, values._version, bits.data_ptr(), values.data_ptr())
        return (*places, *super()._now())  # (the first four as of a weight without codes)

    def validate(self) -> None:
        """Raises ValueError or TypeError where the fields do not fit each other."""
        if not self.by_codes:
            super().validate()
        elif (
            self.starts is None
            or not _is_on_gpu(self.bits)
            or set(self.methods) - {_CODES, _UNPACK}
        ):
            raise ValueError(f"{_NAME}: the plan has codes, which are not prepared")
        self.quantized()


def _is_on_gpu(tensor: Tensor) -> bool:
    return tensor.is_cuda


def _fields(masked: MaskedWeight) -> dict[str, Any]:
    names = (*MaskedWeight.tensor_fields, *MaskedWeight.metadata_fields)
    return {name: getattr(masked, name) for name in names}


def _costs_by_codes(
    shape: Sequence[int], dtype: torch.dtype, read: Iterable[Tensor | None]
) -> plans.Costs:
    """What kernels of a GPU read beside the bits; for input of the weight's dtype."""
    code_bytes = sum(t.numel() * t.element_size() for t in read if t is not None)
    return plans.Costs((shape[0], shape[1]), 0, dtype, dtype, gpu=True, code_bytes=code_bytes)
