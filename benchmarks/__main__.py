"""Measures everything, writes results/<machine>.json and from it the README's table and picture."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from strop._bench import measure, present, registry

HERE = Path(__file__).parent
README = HERE.parent / "README.md"
PICTURE = HERE.parent / "docs" / "bench-quantize.png"


def machine_name(facts: dict[str, object]) -> str:
    """A file name for a machine: its processor and instruction set."""
    words = re.sub(r"\(.*?\)|@.*|processor|cpu", "", str(facts["processor"]), flags=re.I)
    return "-".join(re.findall(r"[a-z0-9]+", f"{words} {facts['isa']}".lower()))


def readme_table(measured: dict[str, object]) -> str:
    """The table of the README, from what a results file holds."""
    lines = ["| case | strop | GB/s | against | ratio |", "|---|---:|---:|---|---:|"]
    for result in measured["results"]:
        seconds = result["seconds"]
        ours = seconds["strop"]
        rate = f"{result['gb_per_s']:.1f}" if result["gb_per_s"] else ""
        name = result["name"]
        for peer, theirs in seconds.items():
            if peer != "strop" and "threads" not in peer:
                lines.append(
                    f"| {name} | {present.duration(ours)} | {rate} | "
                    f"{peer} {present.duration(theirs)} | {theirs / ours:.2f}x |"
                )
                name = rate = ""
    facts = measured["machine"]
    lines += [
        "",
        f"One thread of: {facts['processor']}, {facts['isa']}, torch {facts['torch']}; 4096x4096 "
        "unless said. The ratio is the peer's time over strop's: medians of calls that take turns "
        "in one process.",
    ]
    return "\n".join(lines)


def write_readme(table: str) -> None:
    """Puts the table between the README's two marks."""
    text = README.read_text()
    pattern = re.compile(r"(<!-- bench:begin -->\n).*?(<!-- bench:end -->)", re.S)
    if not pattern.search(text):
        raise SystemExit("README.md has no <!-- bench:begin --> and <!-- bench:end --> marks")
    README.write_text(pattern.sub(lambda m: f"{m[1]}{table}\n{m[2]}", text))


def main() -> int:
    """Measures, writes, prints."""
    results = measure.measure_all(list(registry.cases()))
    measured = present.to_dict(results)
    path = HERE / "results" / f"{machine_name(measured['machine'])}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(measured, indent=2) + "\n")
    present.show(results)
    present.plot(results, PICTURE)
    write_readme(readme_table(measured))
    print(f"wrote {path}, {PICTURE} and the table of {README}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
