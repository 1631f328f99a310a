"""Loads the compiled libraries and says how they were built."""

from __future__ import annotations

from pathlib import Path
from typing import TypedDict

import torch

from strop import _C
from strop._core.arguments import instance

OLDEST_TORCH = (2, 11)


class BuildInfo(TypedDict):
    """How the compiled libraries were built."""

    version: str
    compiler: str
    isas: list[str]
    torch_target: str
    cuda_architectures: list[str]


def _check_torch() -> None:
    found = torch.__version__
    major, minor = (int(part) for part in found.split(".")[:2])
    if (major, minor) < OLDEST_TORCH:
        needed = ".".join(map(str, OLDEST_TORCH))
        raise ImportError(f"strop needs torch>={needed}; torch {found} is installed")


def library_path(name: str) -> Path:
    """The file of one of the compiled libraries, which lie beside ``_C``."""
    return Path(_C.__file__).parent / name


_check_torch()
torch.ops.load_library(str(library_path("_ops.so")))
DEVICES = ["cpu"]
"""Kinds of device that have kernels here."""
if torch.version.cuda is not None and library_path("_ops_cuda.so").exists():
    torch.ops.load_library(str(library_path("_ops_cuda.so")))
    DEVICES.append("cuda")
FLOATING = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
"""The dtypes that kernels know as floating; state dicts number them in this order."""
ops = torch.ops.strop  # from here, so that whoever uses an op has loaded it
shapes = torch.ops.strop_shapes  # see Note [Ops without data] in csrc/core/torch/backends.h


def set_isa(name: str | None) -> None:
    """Puts an instruction set in force for the whole process.

    Args:
        name: one of ``strop.supported_isas()``; None chooses anew, as at the first call.

    Raises:
        ValueError: for one that cannot be used here.
        TypeError: for another type.

    Example:
        >>> import strop
        >>> strop.set_isa("baseline")
        >>> strop.isa()
        'baseline'
        >>> strop.set_isa(None)

    """
    if name is not None:
        instance("strop.set_isa", "name", name, str, "a string or None")
    _C.set_isa(name)


def build_info() -> BuildInfo:
    """Version, compiler, instruction sets, GPUs and the oldest torch that the libraries are for.

    Example:
        >>> import strop
        >>> sorted(strop.build_info())
        ['compiler', 'cuda_architectures', 'isas', 'torch_target', 'version']

    """
    info: BuildInfo = _C.build_info()
    return info
