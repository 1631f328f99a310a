"""Measures everything, writes results/<machine>.json and from it the README's tables and pictures.

``python -m benchmarks FAMILY`` measures one family anew, and leaves the others as the file has them.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path

from benchmarks import augment_table
from strop._bench import measure, present, registry
from strop._bench.augment import picture as augment_picture
from strop._bench.linear import cases as sparse
from strop._bench.linear import figures as sparse_figures
from strop._bench.linear import picture as sparse_picture

HERE = Path(__file__).parent
RESULTS = HERE / "results"
README = HERE.parent / "README.md"
DOCS = HERE.parent / "docs"
PICTURE = DOCS / "bench-quantize.png"
AUGMENT_PAGE = DOCS / "augmentation-on-cpu.md"
AUGMENT_PICTURE = DOCS / "bench-augment-speed.png"
SPARSE_PICTURES = DOCS / "bench-sparse-heatmap.png", DOCS / "bench-sparse-roofline.png"


def machine_name(facts: dict[str, object]) -> str:
    """A file name for a machine: its processor and instruction set."""
    words = re.sub(r"\(.*?\)|@.*|processor|cpu", "", str(facts["processor"]), flags=re.I)
    return "-".join(re.findall(r"[a-z0-9]+", f"{words} {facts['isa']}".lower()))


def rows_of(results: list[dict[str, object]]) -> str:
    """A table: a row a case and peer; where there is no peer, what was promised of the case."""
    lines = ["| case | strop | GB/s | against | ratio |", "|---|---:|---:|---|---:|"]
    for result in results:
        seconds = result["seconds"]
        ours = seconds["strop"]
        rate = f"{result['gb_per_s']:.1f}" if result["gb_per_s"] else ""
        name = result["name"]
        peers = [(p, t) for p, t in seconds.items() if p != "strop" and "threads" not in p]
        for peer, theirs in peers:
            lines.append(
                f"| {name} | {present.duration(ours)} | {rate} | "
                f"{peer} {present.duration(theirs)} | {theirs / ours:.2f}x |"
            )
            name = rate = ""
        if not peers:
            figures = ", ".join(f"{bar['figure']:.3g} {bar['label']}" for bar in result["bars"])
            lines.append(f"| {name} | {present.duration(ours)} | {rate} |  | {figures} |")
    return "\n".join(lines)


def where_of(measured: dict[str, object]) -> str:
    """The machine, in a line's beginning."""
    facts = measured["machine"]
    return f"One thread of: {facts['processor']}, {facts['isa']}, torch {facts['torch']}"


def readme_table(measured: dict[str, object]) -> str:
    """The README's table of the quantize family, from what a results file holds."""
    return "\n".join(
        [
            rows_of([r for r in measured["results"] if r["family"] == "quantize"]),
            "",
            f"{where_of(measured)}; 4096x4096 unless said. The ratio is the peer's time over strop's: "
            "medians of calls that take turns in one process.",
        ]
    )


def sparse_tables(measured: dict[str, object]) -> str:
    """The README's tables of pruned layers, a line a shape, and of what else there is about pruning."""
    rest = {r["name"]: r for r in measured["results"] if r["family"] in ("sparse", "prune")}
    heads = [f"{sparsity:.0%} pruned" for sparsity in sparse.SPARSITIES]
    lines = [f"| x by weight | {' | '.join(heads)} |", f"|---|{'---:|' * len(heads)}"]
    for (rows, k, n), promises in sparse.SHAPES.items():
        cells = []
        for sparsity, promised in zip(sparse.SPARSITIES, promises, strict=True):
            result = rest.pop(sparse.layer_name(rows, k, n, sparsity), None)
            seconds = result["seconds"] if result else {}
            ratio = seconds["torch dense"] / seconds["strop"] if seconds else float("nan")
            cells.append(f"{ratio:.2g} <sub>({promised:g})</sub>" if seconds else "")
        lines.append(f"| {rows} x {k} by [{n}, {k}] | {' | '.join(cells)} |")
    lines += [
        "",
        f"{where_of(measured)}. How many times as fast as torch's dense layer, and in brackets what "
        "was promised: medians of calls that take turns in one process.",
        "",
        rows_of(list(rest.values())),
    ]
    return "\n".join(lines)


def gpu_tables(measured: list[dict[str, object]]) -> str:
    """The README's tables of GPUs, from what their results files hold."""
    if not measured:
        return "Not yet measured: `make gpu` does so on a machine that has one."
    parts = []
    for found in measured:
        where = found["machine"]
        lines = [
            "| case | strop | GB/s | of a copy | against | ratio |",
            "|---|---:|---:|---:|---|---:|",
        ]
        for result in found["results"]:
            seconds = result["seconds"]
            ours = seconds["strop"]
            peers = [(name, t) for name, t in seconds.items() if name != "strop"] or [("", 0.0)]
            rate = f"{result['gb_per_s']:.0f}" if result["gb_per_s"] else ""
            share = f"{result['share_of_copy']:.0%}" if result["share_of_copy"] else ""
            peer, theirs = peers[0]
            against = f"{peer} {present.duration(theirs)} | {theirs / ours:.2f}x" if peer else " | "
            lines.append(
                f"| {result['name']} | {present.duration(ours)} | {rate} | {share} | {against} |"
            )
        lines += [
            "",
            f"{where['gpu']}, torch {where['torch']}, CUDA {where['cuda']}; 8192x8192 unless said, cold "
            f"L2, medians of CUDA events. A copy moves {where['copy_gb_per_s']:.0f} GB/s there.",
        ]
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def write_readme(mark: str, table: str, path: Path | None = None) -> None:
    """Puts a table between two marks, of the README unless another page is named."""
    path = path or README
    text = path.read_text()
    pattern = re.compile(rf"(<!-- {mark}:begin -->\n).*?(<!-- {mark}:end -->)", re.S)
    if not pattern.search(text):
        raise SystemExit(f"{path.name} has no <!-- {mark}:begin --> and <!-- {mark}:end --> marks")
    path.write_text(pattern.sub(lambda m: f"{m[1]}{table}\n{m[2]}", text))


def gpu_results() -> list[dict[str, object]]:
    """What was measured on GPUs, by their names."""
    found = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))]
    return [measured for measured in found if "gpu" in measured["machine"]]


def merged(path: Path, measured: dict[str, object], family: str | None) -> dict[str, object]:
    """A results file's content with one family's results anew, after those of the others."""
    if family is None or not path.exists():
        return measured
    kept = [r for r in json.loads(path.read_text())["results"] if r["family"] != family]
    return {**measured, "results": [*kept, *measured["results"]]}


def present_family(family: str, measured: dict[str, object], path: Path) -> None:
    """A family's pictures, and its part of the README."""
    if family == "quantize":
        write_readme("bench", readme_table(measured))
    elif family == "augment":
        augment_picture.save(measured, AUGMENT_PICTURE)
        where = where_of(measured)
        write_readme("augment", augment_table.table(measured, where))
        write_readme("augmentation", augment_table.page_table(measured, where), AUGMENT_PAGE)
    else:
        figures = sparse_figures.measured()
        path.with_stem(f"{path.stem}-sparse").write_text(json.dumps(figures, indent=2) + "\n")
        sparse_picture.save(figures, *SPARSE_PICTURES)
        write_readme("sparse", sparse_tables(measured))


def main(arguments: list[str] | None = None) -> int:
    """Measures, writes, prints."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("family", nargs="?", choices=registry.families(), help="default: all")
    family = parser.parse_args(arguments).family
    results = measure.measure_all(list(registry.cases(family)))
    measured = present.to_dict(results)
    path = RESULTS / f"{machine_name(measured['machine'])}.json"
    path.parent.mkdir(exist_ok=True)
    measured = merged(path, measured, family)
    path.write_text(json.dumps(measured, indent=2) + "\n")
    present.show(results)
    if family in (None, "quantize"):
        present.plot([r for r in results if r.case.family == "quantize"], PICTURE)
    for one in registry.families() if family is None else (family,):
        present_family(one, measured, path)
    write_readme("gpu", gpu_tables(gpu_results()))
    print(f"wrote {path}, pictures to {DOCS}, tables to {README}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
