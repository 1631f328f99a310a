"""Contenders in two processes take turns on one processor: ours here, DeepSparse in a process that is asked.

Times are processor time of the thread that computes, in both. Who waits reads from a pipe, and takes none.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

SCRIPT = Path(__file__).with_name("deepsparse_peer.py")
_LEAST_TURNS = 7
_SECONDS_A_TURN = 2e-3  # processes that change places find cold caches: not at every call
_QUIET = {"NM_DISABLE_ANALYTICS": "1"}  # it would report its use over the network

Turn = Callable[[int], float]
"""Seconds of so many calls, after one that warms the caches."""


class Peer:
    """A process of DeepSparse; a context manager.

    Attributes:
        version: of DeepSparse.
        isa: the instruction set that it uses.

    """

    def __init__(self, python: Path, script: Path = SCRIPT) -> None:
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed by __exit__)
        without = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
        self._process = subprocess.Popen(
            [python, script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env=without | _QUIET,
        )
        facts = self._answer()
        self.version, self.isa = str(facts["version"]), str(facts["isa"])

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stdin.close()
        self._process.wait()
        self._errors.close()

    def ask(self, do: str, **arguments: object) -> dict[str, object]:
        """One request's answer; RuntimeError, with what the process said last, where it ended."""
        print(json.dumps({"do": do, **arguments}), file=self._process.stdin, flush=True)
        return self._answer()

    def run(self, times: int) -> float:
        """A turn of the model that is loaded."""
        return float(self.ask("run", times=times)["seconds"])

    def _answer(self) -> dict[str, object]:
        line = self._process.stdout.readline()
        if line:
            return json.loads(line)
        status = self._process.wait()
        self._errors.seek(0)
        told = self._errors.read().strip().splitlines()[-5:]
        raise RuntimeError("\n".join([f"DeepSparse's process ended with status {status}:", *told]))


def repeated(call: Callable[[], object]) -> Turn:
    """A call of this process as a turn."""

    def turn(times: int) -> float:
        call()
        start = time.thread_time()
        for _ in range(times):
            call()
        return time.thread_time() - start

    return turn


def medians(turns: Mapping[str, Turn], seconds: float) -> dict[str, float]:
    """Median seconds of a call of each contender; they take turns for so long, and some times at least."""
    once = {name: min(turn(1) for _ in range(3)) for name, turn in turns.items()}
    times = {name: max(1, int(_SECONDS_A_TURN / max(t, 1e-9))) for name, t in once.items()}
    taken: dict[str, list[float]] = {name: [] for name in turns}
    start = time.perf_counter()
    count = 0
    while count < _LEAST_TURNS or time.perf_counter() - start < seconds:
        for name, turn in turns.items():
            taken[name].append(turn(times[name]) / times[name])
        count += 1
    return {name: statistics.median(t) for name, t in taken.items()}
