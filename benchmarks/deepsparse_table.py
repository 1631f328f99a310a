"""The README's tables against DeepSparse, from what results files hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.__main__ import where_of
from strop._bench import present
from strop._bench.linear import cases as sparse
from strop._bench.linear import model as sparse_model

Results = Mapping[str, Mapping[str, object]]
Layers = Mapping[tuple[int, int, int], Sequence[float]]
Models = Mapping[tuple[int, float], float]

ENDED = "DeepSparse ended in June 2025; its licence allows evaluation alone"


def cell(results: Results, name: str, promised: float) -> str:
    """DeepSparse's time over strop's, and in brackets what was promised; nothing if not measured."""
    if name not in results:
        return ""
    seconds = results[name]["seconds"]
    told = f"{seconds['DeepSparse'] / seconds['strop']:.2f}"
    return f"{told} <sub>({promised:g})</sub>" if promised else told


def layers_table(results: Results, layers: Layers) -> str:
    """A row a layer's shape, a column a sparsity."""
    heads = [f"{sparsity:.0%} pruned" for sparsity in sparse.SPARSITIES]
    lines = [f"| x by weight | {' | '.join(heads)} |", f"|---|{'---:|' * len(heads)}"]
    for (rows, k, n), promises in layers.items():
        pairs = zip(sparse.SPARSITIES, promises, strict=True)
        cells = [cell(results, sparse.layer_name(rows, k, n, s), p) for s, p in pairs]
        lines.append(f"| {rows} x {k} by [{n}, {k}] | {' | '.join(cells)} |")
    return "\n".join(lines)


def models_table(results: Results, models: Models) -> str:
    """A row a batch and sparsity of the whole model, with everyone's times."""
    lines = [
        "| whole model | strop | torch dense | DeepSparse | ratio |",
        "|---|---:|---:|---:|---:|",
    ]
    for (batch, sparsity), promised in models.items():
        name = sparse_model.model_name(batch, sparsity)
        if name not in results:
            continue
        seconds = results[name]["seconds"]
        times = [present.duration(seconds[who]) for who in ("strop", "torch dense", "DeepSparse")]
        lines.append(f"| {name} | {' | '.join(times)} | {cell(results, name, promised)} |")
    return "\n".join(lines)


def where(measured: Mapping[str, object]) -> str:
    """The machine, and what the figures are."""
    machine = measured["machine"]
    return (
        f"{where_of(measured)}, against DeepSparse {machine['deepsparse']} "
        f"({machine['deepsparse isa']}). The ratio is DeepSparse's time over strop's, in brackets what was "
        "promised: medians of processor time, two processes that take turns on one core."
    )


def results_of(measured: Mapping[str, object]) -> Results:
    """Its results by their names."""
    return {result["name"]: result for result in measured["results"]}


def tables(every: Sequence[Mapping[str, object]], layers: Layers, models: Models) -> str:
    """The README's: both tables of each machine that was measured."""
    parts = []
    for measured in every:
        results = results_of(measured)
        parts += [layers_table(results, layers), models_table(results, models), where(measured)]
    return "\n\n".join([*parts, f"{ENDED}."])


def models_tables(every: Sequence[Mapping[str, object]], models: Models) -> str:
    """Those of whole models alone."""
    parts = []
    for measured in every:
        parts += [models_table(results_of(measured), models), where(measured)]
    return "\n\n".join([*parts, f"{ENDED}."])
