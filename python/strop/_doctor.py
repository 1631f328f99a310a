"""Checks an installation: what is there, and whether every op agrees with the oracle."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

import strop
from strop import _C
from strop._core import library
from strop._linear import machine_costs


@dataclass(frozen=True)
class Check:
    """One self-test: an op on an instruction set, or on a GPU."""

    op: str
    isa: str
    passed: bool
    detail: str = ""
    agreement: str = "equal to the bit"


@dataclass(frozen=True)
class Diagnosis:
    """An installation, and the checks that were run on it."""

    facts: dict[str, str]
    checks: list[Check]

    @property
    def healthy(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)

    def to_dict(self) -> dict[str, object]:
        """As JSON has it."""
        return {
            "healthy": self.healthy,
            "facts": self.facts,
            "checks": [asdict(check) for check in self.checks],
        }


def _costs() -> str:
    kept = machine_costs.path()
    if machine_costs.is_off():
        return machine_costs.told()
    where = "kept in" if kept.exists() else "to be measured at the first need, and kept in"
    return f"{machine_costs.told()}: {where} {kept}"


def _facts() -> dict[str, str]:
    info = strop.build_info()
    cuda = torch.version.cuda
    devices = torch.cuda.device_count() if cuda else 0
    return {
        "strop": f"{info['version']} ({info['compiler']}, for torch>={info['torch_target']})",
        "torch": torch.__version__,
        "python": platform.python_version(),
        "instruction set": f"{strop.isa()} (built: {', '.join(info['isas'])}; "
        f"usable: {', '.join(strop.supported_isas())})",
        "costs": _costs(),
        "threads": str(torch.get_num_threads()),
        "cuda": f"torch built for {cuda}, {devices} device(s)" if cuda else "torch built without",
        "cuda kernels": ", ".join(info["cuda_architectures"]) or "not built",
        "libraries": str(library.library_path("")),
    }


def _fake_quantize_differs(device: str) -> str:
    """Where the op differs from the oracle on a few problems of each kind; empty if nowhere."""
    generator = np.random.default_rng(0)
    for dtype in (torch.float32, torch.bfloat16, torch.float16, torch.float64):
        x = torch.from_numpy(generator.standard_normal((37, 129))).to(dtype)
        for options in (
            {"format": "int4", "block_size": (1, 32)},
            {"format": "uint8", "block_size": (4, -1), "symmetric": False},
            {"format": "int8", "rounding": "stochastic", "seed": 7},
            {"format": "float8_e5m2", "block_size": (1, -1), "rounding": "floor"},
            {"format": "nf4", "block_size": (1, 64)},
            {"format": "mxfp4"},
            {"format": "nvfp4"},
        ):
            found = strop.fake_quantize(x.to(device), **options).cpu().double()
            wide = x.float().numpy() if dtype != torch.float64 else x.numpy()
            expected = torch.from_numpy(_C.reference.fake_quantize(wide, **options))
            if not torch.equal(found, expected.to(dtype).double()):
                return f"differs from the oracle for {dtype} with {options}"
    return ""


def _codes_differ(device: str) -> str:
    """Where codes, or what they restore, differ from the oracle; empty if nowhere."""
    generator = np.random.default_rng(1)
    x = torch.from_numpy(generator.standard_normal((37, 129)).astype(np.float32))
    for format in ("int3", "uint4", "int16", "float6_e3m2fn", "nf4", "mxfp8", "nvfp4"):
        q = strop.quantize(x.to(device), format=format)
        expected = _C.reference.quantize(x.numpy(), format=format)[0]
        if not np.array_equal(q.codes.cpu().numpy(), expected):
            return f"codes of {format} differ from the oracle's"
        restored = torch.from_numpy(_C.reference.fake_quantize(x.numpy(), format=format))
        if not torch.equal(strop.dequantize(q).cpu(), restored):
            return f"what {format} restores differs from the oracle's"
    return ""


def _prune_differs(device: str) -> str:
    """Where masks, or shrunk weights, differ from the oracle's; empty if nowhere."""
    x = np.random.default_rng(2).standard_normal((37, 129)).astype(np.float32).round(1)
    weight = torch.from_numpy(x).to(device)
    for options in (
        {"sparsity": 0.5},
        {"sparsity": 0.7, "per": "row"},
        {"threshold": 0.8},
        {"pattern": "2:4"},
    ):
        mask = strop.prune_mask(weight, **options)
        if not np.array_equal(mask.cpu().numpy(), _C.reference.prune_mask(x, **options)):
            return f"the mask differs from the oracle's with {options}"
        if not torch.equal(strop.unpack_mask(strop.pack_mask(mask), 129), mask):
            return "a mask is not what it was after pack_mask and unpack_mask"
    shrunk = strop.soft_threshold(weight, 0.5).cpu().numpy()
    if not np.array_equal(shrunk, _C.reference.soft_threshold(x, 0.5)):
        return "soft_threshold differs from the oracle"
    return ""


def _linear_differs(device: str) -> str:
    """Where a pruned layer is farther from the oracle than docs/numerics.md allows; empty if nowhere."""
    generator = np.random.default_rng(3)
    for sparsity in (0.3, 0.9):
        kept = generator.random((37, 129)) >= sparsity
        w = generator.standard_normal((37, 129)).astype(np.float32) * kept
        oracle = _C.masked_layout(w, None, "mask")
        for rows in (1, 7, 16, 70):
            x = generator.standard_normal((rows, 129)).astype(np.float32)
            weight, given = (torch.from_numpy(a).to(device) for a in (w, x))
            packed = strop.pack_weight(weight, rows=rows, plan="packed")
            found = strop.packed_linear(given, packed).cpu().numpy()
            expected = _C.reference.packed_linear(x, oracle)
            bound = 2e-6 * (np.abs(x) @ np.abs(w.T)) + np.spacing(np.abs(expected))
            if not np.all(np.abs(found - expected) <= bound):
                return f"differs from the oracle: rows {rows}, {sparsity:.0%} pruned"
    return ""


def _augment_differs(device: str) -> str:
    """Where warped images, or masks, differ from the oracle's; empty if nowhere."""
    generator = np.random.default_rng(4)
    images = generator.integers(0, 256, (2, 3, 37, 129), np.uint8)
    matrices = np.array([[[0.8, 0.3, -4], [-0.2, 1.1, 9]], [[-1, 0, 128], [0, 1, 0]]], np.float32)
    given, maps = (torch.from_numpy(a).to(device) for a in (images, matrices))
    options: dict[str, Any] = {"size": [33, 70], "mean": [0.5, 0.4, 0.3], "std": [0.2]}
    for fill_mode in ("constant", "hard_constant", "nearest", "mirror", "grid_wrap"):
        for x, there in ((images, given), ((images / 255).astype(np.float32), given.float() / 255)):
            found = strop.augment_images(there, maps, fill_mode=fill_mode, **options).cpu().numpy()
            expected = _C.reference.augment_images(x, matrices, fill_mode=fill_mode, **options)
            if not np.array_equal(found, expected):
                return f"differs from the oracle for {x.dtype} with fill_mode {fill_mode}"
    masks = strop.warp_masks(given, maps, fill=7).cpu().numpy()
    if not np.array_equal(masks, _C.reference.warp_masks(images, matrices, fill=7)):
        return "warp_masks differs from the oracle"
    return ""


class _SelfTest(NamedTuple):
    """What finds differences on a device, and what it is to say if there are none."""

    differs: Callable[[str], str]
    agreement: str = Check.agreement

    def check(self, op: str, isa: str, device: str) -> Check:
        """Its outcome."""
        detail = self.differs(device)
        return Check(op, isa, not detail, detail, self.agreement)


_SELF_TESTS = {
    "fake_quantize": _SelfTest(_fake_quantize_differs),
    "quantize, dequantize": _SelfTest(_codes_differ),
    "prune_mask, soft_threshold, pack_mask": _SelfTest(_prune_differs),
    "augment_images, warp_masks": _SelfTest(_augment_differs),
    "pack_weight, packed_linear": _SelfTest(_linear_differs, "within its bound"),
}


def diagnose() -> Diagnosis:
    """Runs every self-test on every instruction set and GPU; leaves the set in force as it was."""
    before = strop.isa()
    checks = []
    try:
        for isa in strop.supported_isas():
            strop.set_isa(isa)
            checks += [test.check(op, isa, "cpu") for op, test in _SELF_TESTS.items()]
    finally:
        strop.set_isa(before)
    if "cuda" in library.DEVICES and torch.cuda.is_available():
        checks += [test.check(op, "cuda", "cuda") for op, test in _SELF_TESTS.items()]
    for failure in _C.self_test_failures():
        isa, _, detail = failure.partition(": ")
        checks.append(Check("all", isa, False, detail))
    return Diagnosis(_facts(), checks)
