"""Measures everything, writes results/<machine>.json, and from all results the tables and pictures of the docs.

``python -m benchmarks FAMILY`` measures one family anew, and leaves the others as the file has them.
``python -m benchmarks --tables`` measures nothing: it rewrites the tables from the results that are there.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path

from benchmarks.pages import DOCS, RESULTS, write
from strop._bench import measure, present, registry
from strop._bench.augment import picture as augment_picture
from strop._bench.linear import figures as masked_figures
from strop._bench.linear import picture as masked_picture

PICTURE = DOCS / "bench-quantize.png"
AUGMENT_PICTURE = DOCS / "bench-augment-speed.png"
MASKED_PICTURES = DOCS / "bench-masked-heatmap.png", DOCS / "bench-masked-roofline.png"


def machine_name(facts: dict[str, object]) -> str:
    """A file name for a machine: its processor and instruction set."""
    words = re.sub(r"\(.*?\)|@.*|processor|cpu", "", str(facts["processor"]), flags=re.I)
    return "-".join(re.findall(r"[a-z0-9]+", f"{words} {facts['isa']}".lower()))


def merged(path: Path, measured: dict[str, object], family: str | None) -> dict[str, object]:
    """A results file's content with one family's results anew, after those of the others."""
    if family is None or not path.exists():
        return measured
    kept = [r for r in json.loads(path.read_text())["results"] if r["family"] != family]
    return {**measured, "results": [*kept, *measured["results"]]}


def draw(family: str, results: list[measure.Result], path: Path) -> None:
    """A family's pictures, if it has some; the masked one's are measured for it, and kept beside ``path``."""
    if family == "quantize":
        present.plot([result for result in results if result.case.family == family], PICTURE)
    elif family == "augment":
        augment_picture.save(present.to_dict(results), AUGMENT_PICTURE)
    elif family == "masked":
        figures = masked_figures.measured()
        path.with_stem(f"{path.stem}-masked").write_text(json.dumps(figures, indent=2) + "\n")
        masked_picture.save(figures, *MASKED_PICTURES)


def measure_and_draw(family: str | None) -> Path:
    """Measures one family or all, into the machine's file, which it returns."""
    results = measure.measure_all(list(registry.cases(family)))
    measured = present.to_dict(results)
    path = RESULTS / f"{machine_name(measured['machine'])}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(merged(path, measured, family), indent=2) + "\n")
    present.show(results)
    for one in registry.families() if family is None else (family,):
        draw(one, results, path)
    return path


def main(arguments: list[str] | None = None) -> int:
    """Measures, draws, writes."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("family", nargs="?", choices=registry.families(), help="default: all")
    parser.add_argument("--tables", action="store_true", help="only rewrite the tables")
    options = parser.parse_args(arguments)
    if not options.tables:
        path = measure_and_draw(options.family)
        print(f"wrote {path}, and pictures to {DOCS}", file=sys.stderr)
    write()
    print(f"wrote the tables of README.md and {DOCS}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
