"""Measures pruned layers and a pruned model against DeepSparse: python -m benchmarks.against_deepsparse

``make bench-deepsparse`` makes DeepSparse's environment first. ``--isa avx2`` holds strop and torch to AVX2,
and DeepSparse as far as it lets itself (deepsparse_peer.instruction_set); the tables say which it was. Merges
what it measured into results/<machine>-deepsparse.json, and writes the tables of the docs from all such files.
DeepSparse ended in June 2025; its licence allows evaluation alone.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from torch import Tensor, nn
from tqdm import tqdm

from benchmarks import pages
from benchmarks.__main__ import machine_name
from benchmarks.deepsparse_table import LAYERS, MODELS
from benchmarks.deepsparse_turns import Peer, medians, repeated
from strop._bench import measure, present
from strop._bench.case import Bar, Call, Case, faster_than
from strop._bench.linear import cases as masked
from strop._bench.linear import minilm
from strop._bench.linear import model as masked_model

PYTHON = pages.HERE.parent / ".venv-deepsparse" / "bin" / "python"

# What holds strop, torch's libraries and DeepSparse's to AVX2; all of it is read when a process starts.
AVX2 = {
    "STROP_ISA": "avx2",
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "NM_ARCH": "avx2",
}


@dataclass(frozen=True)
class Problem:
    """A case: the calls of this process, and how it is put before DeepSparse.

    Attributes:
        name: of the case.
        promised: over DeepSparse; 0 where nothing is.
        calls: makes the calls by contender; ``strop``'s result has to be DeepSparse's.
        input: what both are given.
        write: writes the ONNX model to a path, for the peer to load.

    """

    name: str
    promised: float
    calls: Callable[[], Mapping[str, Call]]
    input: Tensor
    write: Callable[[Peer, Path], None]

    def bars(self) -> tuple[Bar, ...]:
        """The promise, if there is one."""
        return (faster_than("DeepSparse", self.promised),) if self.promised else ()


def layer(rows: int, k: int, n: int, sparsity: float, promised: float) -> Problem:
    """One linear layer, of the same weight as in ``strop bench sparse``."""
    weight = masked.pruned(n, k, sparsity)
    x = torch.randn(rows, k, generator=torch.Generator().manual_seed(1))

    def calls() -> Mapping[str, Call]:
        makers = masked.contenders(rows, weight, ("torch dense",))()
        return {name: make() for name, make in makers.items()}

    def write(peer: Peer, path: Path) -> None:
        held = path.with_suffix(".weight.npy")
        np.save(held, weight.numpy())
        peer.ask("layer", weight=str(held), rows=rows, model=str(path))

    return Problem(masked.layer_name(rows, k, n, sparsity), promised, calls, x, write)


def model(batch: int, sparsity: float, promised: float) -> Problem:
    """All of MiniLM: strop's is torch's model with its linear layers replaced."""
    tokens = minilm.sentences(batch)
    dense = minilm.pruned_encoder(sparsity)

    def calls() -> Mapping[str, Call]:
        ours = masked_model.packed(minilm.pruned_encoder(sparsity), tokens)
        return {
            "strop": masked_model.calling(ours, tokens),
            "torch dense": masked_model.calling(dense, tokens),
        }

    name = masked_model.model_name(batch, sparsity)
    return Problem(name, promised, calls, tokens, lambda _, path: export(dense, tokens, path))


def export(model: nn.Module, tokens: Tensor, path: Path) -> None:
    """Writes a model as ONNX, as torch's tracing exporter does: DeepSparse ended before the other one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            (tokens,),
            path,
            input_names=["tokens"],
            output_names=["hidden"],
            opset_version=14,
            dynamo=False,
        )


def problems() -> Iterator[tuple[str, Callable[[], Problem]]]:
    """Every case's name, and what makes it."""
    for shape, promises in LAYERS.items():
        for sparsity, promised in zip(masked.SPARSITIES, promises, strict=True):
            name = masked.layer_name(*shape, sparsity)
            yield name, lambda s=shape, d=sparsity, p=promised: layer(*s, d, p)
    for (batch, sparsity), promised in MODELS.items():
        name = masked_model.model_name(batch, sparsity)
        yield name, lambda b=batch, d=sparsity, p=promised: model(b, d, p)


def measured(problem: Problem, peer: Peer, folder: Path, seconds: float) -> measure.Result:
    """One case's medians; refuses to go on where the results differ."""
    x, y, onnx = (folder / name for name in ("x.npy", "y.npy", "model.onnx"))
    np.save(x, problem.input.numpy())
    problem.write(peer, onnx)
    peer.ask("load", model=str(onnx), input=str(x), output=str(y))
    calls = problem.calls()
    theirs = torch.from_numpy(np.load(y))
    for name, call in calls.items():
        off = float((call() - theirs).abs().max() / theirs.abs().max())
        if off > 1e-4:
            raise AssertionError(f"{problem.name}: {name} and DeepSparse differ by {off:.1e}")
    turns = {name: repeated(call) for name, call in calls.items()} | {"DeepSparse": peer.run}
    case = Case("deepsparse", problem.name, dict, bars=problem.bars())
    return measure.Result(case, medians(turns, seconds))


@contextlib.contextmanager
def one_processor() -> Iterator[None]:
    """This process, and those that it starts, on one; torch's threads are as before then."""
    threads = torch.get_num_threads()
    try:
        with measure.pinned(1):
            yield
    finally:
        torch.set_num_threads(threads)


def in_one_table(cases: Mapping[str, Callable[[Path], measure.Result]]) -> dict[str, object]:
    """Measures cases one by one, each in a folder; as results files have it."""
    results = []
    with (
        tempfile.TemporaryDirectory() as folder,
        tqdm(cases.items(), disable=None, leave=False) as bar,
    ):
        for name, measured_in in bar:
            bar.set_description(name[:48])
            results.append(measured_in(Path(folder)))
    Console(width=None if sys.stdout.isatty() else 120).print(present.table(results))
    return present.to_dict(results)


def with_facts(found: Mapping[str, object], **facts: object) -> dict[str, object]:
    """What was measured, and more of what it was measured with."""
    return {**found, "machine": {**found["machine"], **facts}}


def measure_all(
    makers: Mapping[str, Callable[[], Problem]], python: Path, seconds: float
) -> dict[str, object]:
    """Every case beside DeepSparse."""
    with one_processor(), Peer(python) as peer:
        found = in_one_table(
            {
                name: lambda folder, make=make: measured(make(), peer, folder, seconds)
                for name, make in makers.items()
            }
        )
        return with_facts(found, **{"deepsparse": peer.version, "deepsparse isa": peer.isa})


def merged(old: Mapping[str, object], new: Mapping[str, object]) -> dict[str, object]:
    """A results file's content with cases measured anew in place of what they were, others added."""
    again = {result["name"]: result for result in new["results"]}
    kept = [again.pop(result["name"], result) for result in old.get("results", [])]
    return {**new, "results": [*kept, *again.values()]}


def save(found: Mapping[str, object], beside: str = "deepsparse") -> Path:
    """Merges into the machine's file of a peer, and writes the tables from every machine's."""
    path = pages.RESULTS / f"{machine_name(found['machine'])}-{beside}.json"
    old = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(merged(old, found), indent=2) + "\n")
    pages.write()
    return path


def main() -> int:
    """Measures, writes, prints; 1 where DeepSparse is not installed."""
    parser = argparse.ArgumentParser(prog="benchmarks.against_deepsparse", description=__doc__)
    parser.add_argument("--isa", choices=["avx2"], help="hold strop and torch to it")
    parser.add_argument("--only", default="", metavar="REGEX", help="cases with this in their name")
    parser.add_argument("--seconds", type=float, default=3.0, help="a case takes (default 3)")
    parser.add_argument("--python", type=Path, default=PYTHON, help="that of DeepSparse")
    options = parser.parse_args()
    if not options.python.exists():
        print(f"{options.python} does not exist: make bench-deepsparse makes it", file=sys.stderr)
        return 1
    if options.isa and not AVX2.items() <= os.environ.items():
        os.environ.update(AVX2)
        os.execv(
            sys.executable, [sys.executable, "-m", "benchmarks.against_deepsparse", *sys.argv[1:]]
        )
    makers = {name: make for name, make in problems() if re.search(options.only, name)}
    if not makers:
        print(f"no case has {options.only!r} in its name", file=sys.stderr)
        return 2
    path = save(measure_all(makers, options.python, options.seconds))
    print(f"wrote {path}, and the tables of the docs", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
