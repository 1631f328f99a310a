"""Measures a whole model beside ONNX Runtime and OpenVINO: python -m benchmarks.against_runtimes

``make bench-runtimes`` makes their environment first. torch runs the same model, as it is and compiled with frozen
weights; pruned models go to everyone with their zeros. Whoever's results are not torch's is not timed: the
benchmark ends. Merges what it measured into results/<machine>-runtimes.json, and writes the tables of the docs.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch._inductor import config as inductor

import strop
from benchmarks import against_deepsparse, pages
from benchmarks.against_deepsparse import export, in_one_table, one_processor, with_facts
from benchmarks.deepsparse_turns import Peer, Turn, medians, repeated
from benchmarks.runtimes_table import BFLOAT16, MODELS, SPARSE, SPARSE_RATE, case_name
from strop._bench import measure
from strop._bench.case import Call, Case
from strop._bench.linear import minilm
from strop._bench.linear import model as masked_model

PYTHON = pages.HERE.parent / ".venv-runtimes" / "bin" / "python"
SCRIPT = Path(__file__).with_name("runtimes_peer.py")

# How far a result may be from torch's, of the largest one: in float32, and in fewer bits.
CLOSE, CLOSE_IN_FEWER_BITS = 1e-4, 3e-2


class Runtimes(Peer):
    """The process of the runtimes; a context manager."""

    def __init__(self, python: Path, script: Path = SCRIPT) -> None:
        super().__init__(python, script)

    def turn(self, name: str) -> Turn:
        """The turns of a model that is loaded."""
        return lambda times: float(self.ask("run", name=name, times=times)["seconds"])

    def _answer(self) -> dict[str, object]:
        try:
            return super()._answer()
        except RuntimeError as error:
            raise RuntimeError(str(error).replace("DeepSparse's", "the runtimes'", 1)) from None


@dataclass(frozen=True)
class Problem:
    """A case: a model and its input.

    Attributes:
        batch: of sentences, 128 tokens each.
        sparsity: of each linear layer; without any, strop has them in int8.
        encoder: makes the model, the same one each time.

    """

    batch: int
    sparsity: float
    encoder: Callable[[float], nn.Module] = minilm.pruned_encoder

    def name(self) -> str:
        """That of the case."""
        return case_name(self.batch, self.sparsity)

    def tokens(self) -> Tensor:
        """What every contender is given."""
        return minilm.sentences(self.batch)

    def allowed(self, contender: str) -> float:
        """How far a contender's result may be from torch's."""
        coded = contender == "strop" and not self.sparsity
        return CLOSE_IN_FEWER_BITS if coded or contender == BFLOAT16 else CLOSE


def ours(problem: Problem) -> dict[str, Call]:
    """The calls of this process: torch's, torch's compiled, strop's."""
    tokens = problem.tokens()
    dense, packed, compiled = (problem.encoder(problem.sparsity) for _ in range(3))
    how = {} if problem.sparsity else {"format": "int8", "activations": "uint8"}
    strop.pack_model(packed, (tokens,), **how)
    torch._dynamo.reset()  # a model of before is no reason to compile this one for any shape
    call = masked_model.calling(torch.compile(compiled), tokens)
    with inductor.patch(freezing=True):
        call()
    return {
        "torch": masked_model.calling(dense, tokens),
        "torch.compile": call,
        "strop": masked_model.calling(packed, tokens),
    }


def theirs(sparsity: float, able: Mapping[str, object]) -> dict[str, dict[str, object]]:
    """The runtimes that are asked, and with which options."""
    float32 = {"INFERENCE_PRECISION_HINT": "f32"}
    found: dict[str, dict[str, object]] = {
        "ONNX Runtime": {"runtime": "onnxruntime", "options": {}},
        "OpenVINO": {"runtime": "openvino", "options": float32},
    }
    if sparsity and able["sparse"]:
        options = {**float32, "CPU_SPARSE_WEIGHTS_DECOMPRESSION_RATE": SPARSE_RATE}
        found[SPARSE] = {"runtime": "openvino", "options": options}
    if able["bfloat16"]:
        options = {"INFERENCE_PRECISION_HINT": "bf16"}
        found[BFLOAT16] = {"runtime": "openvino", "options": options}
    return found


def check(problem: Problem, contender: str, found: Tensor, expected: Tensor) -> None:
    """AssertionError where a result is not torch's."""
    off = float((found - expected).abs().max() / expected.abs().max())
    if not off <= problem.allowed(contender):
        raise AssertionError(f"{problem.name()}: {contender} and torch differ by {off:.1e}")


def measured(problem: Problem, peer: Runtimes, folder: Path, seconds: float) -> measure.Result:
    """One case's medians; refuses to go on where the results differ."""
    x, y, onnx = (folder / name for name in ("x.npy", "y.npy", "model.onnx"))
    np.save(x, problem.tokens().numpy())
    export(problem.encoder(problem.sparsity), problem.tokens(), onnx)
    calls = ours(problem)
    expected = calls["torch"]()
    for name, call in calls.items():
        check(problem, name, call(), expected)
    turns = {name: repeated(call) for name, call in calls.items()}
    for name, asked in theirs(problem.sparsity, peer.ask("abilities")).items():
        peer.ask("load", name=name, **asked, model=str(onnx), input=str(x), output=str(y))
        check(problem, name, torch.from_numpy(np.load(y)), expected)
        turns[name] = peer.turn(name)
    return measure.Result(Case("runtimes", problem.name(), dict), medians(turns, seconds))


def measure_all(problems: list[Problem], python: Path, seconds: float) -> dict[str, object]:
    """Every case beside the runtimes."""
    with one_processor(), Runtimes(python) as peer:
        found = in_one_table(
            {
                problem.name(): lambda folder, problem=problem: measured(
                    problem, peer, folder, seconds
                )
                for problem in problems
            }
        )
        return with_facts(found, runtimes=peer.version)


def save(found: Mapping[str, object]) -> Path:
    """Merges into the machine's file, and writes the tables from every machine's."""
    return against_deepsparse.save(found, "runtimes")


def main() -> int:
    """Measures, writes, prints; 1 where the runtimes are not installed."""
    parser = argparse.ArgumentParser(prog="benchmarks.against_runtimes", description=__doc__)
    parser.add_argument("--only", default="", metavar="REGEX", help="cases with this in their name")
    parser.add_argument("--seconds", type=float, default=3.0, help="a case takes (default 3)")
    parser.add_argument("--python", type=Path, default=PYTHON, help="that of the runtimes")
    options = parser.parse_args()
    if not options.python.exists():
        print(f"{options.python} does not exist: make bench-runtimes makes it", file=sys.stderr)
        return 1
    every = [Problem(batch, sparsity) for batch, sparsity in MODELS]
    problems = [problem for problem in every if re.search(options.only, problem.name())]
    if not problems:
        print(f"no case has {options.only!r} in its name", file=sys.stderr)
        return 2
    path = save(measure_all(problems, options.python, options.seconds))
    print(f"wrote {path}, and the tables of the docs", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
