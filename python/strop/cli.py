"""The command ``strop``: ``strop doctor``, ``strop bench`` and ``strop tune``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from strop import __version__, _doctor
from strop._bench import gpu, measure, present, registry
from strop._bench.augment import picture as augment_picture
from strop._bench.linear import figures as masked_figures
from strop._bench.linear import picture as masked_picture
from strop._linear.tune import tune


def _doctor_command(options: argparse.Namespace) -> int:
    diagnosis = _doctor.diagnose()
    if options.json:
        print(json.dumps(diagnosis.to_dict(), indent=2))
        return 0 if diagnosis.healthy else 1
    console = Console(width=None if sys.stdout.isatty() else 120)
    facts = Table(show_header=False, box=None)
    for name, value in diagnosis.facts.items():
        facts.add_row(f"[bold]{name}[/]", value)
    console.print(facts)
    checks = Table("op", "on", "against the oracle")
    for check in diagnosis.checks:
        verdict = f"[green]{check.agreement}[/]" if check.passed else f"[red]{check.detail}[/]"
        checks.add_row(check.op, check.isa, verdict)
    console.print(checks)
    return 0 if diagnosis.healthy else 1


def _gpu_bench_command(options: argparse.Namespace) -> int:
    if not torch.cuda.is_available():
        print("strop bench: --device cuda: torch sees no CUDA device here", file=sys.stderr)
        return 1
    if options.plot is not None:
        print("strop bench: --plot is for the CPU's cases", file=sys.stderr)
        return 2
    cases = [c for c in registry.gpu_cases(options.family) if options.only in c.name]
    if not cases:
        return _no_case(options)
    measured = gpu.measure_all(cases)
    _save(options, measured)
    if options.json:
        print(json.dumps(measured, indent=2))
    else:
        Console(width=None if sys.stdout.isatty() else 120).print(present.gpu_table(measured))
    return 0


def _tune_command(options: argparse.Namespace) -> int:
    report = tune(force=options.force)
    print(json.dumps(report.to_dict(), indent=2) if options.json else report)
    return 0


def _no_case(options: argparse.Namespace) -> int:
    print(f"strop bench: no case of the family has {options.only!r} in its name", file=sys.stderr)
    return 2


def _save(options: argparse.Namespace, measured: dict[str, Any]) -> None:
    if options.save is not None:
        options.save.parent.mkdir(parents=True, exist_ok=True)
        options.save.write_text(json.dumps(measured, indent=2) + "\n")


def _bench_command(options: argparse.Namespace) -> int:
    if options.device == "cuda":
        return _gpu_bench_command(options)
    cases = [c for c in registry.cases(options.family) if options.only in c.name]
    if not cases:
        return _no_case(options)
    results = measure.measure_all(cases)
    _save(options, present.to_dict(results))
    if options.json:
        print(json.dumps(present.to_dict(results), indent=2))
    else:
        present.show(results)
    return 0 if options.plot is None else _draw(options, results)


def _draw(options: argparse.Namespace, results: Sequence[measure.Result]) -> int:
    """The bars of every case; of a whole family what it has besides, the masked one's measured for it."""
    paths = [options.plot / f"bench-{options.family or 'all'}.png"]
    try:
        present.plot(results, paths[0])
        if options.family == "masked" and not options.only:
            paths += [options.plot / f"bench-masked-{name}.png" for name in ("heatmap", "roofline")]
            masked_picture.save(masked_figures.measured(), *paths[1:])
        if options.family == "augment" and not options.only:
            paths.append(options.plot / "bench-augment-speed.png")
            augment_picture.save(present.to_dict(results), paths[-1])
    except ImportError as error:
        print(f"strop bench: --plot needs matplotlib: {error}", file=sys.stderr)
        return 1
    for path in paths:
        print(f"plot: {path}", file=sys.stderr)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="strop", description="Sharpens torch models.")
    parser.add_argument("--version", action="version", version=f"strop {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    doctor = commands.add_parser(
        "doctor", help="check this installation; exit status 1 if something is wrong"
    )
    doctor.add_argument("--json", action="store_true", help="print JSON")
    doctor.set_defaults(run=_doctor_command)
    tuning = commands.add_parser(
        "tune", help="measure what this machine's masked layers cost, which plans go by"
    )
    tuning.add_argument("--force", action="store_true", help="measure again what is known")
    tuning.add_argument("--json", action="store_true", help="print JSON")
    tuning.set_defaults(run=_tune_command)
    bench = commands.add_parser("bench", help="measure the ops against the peers installed here")
    bench.add_argument("family", nargs="?", choices=registry.families(), help="default: all")
    bench.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="default: cpu")
    bench.add_argument("--only", default="", metavar="TEXT", help="cases with this in their name")
    bench.add_argument("--json", action="store_true", help="print JSON instead of a table")
    bench.add_argument("--save", type=Path, metavar="FILE", help="write the results there as JSON")
    bench.add_argument("--plot", type=Path, metavar="DIR", help="save pictures in this folder")
    bench.set_defaults(run=_bench_command)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; 2 is the exit status of bad usage."""
    options = _parser().parse_args(arguments)
    status: int = options.run(options)
    return status


if __name__ == "__main__":
    sys.exit(main())
