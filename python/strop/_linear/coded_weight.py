"""Weights in codes: quantized, and laid out for the kernels that multiply with them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor
from typing_extensions import Self

from strop._core.errors import in_the_name_of
from strop._core.tensor_dataclass import parsed_to, tensor_dataclass
from strop._linear import machine_costs, planning, plans
from strop._linear.code_tensors import (
    SCALES,
    check_codes_layout,
    codes_layout,
    keeps_apart,
    kept_codes,
    whole_codes,
    with_zeros,
)
from strop._linear.packed_weight import DTYPES, PackedWeight
from strop._linear.timed_weight import TimedWeight
from strop._prune import ops as prune_ops
from strop._quantize.formats import NumberFormat
from strop._quantize.quantized_tensor import QuantizedTensor

_NAME = "strop.PackedWeight"
ACTIVATIONS = ("", "int8", "uint8")
PLANS = ("auto", "measure", "packed")
METHODS = frozenset(plans.NUMBER_OF[method] for method in ("codes", "codes-avx2", "unpack"))
BY_KERNELS = (plans.NUMBER_OF["codes"],) * len(plans.CLASSES)
"""The plan of what has no other way."""
MULTIPLIED = (torch.float32, torch.bfloat16, torch.float16)
"""The dtypes of what is multiplied with codes, and of weights that become codes."""


@tensor_dataclass
class CodedWeight(PackedWeight):
    """A :class:`strop.PackedWeight` in codes.

    Attributes:
        codes: uint8, packed densely, as of :class:`strop.QuantizedTensor`; beside a mask those of the weights whose
            bit is set, row by row, as one row.
        scale: of the blocks, likewise.
        zero_point: likewise; None is 0.
        tensor_scale: of NVFP4, one float32; else None.
        bits: of a mask, on a CPU, uint8 of shape [N, ceil(K / 8)]; None where all weights take part.
        layout: what kernels of a CPU read; None elsewhere.
        format: the number format's name.
        block_size: of the blocks; None for recipes.
        shape: (N, K).
        dtype: that the weight had.
        activations: empty, ``int8`` or ``uint8``: what each row of the input is quantized to.
        methods: for each class of rows the number of its method.
        plan_source: how these were chosen: ``auto``, ``measure`` or ``packed``.
        apart: whether the layout has the bits of the mask and the codes of those alone; else zeros stand between them.

    """

    kind = "codes"
    canonical = ("codes", "scale", "zero_point", "tensor_scale", "bits")
    codes: Tensor
    scale: Tensor
    zero_point: Tensor | None
    tensor_scale: Tensor | None
    bits: Tensor | None
    layout: Tensor | None
    format: str
    block_size: tuple[int, ...] | None
    shape: tuple[int, int]
    dtype: torch.dtype
    activations: str
    methods: tuple[int, ...] = BY_KERNELS
    plan_source: str = "packed"
    apart: bool = False

    @property
    def nnz(self) -> int:
        """Weights that take part."""
        if self.bits is None:
            return self.shape[0] * self.shape[1]
        return int(prune_ops.unpack_mask(self.bits, self.shape[1]).count_nonzero())

    @property
    def input_dtype(self) -> torch.dtype:
        """That of the weight."""
        return self.dtype

    def quantized(self) -> QuantizedTensor:
        """The codes and scales by themselves; the code of 0 where a weight is masked."""
        if self.bits is not None:
            whole = whole_codes(self.bits, self.held(), self.shape, self._numbers())
            return with_zeros(whole, self.bits)
        fields = {name: getattr(self, name) for name in ("codes", *SCALES)}
        return QuantizedTensor._trusted(**fields, **self._numbers(), shape=self.shape)

    def _numbers(self) -> dict[str, Any]:
        return {"format": self.format, "block_size": self.block_size, "dtype": self.dtype}

    def to_dense(self) -> Tensor:
        """The weight that the codes stand for, of ``dtype``."""
        return self.quantized().dequantize()

    def method_names(self) -> list[str]:
        """What multiplies, for each class of rows."""
        return [plans.METHOD_OF[number] for number in self.methods]

    def plan(self) -> str:
        """What runs, as text to print."""
        rows, columns = self.shape
        how = f"{self.activations} activations" if self.activations else "float activations"
        kernels = self.layout is not None or self.device.type == "cuda"
        where = "by its kernels" if kernels else "dense, decoded at every call"
        kept = "bits and codes" if self.apart else "zeros between codes"
        mask = "" if self.bits is None else f"{self.sparsity:.1%} pruned, {kept}, "
        head = f"[{rows}, {columns}], {mask}{self.format}, {how}: {where}"
        if self.methods == BY_KERNELS:
            return head
        by_rows = zip(plans.row_labels(), self.method_names(), strict=True)
        lines = (f"{label:>11} rows: {method:10} ({self.plan_source})" for label, method in by_rows)
        return "\n".join([f"{head}, {machine_costs.told()}", *lines])

    @classmethod
    def of(
        cls,
        quantized: QuantizedTensor,
        activations: str,
        plan: str = "packed",
        classes: Iterable[int] = range(len(plans.CLASSES)),
        bits: Tensor | None = None,
    ) -> Self:
        """With the layout that kernels want, and a plan for these classes of rows.

        Beside the bits of a mask, the codes where it keeps nothing stand for 0: a GPU multiplies with them.
        """
        if bits is not None and quantized.device.type != "cpu":
            bits = None
        fields = {name: getattr(quantized, name) for name in QuantizedTensor.tensor_fields}
        facts = {name: getattr(quantized, name) for name in QuantizedTensor.metadata_fields}
        if bits is not None:
            fields["codes"] = kept_codes(quantized, bits)
        made = cls._trusted(
            **fields,
            bits=bits,
            **cls._laid_out(quantized, activations, bits),
            **facts,
            activations=activations,
            methods=BY_KERNELS,
            plan_source=plan,
        )
        return made._planned(plan, classes)

    @staticmethod
    def _laid_out(
        quantized: QuantizedTensor, activations: str, bits: Tensor | None
    ) -> dict[str, Any]:
        """The layout: of the codes that a mask keeps, where that is faster, else of all of them."""
        apart = bits is not None and keeps_apart(quantized.format, activations)
        layout = codes_layout(quantized, activations, bits if apart else None)
        return {"layout": layout, "apart": apart and layout is not None}

    def _planned(self, plan: str, classes: Iterable[int] = range(len(plans.CLASSES))) -> Self:
        """With a plan for input of its dtype."""
        methods, layout, dtype = BY_KERNELS, self.layout, self.dtype
        if layout is not None and not self.activations and plan != "packed" and self.bits is None:
            if plan == "measure":
                timed = TimedWeight(self.shape, dtype, lambda _: layout, self.to_dense)
                names_of = partial(plans.candidates_of_codes, dtype=dtype)
                methods = planning.measured(timed, names_of, classes)
            else:
                methods = planning.planned_codes(self.shape, dtype, classes)
        if (methods, plan) == (self.methods, self.plan_source):
            return self
        return self.beside({"methods": methods, "plan_source": plan})

    def _for(self, dtype: torch.dtype) -> Self:
        """For input of another dtype; a plan that was measured is one by costs then."""
        made = self.beside({"dtype": dtype})
        return made._planned("auto" if self.plan_source == "measure" else self.plan_source)

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """On another device, or of another dtype to restore: arguments as of ``torch.Tensor.to``.

        Codes and scales stay what they are; the layout is made where kernels read it.
        """
        self.follow()
        move = parsed_to(self.device, self.dtype, *args, **kwargs)
        moved = {
            name: None if tensor is None else tensor.to(move.device, **move.options)
            for name, tensor in self.held().items()
        }
        if move.dtype not in MULTIPLIED:
            raise TypeError(
                f"{_NAME}: dtype is {move.dtype}; float32, bfloat16 or float16 is needed"
            )
        return self.carried(moved, move.dtype)

    def carried(self, tensors: Mapping[str, Tensor | None], dtype: torch.dtype) -> Self:
        """The same weight after a module's move gave other tensors, and its input another dtype."""
        made = self.beside(tensors)
        if made.codes.is_meta:
            made = made.beside({"layout": None, "methods": BY_KERNELS})
        elif made.device != self.device:
            plan = "auto" if self.plan_source == "measure" else self.plan_source
            made = type(self).of(made.quantized(), self.activations, plan, bits=made.bits)
        return made if dtype == self.dtype else made._for(dtype)

    def facts(self) -> dict[str, Any]:
        """What the codes mean, and what they are multiplied with."""
        return {
            "format": self.format,
            "block_size": self.block_size and list(self.block_size),
            "dtype": str(self.dtype).removeprefix("torch."),
            "activations": self.activations,
            "plan": self.plan_source,
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
            names = ("format", "block_size", "activations", "plan")
            format, block, activations, plan = (facts[name] for name in names)
            dtype, block_size = DTYPES[facts["dtype"]], None if block is None else tuple(block)
        except (KeyError, TypeError):
            raise ValueError(f"{_NAME}: the plan is {dict(facts)}, which is unknown") from None
        numbers = {"format": format, "block_size": block_size, "dtype": dtype}
        quantized = _checked(tensors, shape, numbers)
        check(quantized, activations)
        if plan not in PLANS:
            raise ValueError(f"{_NAME}: the plan is {dict(facts)}, which is unknown")
        if (bits := tensors.get("bits")) is not None:
            quantized = with_zeros(quantized, bits)
        made = cls.of(quantized, activations, "auto" if plan == "measure" else plan, bits=bits)
        return made if made.bits is None else made.beside({"codes": tensors["codes"]})

    @classmethod
    def of_shapes(cls, tensors: Mapping[str, Tensor | None], shape: tuple[int, int]) -> Self:
        """Of tensors that have shapes alone."""
        given: dict[str, Any] = {"bits": None, **tensors}
        facts: dict[str, Any] = {"format": "int8", "block_size": (1, -1), "activations": ""}
        return cls._trusted(**given, layout=None, shape=shape, dtype=torch.float32, **facts)

    def _again(self) -> Self:
        quantized = _checked(self.held(), self.shape, self._numbers())
        if self.bits is not None:
            quantized = with_zeros(quantized, self.bits)
        return self.beside(self._laid_out(quantized, self.activations, self.bits))

    def validate(self) -> None:
        """Raises ValueError or TypeError where the fields do not fit each other."""
        check(_checked(self.held(), self.shape, self._numbers()), self.activations)
        if len(self.methods) != len(plans.CLASSES) or not set(self.methods) <= METHODS:
            raise ValueError(
                f"{_NAME}: methods, the plan is {self.methods}; those of codes are needed"
            )
        if self.plan_source not in PLANS:
            raise ValueError(
                f"{_NAME}: plan_source is {self.plan_source!r}; {', '.join(PLANS)} are known"
            )
        if self.layout is not None:
            check_codes_layout(self.layout, self.shape, self.device)


def _checked(
    tensors: Mapping[str, Tensor | None], shape: tuple[int, int], numbers: Mapping[str, Any]
) -> QuantizedTensor:
    """Codes and scales of the whole weight; raises ValueError or TypeError where they do not fit."""
    if (bits := tensors.get("bits")) is not None:
        return whole_codes(bits, tensors, shape, numbers)
    given: dict[str, Any] = {name: tensors[name] for name in ("codes", *SCALES)}
    with in_the_name_of(_NAME):
        return QuantizedTensor(**given, **numbers, shape=shape)


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
