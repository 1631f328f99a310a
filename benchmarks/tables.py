"""Tables in Markdown, from what results files hold."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

from strop._bench import present
from strop._bench.linear import cases as masked
from strop._bench.linear import dense

Result = Mapping[str, object]
Measured = Mapping[str, object]

_HEAD = ["| case | strop | GB/s | KiB beside | against | ratio |", "|---|---:|---:|---:|---|---:|"]
_GPU_HEAD = [
    "| case | strop | GB/s | of a copy | against | ratio |",
    "|---|---:|---:|---:|---|---:|",
]
_SETS = {
    "avx2": "AVX2",
    "avx2_vnni": "AVX-VNNI",
    "avx512": "AVX-512",
    "avx512_vnni": "AVX-512 VNNI",
    "amx": "AMX",
    "neon": "NEON",
    "neon_dot": "NEON with dot product",
    "neon_i8mm": "NEON with i8mm",
    "baseline": "baseline",
}


def machine_of(measured: Measured) -> str:
    """A machine's name: its GPU, or its processor and instruction set."""
    machine = measured["machine"]
    if "gpu" in machine:
        return str(machine["gpu"])
    words = re.sub(r"\(\w+\)|@.*|\b(Processor|CPU)\b", "", str(machine["processor"]))
    return f"{' '.join(words.split())}, {_SETS[machine['isa']]}"


def where_of(measured: Measured) -> str:
    """What a table was measured with, in a line's beginning."""
    machine = measured["machine"]
    return f"One thread, torch {machine['torch']}, strop compiled by {machine['compiler']}"


def told(result: Result, seconds: float) -> str:
    """How fast a call is: images a second, or its duration where there are none."""
    count = result.get("images")
    return f"{count / seconds:,.0f} a second" if count else present.duration(seconds)


def limit(bar: Mapping[str, object]) -> str:
    """What was promised, in brackets."""
    return f" <sub>({bar['limit']:g}{'' if bar['kept'] else ', missed'})</sub>"


def best_dense(seconds: Mapping[str, float]) -> str:
    """The fastest dense layer of those that were measured."""
    return min((name for name in dense.LAYERS if name in seconds), key=seconds.__getitem__)


def promises(result: Result) -> tuple[dict[str, str], list[str]]:
    """By peer, the limit of a ratio that the table shows; and the other promises, in words."""
    ratios, others = {}, []
    seconds = result["seconds"]
    for bar in result["bars"]:
        peer = bar["label"].removeprefix("x ")
        if peer == "best dense":
            peer = best_dense(seconds)
        if peer in seconds and math.isclose(bar["figure"], seconds[peer] / seconds["strop"]):
            ratios[peer] = limit(bar)
        elif bar["label"] != "KiB extra" or not bar["kept"]:
            others.append(f"{bar['figure']:.3g} {bar['label']}{limit(bar)}")
    return ratios, others


def rows(results: Sequence[Result]) -> str:
    """A row for each case and peer."""
    lines = [*_HEAD]
    for result in results:
        seconds = result["seconds"]
        rate, extra = result.get("gb_per_s"), result.get("extra_kib")
        cells = [result["name"], told(result, seconds["strop"])]
        cells += [f"{rate:.1f}" if rate else "", "" if extra is None else str(extra)]
        ratios, others = promises(result)
        compared = [
            f"{name} {told(result, taken)} | {taken / seconds['strop']:.2f}x{ratios.get(name, '')}"
            for name, taken in seconds.items()
            if name != "strop" and "threads" not in name
        ]
        compared += [f" | {words}" for words in others]
        for against in compared or [" | "]:
            lines.append(f"| {' | '.join(cells)} | {against} |")
            cells = [""] * len(cells)
    return "\n".join(lines)


def dense_ratio(result: Result) -> str:
    """How many times as fast as the best dense layer, and whether that is the prepacked one."""
    seconds = result["seconds"]
    ratios, _ = promises(result)
    best = best_dense(seconds)
    mark = "p" if best == dense.PREPACKED else ""
    return f"{seconds[best] / seconds['strop']:.2g}{mark}{ratios.get(best, '')}"


def layer_rows(results: dict[str, Result]) -> str:
    """A row for each shape of a linear layer, a column for each sparsity. Removes what it shows."""
    heads = [f"{sparsity:.0%} pruned" for sparsity in masked.SPARSITIES]
    lines = [f"| x by weight | {' | '.join(heads)} |", f"|---|{'---:|' * len(heads)}"]
    for count, k, n in masked.SHAPES:
        cells = []
        for sparsity in masked.SPARSITIES:
            result = results.pop(masked.layer_name(count, k, n, sparsity), None)
            cells.append(dense_ratio(result) if result else "")
        lines.append(f"| {count} x {k} by [{n}, {k}] | {' | '.join(cells)} |")
    return "\n".join(lines)


def linear(results: Sequence[Result]) -> str:
    """Layers by shape and sparsity, then the other cases."""
    left = {result["name"]: result for result in results}
    return f"{layer_rows(left)}\n\n{rows(list(left.values()))}"


def gpu(measured: Measured) -> str:
    """A row for each case that was measured on a GPU, and what a copy reaches there."""
    lines = [*_GPU_HEAD]
    for result in measured["results"]:
        seconds = result["seconds"]
        ours = seconds["strop"]
        rate = f"{result['gb_per_s']:.0f}" if result["gb_per_s"] else ""
        share = f"{result['share_of_copy']:.0%}" if result["share_of_copy"] else ""
        peers = [(name, taken) for name, taken in seconds.items() if name != "strop"]
        against = " | "
        if peers:
            peer, theirs = peers[0]
            against = f"{peer} {present.duration(theirs)} | {theirs / ours:.2f}x"
        cells = [result["name"], present.duration(ours), rate, share, against]
        lines.append(f"| {' | '.join(cells)} |")
    machine = measured["machine"]
    return "\n".join(
        [
            *lines,
            "",
            f"torch {machine['torch']}, CUDA {machine['cuda']}; 8192x8192 unless said, cold L2, medians "
            f"of CUDA events. A copy moves {machine['copy_gb_per_s']:.0f} GB/s there.",
        ]
    )
