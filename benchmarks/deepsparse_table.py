"""Tables against DeepSparse, from what results files hold, and what was promised."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.tables import Measured, Result, promises, where_of
from strop._bench import present
from strop._bench.linear import cases as masked
from strop._bench.linear import model as masked_model

Results = Mapping[str, Result]

# Rows, K, N: what is promised over DeepSparse at 50, 70, 80, 90 and 95 %; 0 where nothing is.
LAYERS = {
    (1, 768, 3072): (0, 0, 0, 0, 0),
    (1, 4096, 4096): (0, 0, 2.5, 5, 0),
    (16, 4096, 4096): (0, 0, 8, 8, 8),
    (128, 768, 3072): (1.6, 1.6, 1.6, 1.6, 1.6),
    (1024, 768, 3072): (1.6, 1.6, 1.6, 1.6, 1.6),
    (128, 4096, 4096): (0, 0, 0, 0, 0),
}
# Batch of 128 tokens, sparsity: the same.
MODELS = {(1, 0.0): 0, (1, 0.8): 0, (1, 0.9): 0.85, (16, 0.0): 0, (16, 0.8): 0, (16, 0.9): 0.95}


def cell(results: Results, name: str) -> str:
    """DeepSparse's time over strop's, and in brackets what was promised; nothing if not measured."""
    if name not in results:
        return ""
    seconds = results[name]["seconds"]
    ratios, _ = promises(results[name])
    return f"{seconds['DeepSparse'] / seconds['strop']:.2f}{ratios.get('DeepSparse', '')}"


def layers_table(results: Results) -> str:
    """A row a layer's shape, a column a sparsity."""
    heads = [f"{sparsity:.0%} pruned" for sparsity in masked.SPARSITIES]
    lines = [f"| x by weight | {' | '.join(heads)} |", f"|---|{'---:|' * len(heads)}"]
    for rows, k, n in LAYERS:
        cells = [cell(results, masked.layer_name(rows, k, n, s)) for s in masked.SPARSITIES]
        lines.append(f"| {rows} x {k} by [{n}, {k}] | {' | '.join(cells)} |")
    return "\n".join(lines)


def models_table(results: Results) -> str:
    """A row a batch and sparsity of the whole model, with everyone's times."""
    lines = [
        "| whole model | strop | torch dense | DeepSparse | ratio |",
        "|---|---:|---:|---:|---:|",
    ]
    for batch, sparsity in MODELS:
        name = masked_model.model_name(batch, sparsity)
        if name not in results:
            continue
        seconds = results[name]["seconds"]
        times = [present.duration(seconds[who]) for who in ("strop", "torch dense", "DeepSparse")]
        lines.append(f"| {name} | {' | '.join(times)} | {cell(results, name)} |")
    return "\n".join(lines)


def where(measured: Measured) -> str:
    """Both programs, and what the figures are."""
    machine = measured["machine"]
    return (
        f"{where_of(measured)}, against DeepSparse {machine['deepsparse']} "
        f"({machine['deepsparse isa']}). The ratio is DeepSparse's time over strop's: medians of processor "
        "time, two processes that take turns on one core."
    )


def tables(measured: Measured) -> str:
    """Layers, then whole models."""
    results = {result["name"]: result for result in measured["results"]}
    return "\n\n".join([layers_table(results), models_table(results), where(measured)])
