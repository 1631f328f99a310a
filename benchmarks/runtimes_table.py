"""Tables of whole models beside other runtimes, from what results files hold, and what is measured."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.tables import Measured, Result, where_of
from strop._bench import present
from strop._bench.linear import model as masked_model

# Batch of 128 tokens, sparsity. What is not pruned strop has in int8, its inputs in uint8.
MODELS = ((1, 0.0), (1, 0.8), (1, 0.9), (16, 0.0), (16, 0.8), (16, 0.9))

SPARSE, SPARSE_RATE = "OpenVINO, sparse weights", 0.7
BFLOAT16 = "OpenVINO, bfloat16"
PEERS = ("torch", "torch.compile", "ONNX Runtime", "OpenVINO", SPARSE, BFLOAT16)


def case_name(batch: int, sparsity: float) -> str:
    """The name of a case, which says where strop computes in codes."""
    name = masked_model.model_name(batch, sparsity)
    return name if sparsity else f"{name}, strop in int8"


def cell(seconds: Mapping[str, float], peer: str) -> str:
    """A peer's time, and how many times strop's that is; nothing if not measured."""
    if peer not in seconds:
        return ""
    return f"{present.duration(seconds[peer])}, {seconds[peer] / seconds['strop']:.2f}x"


def models_table(results: Mapping[str, Result]) -> str:
    """A row a batch and sparsity, a column a peer that was measured anywhere."""
    peers = [peer for peer in PEERS if any(peer in r["seconds"] for r in results.values())]
    lines = [f"| whole model | strop | {' | '.join(peers)} |", f"|---|---:|{'---:|' * len(peers)}"]
    for batch, sparsity in MODELS:
        name = case_name(batch, sparsity)
        if name in results:
            seconds = results[name]["seconds"]
            cells = [present.duration(seconds["strop"]), *(cell(seconds, peer) for peer in peers)]
            lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def where(measured: Measured) -> str:
    """Every program, and what the figures are."""
    told = [
        f"{where_of(measured)}, beside {measured['machine']['runtimes']}. Float32 unless said; torch.compile "
        "with frozen weights. The ratio is a peer's time over strop's: medians of processor time, two "
        "processes that take turns on one core."
    ]
    seen = {peer for result in measured["results"] for peer in result["seconds"]}
    if SPARSE in seen:
        told.append(
            f"Sparse weights are those with `CPU_SPARSE_WEIGHTS_DECOMPRESSION_RATE` at {SPARSE_RATE:g}."
        )
    if BFLOAT16 in seen:
        told.append("In bfloat16 is how OpenVINO computes there if not told otherwise.")
    return " ".join(told)


def tables(measured: Measured) -> str:
    """Whole models, and where they were measured."""
    results = {result["name"]: result for result in measured["results"]}
    return f"{models_table(results)}\n\n{where(measured)}"
