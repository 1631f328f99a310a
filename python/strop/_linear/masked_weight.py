"""Weights with a mask: the bits of what is kept, its values, and what the kernels make of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, cast

import torch
from torch import Tensor
from torch.compiler import is_compiling
from typing_extensions import Self

from strop import _C
from strop._core.errors import translated
from strop._core.library import FLOATING
from strop._core.tensor_dataclass import tensor_dataclass
from strop._linear import machine_costs, ops, planning, plans
from strop._linear.dense_ways import Prepacked
from strop._linear.masked_layouts import (
    array_of,
    check_dtypes,
    check_layout,
    check_methods,
    fits,
    on_cpu,
    on_gpu,
    one_method,
    planned,
)
from strop._linear.packed_weight import DTYPES, PackedWeight

_NAME = "strop.PackedWeight"
PLANS = ("auto", "measure", "packed", "dense")
FORCED = ("packed", "dense")


@tensor_dataclass
class MaskedWeight(Prepacked, PackedWeight):
    """A :class:`strop.PackedWeight` with a mask.

    Attributes:
        bits: uint8 of shape [N, ceil(K / 8)]: a bit for each weight, low bits first.
        values: the weights whose bit is set, row by row.
        quads: strips of four rows of the weight, for few rows of input or few nonzeros; None if not prepared.
        pairs: strips of two, for more of both; likewise.
        panels: bits and values as tiles of AMX take them, of float32 the columns that 16 rows have, for any
            rows; likewise.
        dense: the weight itself, where the plan has dense in it.
        back_quads: the layouts of the transposed weight, for the input's gradient.
        back_pairs: likewise.
        starts: int64 of shape [N + 1]: where each row's values begin, for methods that read bits and values.
        shape: (N, K).
        methods: for each class of rows the number of its method.
        plan_source: how these were chosen: ``auto``, ``measure``, ``packed`` or ``dense``.
        input_dtype: of the input that the plan is for, and of ``dense``; others work.

    """

    kind = "masked"
    canonical: ClassVar[tuple[str, ...]] = ("bits", "values")
    format = None
    activations = ""
    bits: Tensor
    values: Tensor
    quads: Tensor | None
    pairs: Tensor | None
    panels: Tensor | None
    dense: Tensor | None
    back_quads: Tensor | None
    back_pairs: Tensor | None
    starts: Tensor | None
    shape: tuple[int, int]
    methods: tuple[int, ...]
    plan_source: str
    input_dtype: torch.dtype
    versions = None
    """Those of bits and values as a tensor, for compiled code, which cannot ask; None on a GPU, where it
    would wait."""

    @property
    def nnz(self) -> int:
        """Weights that are kept."""
        return self.values.shape[0]

    @property
    def dtype(self) -> torch.dtype:
        """Of the values."""
        return self.values.dtype

    def plan(self) -> str:
        """What runs for which rows of input, and why, as text to print."""
        lines = planning.describe(self.methods, self._costs(), self.plan_source)
        dtypes = f"{self._kept_as()} beside {str(self.input_dtype).removeprefix('torch.')}"
        table = "bytes moved" if self.bits.is_cuda else machine_costs.told()
        head = f"[{self.shape[0]}, {self.shape[1]}], {self.sparsity:.1%} pruned, {dtypes} input, {table}"
        return "\n".join(
            [head, *(f"{rows:>11} rows: {method:6} ({w})" for rows, method, w in lines)]
        )

    def _kept_as(self) -> str:
        """What is read of the weights that are kept."""
        return str(self.dtype).removeprefix("torch.")

    def _costs(self) -> plans.Costs:
        return plans.costs_of(self.bits, self.values, self.shape, self.input_dtype)

    def _settle(self) -> None:
        super()._settle()
        if self._made_of is not None and self.device.type == "cpu" and not is_compiling():
            versions = torch.tensor((self.bits._version, self.values._version), device="cpu")
            object.__setattr__(self, "versions", versions)

    def _again(self) -> Self:
        return self.prepared(
            self.bits,
            self.values,
            self.shape,
            methods=self.methods,
            plan_source=self.plan_source,
            backward=self.back_quads is not None,
            input_dtype=self.input_dtype,
        )

    def to_dense(self) -> Tensor:
        """The weight with its zeros."""
        self.follow()
        if self.starts is not None and self.starts.is_cuda:
            return ops.unpack_by_starts(self.bits, self.values, self.starts, self.shape[1])  # type: ignore[no-any-return]
        return ops.unpack_masked(self.bits, self.values, self.shape[1])  # type: ignore[no-any-return]

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """On another device or of another dtype, planned for that kind of device and input of that dtype.

        A plan that was measured is one by costs then. Arguments as of ``torch.Tensor.to``.
        """
        self.follow()
        copy = kwargs.pop("copy", False)  # (which torch's parser does not know)
        device, dtype, non_blocking, _ = torch._C._nn._parse_to(*args, **kwargs)
        there = self.device if device is None else torch.device(device)
        other_kind = {there.type, self.device.type} == {"cpu", "cuda"}
        cast = dtype is not None and (dtype, dtype) != (self.dtype, self.input_dtype)
        if cast or other_kind:
            made = self._remade(dtype if cast else None, there if other_kind else self.device)
            return made.to(device, non_blocking=non_blocking)
        return super().to(device=device, non_blocking=non_blocking, copy=copy)

    def carried(self, tensors: Mapping[str, Tensor | None], dtype: torch.dtype) -> Self:
        """The same weight after a module's move gave other tensors, and its input another dtype."""
        bits, values = cast(Tensor, tensors["bits"]), cast(Tensor, tensors["values"])
        if (values.dtype, dtype) != (self.dtype, self.input_dtype):
            return self.to(bits.device, values.dtype)  # whose plan and layouts depend on it
        if bits.device != self.device:
            return self.to(bits.device)
        return self if bits is self.bits and values is self.values else self.beside(tensors)

    def facts(self) -> dict[str, Any]:
        """The plan, and what it is for."""
        return {
            "plan": self.plan_source,
            "methods": self.method_names(),
            "backward": self.back_quads is not None,
            "input": str(self.input_dtype).removeprefix("torch."),
            "machine": plans.machine_key(),
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
            source, backward = facts["plan"], facts["backward"]
            methods = tuple(plans.NUMBER_OF[name] for name in facts["methods"])
            input_dtype, machine = DTYPES[facts["input"]], facts["machine"]
        except (KeyError, TypeError):
            raise ValueError(f"{_NAME}: the plan is {dict(facts)}, which is unknown") from None
        if source not in PLANS or not isinstance(backward, bool):
            raise ValueError(f"{_NAME}: the plan is {dict(facts)}, which is unknown")
        bits, values = cast(Tensor, tensors["bits"]), cast(Tensor, tensors["values"])
        check_methods(methods)
        if source not in FORCED and machine != plans.machine_key() and bits.device.type == "cpu":
            costs = plans.costs_of(bits, values, shape, input_dtype)
            methods, source = planned(costs, source)
        return cls.prepared(
            bits,
            values,
            shape,
            methods=methods,
            plan_source=source,
            backward=backward,
            input_dtype=input_dtype,
        )

    @classmethod
    def of_shapes(cls, tensors: Mapping[str, Tensor | None], shape: tuple[int, int]) -> Self:
        """Of tensors that have shapes alone."""
        bits, values = cast(Tensor, tensors["bits"]), cast(Tensor, tensors["values"])
        prepared = {"bits": bits, "values": values, "quads": bits.new_empty(0)}
        return cls._trusted(
            **{name: prepared.get(name) for name in TENSORS},
            shape=shape,
            methods=one_method("quads"),
            plan_source="packed",
            input_dtype=values.dtype,
        )

    @classmethod
    def prepared(
        cls,
        bits: Tensor,
        values: Tensor,
        shape: tuple[int, int],
        *,
        methods: tuple[int, ...],
        plan_source: str,
        backward: bool,
        input_dtype: torch.dtype | None = None,
    ) -> Self:
        """With the layouts that a plan needs, and those of the transposed weight.

        A plan of another kind of device is made anew.
        """
        check_methods(methods)
        input_dtype = values.dtype if input_dtype is None else input_dtype
        if not fits(methods, bits.device):
            costs = plans.costs_of(bits, values, shape, input_dtype)
            methods, plan_source = planned(costs, plan_source)
        check_dtypes(values.dtype, input_dtype, methods)
        columns = shape[1]
        if tuple(bits.shape) != (shape[0], (columns + 7) // 8):
            raise ValueError(
                f"{_NAME}: bits has shape {tuple(bits.shape)}; {shape} needs "
                f"{(shape[0], (columns + 7) // 8)}"
            )
        names = {plans.FORM_OF[plans.METHOD_OF[number]] for number in methods}
        layouts = on_gpu if bits.is_cuda else on_cpu
        try:
            made = layouts(bits, values, shape, names | {"back"} if backward else names)
        except Exception as error:
            raise translated(_NAME, error, {"bits": bits, "values": values}) from None
        if (dense := made.get("dense")) is not None:
            made["dense"] = dense.to(input_dtype)
        return cls._trusted(
            bits=bits,
            values=values,
            **{name: made.get(name) for name in TENSORS[2:]},
            shape=shape,
            methods=methods,
            plan_source=plan_source,
            input_dtype=input_dtype,
        )

    def validate(self) -> None:
        """Raises ValueError or TypeError where the fields do not fit each other."""
        if len(self.shape) != 2:
            raise ValueError(f"{_NAME}: shape is {self.shape}; (N, K) is needed")
        rows, columns = self.shape
        check_methods(self.methods)
        if self.plan_source not in PLANS:
            raise ValueError(
                f"{_NAME}: plan_source is {self.plan_source!r}; {', '.join(PLANS)} are known"
            )
        if not fits(self.methods, self.device):
            raise ValueError(
                f"{_NAME}: the plan is of another kind of device than {self.device}; .to() makes it anew"
            )
        for method in {plans.METHOD_OF[number] for number in self.methods}:
            if getattr(self, plans.FORM_OF[method]) is None:
                raise ValueError(f"{_NAME}: the plan has {method}, which is not prepared")
        if self.device.type != "cpu":
            return  # checked before it went there
        bits, values = array_of("bits", self.bits), array_of("values", self.values, FLOATING)
        _C.check_masked_matrix(bits, values, columns)
        if self.bits.shape[0] != rows:
            raise ValueError(f"{_NAME}: bits has {self.bits.shape[0]} rows; shape is {self.shape}")
        check_dtypes(self.dtype, self.input_dtype, self.methods)
        if self.dense is not None and self.dense.dtype != self.input_dtype:
            raise TypeError(f"{_NAME}: dense is {self.dense.dtype}, not {self.input_dtype}")
        if self.dense is not None and tuple(self.dense.shape) != self.shape:
            raise ValueError(
                f"{_NAME}: dense has shape {tuple(self.dense.shape)}, not {self.shape}"
            )
        if self.starts is not None and not torch.equal(
            self.starts, ops.layout(self.bits, self.values, columns, "starts")
        ):
            raise ValueError(f"{_NAME}: starts are not where the rows' values begin")
        turned = (columns, rows)
        for name in (*plans.LAYOUTS, "back_quads", "back_pairs"):
            if (layout := getattr(self, name)) is not None:
                check_layout(name, layout, turned if name.startswith("back_") else self.shape)

    def _remade(self, dtype: torch.dtype | None, device: torch.device) -> Self:
        """There, of another dtype, for input of that dtype."""
        if dtype is not None and dtype not in FLOATING:
            raise TypeError(
                f"{_NAME}: dtype is {dtype}; float32, bfloat16, float16 or float64 is needed"
            )
        values, input_dtype = self.values.to(device, dtype), dtype or self.input_dtype
        bits = self.bits.to(device)
        costs = plans.costs_of(bits, values, self.shape, input_dtype)
        methods, plan_source = planned(costs, self.plan_source)
        return type(self).prepared(
            bits,
            values,
            self.shape,
            methods=methods,
            plan_source=plan_source,
            backward=self.back_quads is not None and values.dtype != torch.float64,
            input_dtype=input_dtype,
        )


TENSORS = ops.WeightArguments._fields[:-1]
"""Its fields that are tensors, in the order of the op's arguments."""
