"""A weight by all the ways to multiply with it, as calls to time."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional
from typing_extensions import Self

from strop._linear import dense_ways, ops, plans


class TimedWeight:
    """What each method reads of a weight, made when it is first wanted.

    Args:
        shape: (N, K).
        dtype: of the input.
        form: makes what a method reads, by the names of ``plans.FORM_OF``.
        unpacked: restores the dense weight, where ``unpack`` is to do so in each call.

    """

    def __init__(
        self,
        shape: tuple[int, int],
        dtype: torch.dtype,
        form: Callable[[str], Tensor],
        unpacked: Callable[[], Tensor] | None = None,
    ) -> None:
        self.shape, self.dtype = shape, dtype
        self._form, self._unpacked = form, unpacked
        self._bitmap: tuple[Tensor, Tensor] | None = None
        self._made: dict[str, Tensor] = {}

    @classmethod
    def masked(
        cls, bits: Tensor, values: Tensor, shape: tuple[int, int], dtype: torch.dtype
    ) -> Self:
        """Of what a mask keeps."""

        def form(name: str) -> Tensor:
            if name == "dense":
                return ops.unpack_masked(bits, values, shape[1]).to(dtype)  # type: ignore[no-any-return]
            return ops.layout(bits, values, shape[1], name)  # type: ignore[no-any-return]

        made = cls(shape, dtype, form)
        made._bitmap = bits, values
        return made

    @classmethod
    def dense(cls, weight: Tensor) -> Self:
        """Of all its values."""
        return cls((weight.shape[0], weight.shape[1]), weight.dtype, lambda _: weight)

    def form(self, name: str) -> Tensor:
        """What a method reads."""
        if name not in self._made:
            dense = name == "prepacked"
            self._made[name] = (
                dense_ways.prepacked(self.form("dense")) if dense else self._form(name)
            )
        return self._made[name]

    def call(self, method: str, rows: int) -> Callable[[], object]:
        """The product with so many rows of input."""
        x = torch.linspace(-1, 1, rows * self.shape[1], device=self._device())
        x = x.view(rows, self.shape[1]).to(self.dtype)
        if method == "unpack" and (unpacked := self._unpacked) is not None:
            return lambda: functional.linear(x, unpacked())
        prepared = self.form(method if method == "prepacked" else plans.FORM_OF[method])
        if method == "dense":
            return lambda: functional.linear(x, prepared)
        if method == "prepacked":
            return lambda: dense_ways.product(x, prepared, None, None)
        outputs, isa = self.shape[0], plans.ISA_OF[plans.NUMBER_OF[method]]
        if (bitmap := self._bitmap) is not None and plans.FORM_OF[method] == "starts":
            return lambda: ops.by_bits(x, *bitmap, prepared, None, "", isa)
        return lambda: ops.by_layout(x, prepared, outputs, None, "", isa)

    def _device(self) -> torch.device:
        return torch.device("cpu") if self._bitmap is None else self._bitmap[0].device
