"""The README's table: a few cases that speak for all, each against the fastest peer that a user would run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.tables import Measured, machine_of
from strop._bench import present

# What does a part of the work alone, or none of it: a bound, and no way to do it.
BOUNDS = ("copy_", "cv2.warpAffine alone")


@dataclass(frozen=True)
class Row:
    """A case of a results file, in words."""

    told: str
    file: str
    case: str


XEON, EPYC, H100 = "intel-xeon-avx512", "amd-epyc-26-2-avx2", "nvidia-h100-80gb-hbm3"
ZEN3 = "amd-epyc-25-1-avx2"
MINILM = "MiniLM, 90% pruned, 1 x 128 tokens"
ROWS = (
    Row(
        "`fake_quantize`, int8, a scale a row, `out=`",
        XEON,
        "torch's fake_quantize per channel, out=",
    ),
    Row(
        "`fake_quantize`, int4 groups of 32, scales chosen",
        XEON,
        "torchao's choose_qparams + fake_quantize, int4 groups of 32, out=",
    ),
    Row("`fake_quantize`, mxfp8", XEON, "torchao's mxfp8 and back, out="),
    Row("`quantize` to nf4 codes", XEON, "bitsandbytes' quantize_4bit, nf4"),
    Row(
        "learned scales, forward and backward",
        XEON,
        "learned scale and zero point per channel, forward and backward",
    ),
    Row("`prune_mask`, 80 % of 4096x4096", EPYC, "prune_mask by sparsity, float32"),
    Row("`packed_linear`, int4, 1 row by [4096, 4096]", ZEN3, "int4: 1 x 4096 by [4096, 4096]"),
    Row(
        "`packed_linear`, 90 % pruned, 32 rows by [3072, 768]",
        EPYC,
        "32 x 768 by [3072, 768], 90% pruned",
    ),
    Row("MiniLM, 90 % pruned, 128 tokens", EPYC, MINILM),
    Row("the same, whole model compiled by DeepSparse", f"{EPYC}-deepsparse", MINILM),
    Row("`augment_images`, 64 photographs of 256x256", EPYC, "geometry and normalise, float32"),
    Row(
        "`fake_quantize`, int8, a scale a row, `out=`",
        H100,
        "torch's fake_quantize per channel, float32",
    ),
)


def best_peer(seconds: Mapping[str, float]) -> str:
    """The fastest contender but strop itself."""
    peers = [name for name in seconds if not name.startswith("strop") and name not in BOUNDS]
    return min(peers, key=lambda name: seconds[name])


def table(every: Mapping[str, Measured]) -> str:
    """The table, from results by the names of their files."""
    lines = ["| what | best peer | strop | ratio | on |", "|---|---:|---:|---:|---|"]
    for row in ROWS:
        measured = every[row.file]
        (result,) = (found for found in measured["results"] if found["name"] == row.case)
        seconds = result["seconds"]
        peer = best_peer(seconds)
        cells = [
            row.told,
            f"{peer} {present.duration(seconds[peer])}",
            present.duration(seconds["strop"]),
            f"**{seconds[peer] / seconds['strop']:.2g}x**",
            machine_of(measured),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
