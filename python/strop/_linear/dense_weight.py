"""Weights without a mask and without a format: torch's dense products, prepacked where that is faster."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor
from typing_extensions import Self

from strop._core.library import FLOATING
from strop._core.tensor_dataclass import tensor_dataclass
from strop._linear import machine_costs, planning, plans
from strop._linear.dense_ways import Prepacked
from strop._linear.masked_layouts import check_methods, one_method
from strop._linear.packed_weight import PackedWeight
from strop._linear.timed_weight import TimedWeight

_NAME = "strop.PackedWeight"
PLANS = ("auto", "measure", "dense")


@tensor_dataclass
class DenseWeight(Prepacked, PackedWeight):
    """A :class:`strop.PackedWeight` of all its values.

    Attributes:
        values: [N, K], contiguous.
        shape: (N, K).
        methods: for each class of rows the number of its method, ``dense`` or ``prepacked``.
        plan_source: how these were chosen: ``auto``, ``measure`` or ``dense``.

    """

    kind = "dense"
    canonical = ("values",)
    format = None
    activations = ""
    values: Tensor
    shape: tuple[int, int]
    methods: tuple[int, ...]
    plan_source: str

    @classmethod
    def planned(cls, values: Tensor, classes: list[int], plan: str) -> Self:
        """With a plan for these classes of rows."""
        shape = (values.shape[0], values.shape[1])
        methods = one_method("dense")
        costs = plans.Costs(shape, values.numel(), values.dtype, values.dtype, values.is_cuda)
        if plan == "measure" and not values.is_cuda:
            ways = planning.dense_ways_of(values.dtype)
            methods = planning.measured(TimedWeight.dense(values), lambda _: ways, classes)
        elif plan != "dense":
            methods = planning.completed({n: planning.dense_way(costs, n) for n in classes})
        return cls._trusted(values=values, shape=shape, methods=methods, plan_source=plan)

    @property
    def dense(self) -> Tensor:
        """The values."""
        return self.values

    @property
    def dtype(self) -> torch.dtype:
        """Of the values."""
        return self.values.dtype

    @property
    def input_dtype(self) -> torch.dtype:
        """That of the values."""
        return self.values.dtype

    @property
    def nnz(self) -> int:
        """Weights that take part: all of them."""
        return self.shape[0] * self.shape[1]

    def plan(self) -> str:
        """What runs for which rows of input, as text to print."""
        dtype = str(self.dtype).removeprefix("torch.")
        head = f"[{self.shape[0]}, {self.shape[1]}], {dtype}, {machine_costs.told()}"
        rows = zip(plans.row_labels(), self.method_names(), strict=True)
        lines = (f"{label:>11} rows: {method:9} ({self.plan_source})" for label, method in rows)
        return "\n".join([head, *lines])

    def to_dense(self) -> Tensor:
        """A copy of the values."""
        return self.values.clone()

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """On another device or of another dtype, planned for that. Arguments as of ``torch.Tensor.to``."""
        self.follow()
        values = self.values.to(*args, **kwargs)
        if not values.is_floating_point():
            raise TypeError(
                f"{_NAME}: dtype is {values.dtype}; float32, bfloat16, float16 or float64 is needed"
            )
        return self.carried({"values": values}, values.dtype)

    def carried(self, tensors: Mapping[str, Tensor | None], dtype: torch.dtype) -> Self:
        """The same weight after a module's move gave other values."""
        values = cast(Tensor, tensors["values"])
        if (values.dtype, values.device) == (self.dtype, self.device):
            return self if values is self.values else self.beside(tensors)
        plan = "auto" if self.plan_source == "measure" else self.plan_source
        return self.planned(values, list(range(len(plans.CLASSES))), plan)

    def facts(self) -> dict[str, Any]:
        """The plan, and the machine that it is for."""
        machine = plans.machine_key()
        return {"plan": self.plan_source, "methods": self.method_names(), "machine": machine}

    @classmethod
    def of_facts(
        cls,
        tensors: Mapping[str, Tensor | None],
        shape: tuple[int, int],
        facts: Mapping[str, Any],
    ) -> Self:
        """Made and checked, of what a state dict has."""
        try:
            plan, machine = facts["plan"], facts["machine"]
            methods = tuple(plans.NUMBER_OF[name] for name in facts["methods"])
        except (KeyError, TypeError):
            raise ValueError(f"{_NAME}: the plan is {dict(facts)}, which is unknown") from None
        values = cast(Tensor, tensors["values"])
        made = cls(values=values, shape=shape, methods=methods, plan_source=plan)
        if plan != "dense" and (machine != plans.machine_key() or values.is_cuda):
            return cls.planned(values, list(range(len(plans.CLASSES))), "auto")
        return made

    @classmethod
    def of_shapes(cls, tensors: Mapping[str, Tensor | None], shape: tuple[int, int]) -> Self:
        """Of values that have a shape alone."""
        values = cast(Tensor, tensors["values"])
        dense = one_method("dense")
        return cls._trusted(values=values, shape=shape, methods=dense, plan_source="dense")

    def _again(self) -> Self:
        return self

    def validate(self) -> None:
        """Raises ValueError or TypeError where the fields do not fit each other."""
        if self.values.dtype not in FLOATING:
            dtype = str(self.values.dtype).removeprefix("torch.")
            raise TypeError(
                f"{_NAME}: values has dtype {dtype}; float32, bfloat16, float16 or float64 is needed"
            )
        if tuple(self.values.shape) != tuple(self.shape) or len(self.shape) != 2:
            raise ValueError(
                f"{_NAME}: values has shape {tuple(self.values.shape)}; shape is {self.shape}"
            )
        check_methods(self.methods)
        if not set(self.method_names()) <= {"dense", "prepacked"}:
            raise ValueError(f"{_NAME}: methods of a dense weight are dense and prepacked alone")
        if self.plan_source not in PLANS:
            raise ValueError(
                f"{_NAME}: plan_source is {self.plan_source!r}; {', '.join(PLANS)} are known"
            )
