"""The README's tables of the augment family, from what results files hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from strop._bench import present
from strop._bench.augment import cases as augment

Result = Mapping[str, object]
_HEAD = ["| case | strop | KiB beside | against | ratio |", "|---|---:|---:|---|---:|"]


def told(result: Result, seconds: float) -> str:
    """How fast a call is: images a second, or its duration where there are none."""
    count = result["images"]
    return f"{count / seconds:,.0f}" if count else present.duration(seconds)


def promised(result: Result, against: str) -> str:
    """What was promised against a contender, in brackets; nothing where nothing was."""
    found = [bar for bar in result["bars"] if bar["label"] == f"x {against}"]
    return f" <sub>({found[0]['limit']:g})</sub>" if found else ""


def of_another_kind(result: Result) -> Iterator[str]:
    """Promises that are no ratio of two times, in words."""
    for bar in result["bars"]:
        against = bar["label"].removeprefix("x ")
        if against not in result["seconds"] and bar["label"] != "KiB extra":
            yield f"{bar['figure']:.3g} {bar['label']} <sub>({bar['limit']:g})</sub>"


def rows(results: Sequence[Result]) -> str:
    """A row a case and contender, in images a second."""
    lines = [*_HEAD]
    for result in results:
        seconds = result["seconds"]
        extra = result["extra_kib"]
        first = f"{result['name']} | {told(result, seconds['strop'])}"
        first += f" | {'' if extra is None else extra}"
        for name, taken in seconds.items():
            if name not in ("strop", "strop, 2 threads"):
                ratio = f"{taken / seconds['strop']:.2f}x{promised(result, name)}"
                lines.append(f"| {first} | {name} {told(result, taken)} | {ratio} |")
                first = " |  | "
        for words in of_another_kind(result):
            lines.append(f"| {first} |  | {words} |")
            first = " |  | "
    return "\n".join(lines)


def table(measured: Mapping[str, object], where: str) -> str:
    """All cases of the family, and where they were measured."""
    return "\n".join(
        [
            rows([result for result in measured["results"] if result["family"] == "augment"]),
            "",
            f"{where}. Images a second where no unit is given: 64 photographs of 256x256, "
            "`out=` kept. In brackets what was promised; KiB beside is the memory that a call takes beside "
            "its tensors. Medians of processor time, calls that take turns in one process.",
        ]
    )


def page_table(measured: Mapping[str, object], where: str) -> str:
    """The whole pipeline by itself: a row a contender, the fastest first."""
    (whole,) = (result for result in measured["results"] if result["name"] == augment.WHOLE)
    lines = ["| | images a second | strop is |", "|---|---:|---:|"]
    for name, taken in sorted(whole["seconds"].items(), key=lambda item: item[1]):
        ratio = "" if name == "strop" else f"{taken / whole['seconds']['strop']:.1f}x as fast"
        lines.append(f"| {name} | {told(whole, taken)} | {ratio} |")
    return "\n".join([*lines, "", f"{where}."])


def torchvision_table(every: Sequence[tuple[Mapping[str, object], str]]) -> str:
    """The whole pipeline against everyone, a table a machine that was measured, and what each is."""
    if not every:
        return "Not yet measured: `make bench-torchvision` does so."
    parts = []
    for measured, where in every:
        kept = [result for result in measured["results"] if result["name"] == augment.WHOLE]
        versions = measured["machine"]["peers"]
        named = ", ".join(f"{name} {version}" for name, version in versions.items())
        parts += [rows(kept), f"{where}; {named}."]
    return "\n\n".join(parts)
