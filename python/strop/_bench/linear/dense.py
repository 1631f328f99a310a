"""The dense layers that packed ones are measured against: torch's, and oneDNN's with a prepacked weight.

The second is what ``torch.compile`` runs where weights are frozen.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from strop._bench.case import Bar, Call, Medians
from strop._linear import dense_ways

TORCH, PREPACKED = "torch dense", "oneDNN prepacked"
LAYERS = (TORCH, PREPACKED)


def layers(x: Tensor, weight: Tensor) -> dict[str, Callable[[], Call]]:
    """Both of them, as far as torch has them here for the dtype."""

    def dense() -> Call:
        return lambda: torch.nn.functional.linear(x, weight)

    def prepacked() -> Call:
        ordered = dense_ways.prepacked(weight)
        return lambda: dense_ways.product(x, ordered, None, None)

    found: dict[str, Callable[[], Call]] = {TORCH: dense}
    return found | {PREPACKED: prepacked} if dense_ways.can_prepack(x.dtype) else found


def fastest(medians: Medians) -> float:
    """Seconds of the faster one of those that were measured."""
    return min(medians[name] for name in LAYERS if name in medians)


def faster_than_dense(ratio: float) -> Bar:
    """Strop takes at most 1/ratio of the fastest dense layer's time."""
    return Bar("x best dense", lambda t: fastest(t) / t["strop"], ratio, needs=(TORCH,))
