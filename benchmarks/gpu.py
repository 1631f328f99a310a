"""Checks and measures the CUDA kernels on this machine's GPU: what ``make gpu`` runs.

Builds strop for that GPU into build/gpu, on all cores, then runs the doctor, the tests on the device
cuda family by family, the benchmarks, and the sanitizers of the toolkit on a short test of every kernel.
What has run on the fewest GPUs comes first, for everything together ends after SECONDS. Needs no network
and nothing that is not installed; what it has to leave out it says, with the reason.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table

ROOT = Path(__file__).parent.parent
BUILD = ROOT / "build" / "gpu"
STAGE = BUILD / "stage"
SECONDS = 440  # for everything
_LEAST_SECONDS = 1
SANITIZERS = ("memcheck", "racecheck", "initcheck", "synccheck")


class Family(NamedTuple):
    """What there is of a family: files of tests, by pattern, and benchmarks, by their name."""

    tests: tuple[str, ...]
    benchmarks: str


FAMILIES = {
    "prune": Family(("prune/test_*.py",), "masked"),
    "masked": Family(("linear/test_*.py", "nn/test_*.py"), "masked"),
    "augment": Family(("augment/test_*.py",), "augment"),
    "quantize": Family(("quantize/test_*.py",), "quantize"),
}
"""In the order in which they are checked and measured."""


@dataclass(frozen=True)
class Outcome:
    """What became of a step: ``passed``, ``failed`` or ``skipped``."""

    step: str
    state: str
    seconds: float
    detail: str = ""


class Runner:
    """Runs steps one by one, each with a time limit, all within one, their output in a log."""

    def __init__(self, logs: Path, budget: int = SECONDS) -> None:
        self.outcomes: list[Outcome] = []
        self.log = logs / "steps.log"
        self.log.write_text("")
        self.end = time.monotonic() + budget
        # Tools that came as Python packages lie beside the interpreter.
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self.environment = os.environ | {
            "PATH": path,
            "PYTHONPATH": os.pathsep.join(
                [str(STAGE), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
            ),
        }

    def skip(self, step: str, reason: str) -> None:
        """Notes a step that cannot be run."""
        self.outcomes.append(Outcome(step, "skipped", 0.0, reason))

    def run(self, step: str, limit: int, *commands: Sequence[str], **environment: str) -> bool:
        """Runs commands until one fails; whether all passed."""
        begin = time.monotonic()
        limit = min(limit, int(self.end - begin))
        if limit < _LEAST_SECONDS:
            self.skip(step, "no time is left for it")
            return False
        print(f"gpu: {step}", file=sys.stderr)
        before = self.log.stat().st_size
        status: int | str = 0
        with self.log.open("a") as output:
            for command in commands:
                left = limit - (time.monotonic() - begin)
                status = _status(command, left, output, self.environment | environment)
                if status != 0:
                    break
        seconds = time.monotonic() - begin
        text = self.log.read_bytes()[before:].decode(errors="replace")
        status = status or _complaint(step, text)
        detail = _summary(step, text) if status or _is_tests(step) else ""
        if status:
            detail = f"{status}: {detail} (see {self.log})"
        self.outcomes.append(Outcome(step, "failed" if status else "passed", seconds, detail))
        return not status


def _is_tests(step: str) -> bool:
    """Whether pytest runs a step."""
    return step in SANITIZERS or step.startswith("tests")


def _complaint(step: str, text: str) -> str:
    """What a step whose commands passed still lacks."""
    if _is_tests(step) and not re.search(r"\b[1-9]\d* passed\b", text):
        return "no test passed"
    if step in SANITIZERS and not re.search(r"SUMMARY: 0 (errors|hazards)", text):
        return "the sanitizer says nothing"
    return ""


def _summary(step: str, text: str) -> str:
    """The line that says how a step went."""
    lines = [line.strip(" =") for line in text.splitlines()]
    wanted = "SUMMARY:" if step in SANITIZERS else " passed" if _is_tests(step) else ""
    told = [line for line in lines if line]
    return next((line for line in reversed(told) if wanted in line), (told or [""])[-1])[:160]


def _status(
    command: Sequence[str], limit: float, output: object, environment: dict[str, str]
) -> int | str:
    # In a session of its own: what a command started ends with it.
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=output,  # type: ignore[arg-type]
        stderr=subprocess.STDOUT,
        env=environment,
        start_new_session=True,
    )
    try:
        process.wait(max(limit, 1.0))
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return "out of time"
    return process.returncode and f"exit status {process.returncode}"


def build(runner: Runner, limit: int = 240) -> bool:
    """For this GPU alone, on all cores; everything is installed under build/gpu/stage."""
    major, minor = torch.cuda.get_device_capability()
    pybind11 = subprocess.run(
        [sys.executable, "-m", "pybind11", "--cmakedir"], capture_output=True, text=True, check=True
    ).stdout.strip()
    shutil.rmtree(STAGE, ignore_errors=True)
    configure = [
        "cmake",
        *("-S", str(ROOT), "-B", str(BUILD), "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release"),
        *("-DSTROP_CUDA=ON", f"-DSTROP_CUDA_ARCHITECTURES={major}{minor}-real"),
        *(f"-DPython_EXECUTABLE={sys.executable}", f"-Dpybind11_DIR={pybind11}"),
        # With lines, for the sanitizers. One file of twelve takes a third of nvcc's time, so that its
        # kernels are assembled on all cores as well.
        *("-DCMAKE_CUDA_FLAGS=-lineinfo --split-compile=0", "-DSKBUILD_PROJECT_VERSION=gpu"),
    ]
    if not runner.run(
        "build",
        limit,
        configure,
        ["cmake", "--build", str(BUILD), "--parallel", str(os.cpu_count())],
        ["cmake", "--install", str(BUILD), "--prefix", str(STAGE)],
    ):
        return False
    shutil.copytree(ROOT / "python" / "strop", STAGE / "strop", dirs_exist_ok=True)
    return True


# (the usual options name a plugin that may not be there)
PYTEST = [
    sys.executable,
    "-m",
    "pytest",
    "-q",
    "-o",
    "addopts=--import-mode=importlib -ra",
    "-p",
    "no:cacheprovider",
]


def _files(families: Sequence[str]) -> list[str]:
    """The families' files of tests."""
    patterns = [pattern for family in families for pattern in FAMILIES[family].tests]
    return [str(path) for pattern in patterns for path in sorted((ROOT / "tests").glob(pattern))]


def check(runner: Runner, families: Sequence[str]) -> None:
    """The doctor; the tests of these families, and of no family where these are all."""
    runner.run("doctor", 60, [sys.executable, "-m", "strop.cli", "doctor"])
    tests = [*PYTEST, "-m", "cuda"]
    workers = ["-n", str(min(os.cpu_count() or 1, 8))] if importlib.util.find_spec("xdist") else []
    for family in families:
        runner.run(f"tests of {family}", 90, [*tests, *workers, *_files([family])])
    if set(families) == set(FAMILIES):
        # (test_rooms.py has no test of a device, and needs more packages)
        others = [f"--ignore={path}" for path in ("tests/core/test_rooms.py", *_files(families))]
        runner.run("tests of the rest", 60, [*tests, *others, "tests"])


def sanitize(runner: Runner, families: Sequence[str]) -> None:
    """The toolkit's sanitizers, on a short test of every kernel."""
    sanitizer = shutil.which("compute-sanitizer") or shutil.which(
        "compute-sanitizer", path="/usr/local/cuda/bin"
    )
    files = [path for path in _files(families) if path.endswith("_cuda.py")]
    short = [*PYTEST, *files, "-k", "every_kernel"]
    for tool in SANITIZERS:
        if sanitizer is None:
            runner.skip(tool, "compute-sanitizer is not on the PATH, nor in /usr/local/cuda/bin")
            continue
        if not files:
            runner.skip(tool, "these families have no test of every kernel")
            continue
        # Python's own packages ask the driver for functions that it may not have: no error.
        options = ["--report-api-errors", "no", "--launch-timeout", "120", "--error-exitcode", "9"]
        command = [sanitizer, "--tool", tool, *options, *short]
        # Its own block for every tensor: an overrun meets no neighbour in the allocator's pool.
        runner.run(tool, 90, command, PYTORCH_NO_CUDA_MEMORY_CACHING="1")


def bench(runner: Runner, families: Sequence[str]) -> dict[str, Any] | None:
    """The benchmarks of the families that ran to their end, as JSON; None where none did."""
    found: dict[str, Any] | None = None
    for name in dict.fromkeys(FAMILIES[family].benchmarks for family in families):
        saved = BUILD / f"benchmarks-{name}.json"
        command = ["bench", name, "--device", "cuda", "--save", str(saved)]
        if runner.run(f"benchmarks of {name}", 90, [sys.executable, "-m", "strop.cli", *command]):
            measured = json.loads(saved.read_text())
            before = [] if found is None else found["results"]
            found = measured | {"results": [*before, *measured["results"]]}
    return found


def show(outcomes: Sequence[Outcome], console: Console) -> None:
    """Prints a row a step."""
    table = Table(
        "step", "", "seconds", "", title=torch.cuda.get_device_name(), title_justify="left"
    )
    colours = {"passed": "green", "failed": "red", "skipped": "yellow"}
    for outcome in outcomes:
        colour = colours[outcome.state]
        state = f"[{colour}]{outcome.state}[/]"
        table.add_row(outcome.step, state, f"{outcome.seconds:.0f}", escape(outcome.detail))
    console.print(table)


def slug(name: str) -> str:
    """A file name for a GPU."""
    return "-".join(re.findall(r"[a-z0-9]+", name.lower()))


def _families(names: str) -> list[str]:
    """Families named with commas between; of none all."""
    chosen = [name for name in FAMILIES if not names or name in names.split(",")]
    if unknown := set(filter(None, names.split(","))) - set(chosen):
        known = ", ".join(FAMILIES)
        raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))}: known are {known}")
    return chosen


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 1 where a step failed, 2 where there is no GPU."""
    parser = argparse.ArgumentParser(prog="make gpu", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out"), help="where results and logs go")
    parser.add_argument(
        "--family", type=_families, default="", metavar="A,B", help="some of them; default: all"
    )
    options = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        print("make gpu: torch sees no CUDA device here", file=sys.stderr)
        return 2
    options.out.mkdir(parents=True, exist_ok=True)
    runner = Runner(options.out)
    found = None
    if build(runner):
        check(runner, options.family)
        found = bench(runner, options.family)
        sanitize(runner, options.family)
    console = Console(width=None if sys.stdout.isatty() else 150)
    if found is not None:
        path = options.out / f"{slug(torch.cuda.get_device_name())}.json"
        steps = [asdict(outcome) for outcome in runner.outcomes]
        path.write_text(json.dumps(found | {"steps": steps}, indent=2) + "\n")
        sys.path.insert(0, str(STAGE))
        from strop._bench import present

        console.print(present.gpu_table(found))
        console.print(
            f"written to {path}; in benchmarks/results it becomes a table of docs/benchmarks.md"
        )
    show(runner.outcomes, console)
    return int(any(outcome.state == "failed" for outcome in runner.outcomes))


if __name__ == "__main__":
    sys.exit(main())
