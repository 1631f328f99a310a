"""What the system says of the processor."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from functools import cache


@cache
def facts() -> Mapping[str, str]:
    """Linux's ``/proc/cpuinfo`` of the first processor, by its names; nothing elsewhere."""
    found: dict[str, str] = {}
    with contextlib.suppress(OSError), open("/proc/cpuinfo") as lines:
        for line in lines:
            name, _, value = line.partition(":")
            found.setdefault(name.strip(), value.strip())
    return found
