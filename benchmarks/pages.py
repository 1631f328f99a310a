"""Writes the tables of README.md and docs/benchmarks.md, between marks, from what results/ holds.

A place for a table is ``<!-- mark:begin -->`` and ``<!-- mark:end -->``, each on a line of its own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks import deepsparse_table, headline, runtimes_table, tables
from benchmarks.tables import Measured, Result
from strop._bench.augment import cases as augment

HERE = Path(__file__).parent
RESULTS = HERE / "results"
README = HERE.parent / "README.md"
DOCS = HERE.parent / "docs"
PAGE = DOCS / "benchmarks.md"

# Cases of the masked family that measure pruning itself.
PRUNING = ("prune_mask", "soft_threshold", "pack_mask", "unpack_mask")


def load(folder: Path | None = None) -> dict[str, Measured]:
    """What every results file holds, by its name. (Those of pictures alone have no results.)"""
    every = {p.stem: json.loads(p.read_text()) for p in sorted((folder or RESULTS).glob("*.json"))}
    return {name: measured for name, measured in every.items() if "results" in measured}


def of_family(measured: Measured, family: str) -> list[Result]:
    """A CPU's results of a family; those of pruning are a family of their own here."""
    if "gpu" in measured["machine"]:
        return []
    pruning = {id(r) for r in measured["results"] if r["name"].startswith(PRUNING)}
    if family == "prune":
        return [r for r in measured["results"] if id(r) in pruning]
    return [r for r in measured["results"] if r["family"] == family and id(r) not in pruning]


def sections(
    family: str,
    every: Mapping[str, Measured],
    table: Callable[[Sequence[Result]], str] = tables.rows,
    title: str | None = None,
) -> str:
    """A section for each machine that a family was measured on."""
    parts = []
    for name, measured in every.items():
        results = of_family(measured, family)
        if results and not name.endswith("-torchvision"):
            parts.append(f"### {title or family.title()} on {tables.machine_of(measured)}")
            parts += [table(results), f"{tables.where_of(measured)}."]
    return "\n\n".join(parts)


def beside_torchvision(every: Mapping[str, Measured]) -> str:
    """The whole pipeline of augmentation, and the versions of what it ran against."""
    parts = []
    for name, measured in every.items():
        if name.endswith("-torchvision"):
            kept = [result for result in measured["results"] if result["name"] == augment.WHOLE]
            versions = measured["machine"]["peers"]
            named = ", ".join(f"{peer} {version}" for peer, version in versions.items())
            parts.append(f"### Augment beside torchvision on {tables.machine_of(measured)}")
            parts += [tables.rows(kept), f"{tables.where_of(measured)}; {named}."]
    return "\n\n".join(parts) or "Not yet measured: `make bench-torchvision` does so."


def beside_deepsparse(every: Mapping[str, Measured]) -> str:
    """Linear layers and MiniLM, on each machine that they were measured on."""
    return _beside("deepsparse", "DeepSparse", every, deepsparse_table.tables)


def beside_runtimes(every: Mapping[str, Measured]) -> str:
    """MiniLM in runtimes of whole models, on each machine that it was measured on."""
    return _beside("runtimes", "other runtimes", every, runtimes_table.tables)


def _beside(
    peer: str, called: str, every: Mapping[str, Measured], table: Callable[[Measured], str]
) -> str:
    parts = []
    for name, measured in every.items():
        if name.endswith(f"-{peer}"):
            parts.append(f"### Linear beside {called} on {tables.machine_of(measured)}")
            parts.append(table(measured))
    return "\n\n".join(parts) or f"Not yet measured: `make bench-{peer}` does so."


def gpus(every: Mapping[str, Measured]) -> str:
    """A section for each GPU."""
    parts = []
    for measured in every.values():
        if "gpu" in measured["machine"]:
            parts += [f"### Kernels on {tables.machine_of(measured)}", tables.gpu(measured)]
    return "\n\n".join(parts) or "Not yet measured: `make gpu` does so on a machine that has one."


def contents(every: Mapping[str, Measured]) -> Iterator[tuple[Path, str, str]]:
    """Page, mark and table of every place."""
    yield README, "headline", headline.table(every)
    yield PAGE, "quantize", sections("quantize", every)
    yield PAGE, "prune", sections("prune", every)
    yield PAGE, "linear", sections("masked", every, tables.linear, "Linear")
    yield PAGE, "codes", sections("linear", every, title="Weights in codes")
    yield PAGE, "deepsparse", beside_deepsparse(every)
    yield PAGE, "runtimes", beside_runtimes(every)
    yield PAGE, "augment", sections("augment", every)
    yield PAGE, "torchvision", beside_torchvision(every)
    yield PAGE, "gpu", gpus(every)


def replaced(text: str, mark: str, table: str) -> str:
    """A page's text with another table between its marks."""
    pattern = re.compile(rf"(<!-- {mark}:begin -->\n).*?(<!-- {mark}:end -->)", re.S)
    if not pattern.search(text):
        raise SystemExit(f"no place <!-- {mark}:begin --> ... <!-- {mark}:end --> for a table")
    return pattern.sub(lambda marks: f"{marks[1]}{table}\n{marks[2]}", text)


def rewritten(every: Mapping[str, Measured]) -> dict[Path, str]:
    """Every page's text with its tables as the results say."""
    texts: dict[Path, str] = {}
    for page, mark, table in contents(every):
        texts[page] = replaced(texts.get(page) or page.read_text(), mark, table)
    return texts


def write() -> None:
    """Rewrites the tables of every page."""
    for page, text in rewritten(load()).items():
        page.write_text(text)
