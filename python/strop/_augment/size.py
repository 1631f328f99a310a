"""Sizes of images, as all functions of augmentation take them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from strop._core.arguments import integer

Size: TypeAlias = "int | Sequence[int]"


def plain_size(op: str, size: object) -> list[int] | None:
    """(rows, columns) as the ops have them: of a pair, or of an int for a square."""
    if size is None:
        return None
    if isinstance(size, tuple | list):
        return [integer(op, "an entry of size", entry) for entry in size]
    return [integer(op, "size", size, "an int or a pair (rows, columns)")] * 2
