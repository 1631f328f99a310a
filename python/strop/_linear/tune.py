"""Measures this machine's costs at once, and tells them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from strop._core.arguments import boolean
from strop._core.report import Report
from strop._linear import machine_costs, plans

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_OP = "strop.tune"


def tune(*, force: bool = False) -> Report:
    """Measures what this machine's methods of packed layers cost, once, and keeps it.

    Plans (``plan="auto"``) of masked weights, dense ones and exact codes go by it; it runs by itself at the first need. It takes about
    3 seconds on one thread, and is kept in the user's cache folder by processor, instruction set, strop and
    torch. ``STROP_TUNE=off`` in the environment leaves the table that strop ships; a path is the file
    to keep the costs in.

    Args:
        force: whether to measure again what is known.

    Returns:
        A :class:`strop.Report`. Its ``.to_dict()`` has ``machine``, ``path`` (None where they are off or
        could not be written) and ``factors``: for each group of dtypes, method, place of the weight and
        class of rows, what this machine takes over what the table says; of exact codes, what it takes over
        their own kernels.

    Raises:
        TypeError: for another type.

    Example:
        >>> import strop
        >>> sorted(strop.tune().to_dict())
        ['factors', 'machine', 'path']

    """
    force = boolean(_OP, "force", force)
    found = {group: machine_costs.factors(group, force=force) for group in machine_costs.GROUPS}
    kept = machine_costs.path()
    written = not machine_costs.is_off() and kept.is_file()
    return TuningReport(plans.machine_key(), str(kept) if written else None, found)


@dataclass(frozen=True, repr=False, eq=False)
class TuningReport(Report):
    """A machine's costs, beside the table's."""

    machine: str
    path: str | None
    factors: Mapping[str, machine_costs.Factors]

    def to_dict(self) -> dict[str, Any]:
        """See :meth:`strop.Report.to_dict`."""
        groups = {
            group: {method: dict(places) for method, places in found.items()}
            for group, found in self.factors.items()
        }
        return {"machine": self.machine, "path": self.path, "factors": groups}

    def __rich__(self) -> RenderableType:
        where = self.path or ("off" if machine_costs.is_off() else "in memory")
        grid = Table(box=box.SIMPLE_HEAD, show_edge=False, title_justify="left")
        for heading in ("method", "weight", *plans.row_labels()):
            grid.add_column(heading, justify="left" if heading in ("method", "weight") else "right")
        for found in self.factors.values():
            for method, places in found.items():
                for place, row in places.items():
                    grid.add_row(method, place, *(f"{ratio:.2f}" for ratio in row))
        told = Text(
            f"{self.machine}: times over the shipped table's (unpack and codes: over exact codes' own kernels), "
            f"by rows of input; {where}"
        )
        return Group(told, grid)

    def _draw(self, figure: Figure) -> None:
        if not any(self.factors.values()):
            raise ValueError("strop.Report.plot: nothing was measured; there is nothing to draw")
        rows = [
            (f"{method}, {place}", [math.log2(ratio) for ratio in ratios])
            for found in self.factors.values()
            for method, places in found.items()
            for place, ratios in places.items()
        ]
        figure.set_size_inches(9, 0.3 * len(rows) + 1.5)
        axes = figure.subplots()
        picture = axes.imshow([r for _, r in rows], cmap="PuOr_r", vmin=-2, vmax=2, aspect="auto")
        axes.set_yticks(range(len(rows)), [name for name, _ in rows], fontsize=8)
        axes.set_xticks(range(len(plans.CLASSES)), plans.row_labels(), fontsize=8)
        axes.set_xlabel("rows of input")
        figure.colorbar(picture, label="log2 of the times over the table's")

    def _summary(self) -> str:
        return f"costs of {self.machine}"
