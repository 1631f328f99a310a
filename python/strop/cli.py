"""The command ``strop``: ``strop doctor`` and ``strop bench``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from strop import __version__, _doctor
from strop._bench import measure, present, registry


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
    checks = Table("op", "instruction set", "against the oracle")
    for check in diagnosis.checks:
        verdict = "[green]equal to the bit[/]" if check.passed else f"[red]{check.detail}[/]"
        checks.add_row(check.op, check.isa, verdict)
    console.print(checks)
    return 0 if diagnosis.healthy else 1


def _bench_command(options: argparse.Namespace) -> int:
    cases = [c for c in registry.cases(options.family) if options.only in c.name]
    if not cases:
        print(
            f"strop bench: no case of the family has {options.only!r} in its name", file=sys.stderr
        )
        return 2
    results = measure.measure_all(cases)
    if options.json:
        print(json.dumps(present.to_dict(results), indent=2))
    else:
        present.show(results)
    if options.plot is not None:
        path = options.plot / f"bench-{options.family or 'all'}.png"
        try:
            present.plot(results, path)
        except ImportError as error:
            print(f"strop bench: --plot needs matplotlib: {error}", file=sys.stderr)
            return 1
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
    bench = commands.add_parser("bench", help="measure the ops against the peers installed here")
    bench.add_argument("family", nargs="?", choices=registry.families(), help="default: all")
    bench.add_argument("--only", default="", metavar="TEXT", help="cases with this in their name")
    bench.add_argument("--json", action="store_true", help="print JSON instead of a table")
    bench.add_argument("--plot", type=Path, metavar="DIR", help="save a picture in this folder")
    bench.set_defaults(run=_bench_command)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; 2 is the exit status of bad usage."""
    options = _parser().parse_args(arguments)
    status: int = options.run(options)
    return status


if __name__ == "__main__":
    sys.exit(main())
