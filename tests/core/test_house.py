"""The instruction sets, the command line, holders, memory, the examples in docstrings."""

import json
import os
import re
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

import strop
from strop import _C, cli
from strop._core import tensor_dataclass

ROOT = Path(__file__).parents[2]


def test_an_older_torch_is_told_what_is_needed(monkeypatch):
    from strop._core import library

    monkeypatch.setattr(torch, "__version__", "2.10.1+cpu")
    with pytest.raises(
        ImportError, match=r"strop needs torch>=2.11; torch 2.10.1\+cpu is installed"
    ):
        library._check_torch()


def test_cuda_kernels_are_built_where_nvcc_is():
    built = strop.build_info()["cuda_architectures"]
    if shutil.which("nvcc") is None:
        pytest.skip("nvcc is not on the PATH")
    assert built
    assert all(re.match(r"sm_\d+a?( and PTX)?$", name) for name in built)
    assert (Path(_C.__file__).parent / "_ops_cuda.so").exists()


class TestInstructionSets:
    def test_all_are_known(self):
        info = strop.build_info()
        assert strop.isa() in strop.supported_isas()
        assert set(strop.supported_isas()) <= set(info["isas"])
        assert "baseline" in strop.supported_isas()
        assert _C.self_test_failures() == []

    def test_an_unknown_one_is_refused(self):
        before = strop.isa()
        with pytest.raises(
            ValueError, match="instruction set 'mmx' cannot be used .* baseline can"
        ):
            strop.set_isa("mmx")
        assert strop.isa() == before

    def test_environment_variable(self):
        code = "import strop; print(strop.isa()); strop.set_isa(None); print(strop.isa())"
        run = lambda isa: subprocess.run(  # noqa: E731
            [sys.executable, "-c", code],
            env={**os.environ, "STROP_ISA": isa},
            capture_output=True,
            text=True,
            check=False,
        )
        assert run("baseline").stdout.split() == ["baseline", "baseline"]
        assert "STROP_ISA: instruction set 'z80' cannot be used" in run("z80").stderr


@tensor_dataclass.tensor_dataclass
class Pair(tensor_dataclass.TensorDataclass):
    first: Tensor
    kind: str
    second: Tensor | None = None

    def validate(self):
        if self.second is not None and self.second.shape != self.first.shape:
            raise ValueError("strop.Pair: second has another shape than first")


class TestHolders:
    def test_frozen_and_validated(self):
        pair = Pair(torch.zeros(2), "a", torch.ones(2))
        with pytest.raises(AttributeError):
            pair.kind = "b"
        with pytest.raises(ValueError, match="another shape"):
            Pair(torch.zeros(2), "a", torch.ones(3))

    def test_to_and_state_dict(self):
        pair = Pair(torch.zeros(2), "a").to(torch.float64)
        assert pair.first.dtype == torch.float64
        assert list(pair.state_dict()) == ["first"]
        again = Pair.from_state_dict(pair.state_dict(), kind="a")
        assert torch.equal(again.first, pair.first)
        with pytest.raises(ValueError, match=r"unknown keys \['third'\]"):
            Pair.from_state_dict({"third": torch.zeros(1)}, kind="a")
        with pytest.raises(ValueError, match=r"lacks \['first'\]"):
            Pair.from_state_dict({}, kind="a")

    def test_pytree_and_compile(self):
        pair = Pair(torch.ones(2), "a", torch.ones(2))
        leaves, spec = pytree.tree_flatten(pair)
        assert len(leaves) == 2
        assert pytree.tree_unflatten(leaves, spec).kind == "a"
        doubled = torch.compile(lambda p: pytree.tree_map(lambda t: t * 2, p), fullgraph=True)(pair)
        assert torch.equal(doubled.first, torch.full((2,), 2.0))


class TestCommandLine:
    def test_doctor(self, capsys):
        assert cli.main(["doctor"]) == 0
        told = capsys.readouterr().out
        assert "equal to the bit" in told
        assert "within its bound" in told  # sums have an order of their own
        assert cli.main(["doctor", "--json"]) == 0
        report = json.loads(capsys.readouterr().out)
        assert report["healthy"]
        assert {c["isa"] for c in report["checks"]} == set(strop.supported_isas())

    def test_doctor_fails_where_an_op_is_wrong(self, capsys, monkeypatch):
        monkeypatch.setattr(strop, "fake_quantize", lambda x, **_: x)
        assert cli.main(["doctor"]) == 1
        assert "differs from the oracle" in capsys.readouterr().out

    def test_doctor_fails_where_sums_are_out_of_their_bound(self, capsys, monkeypatch):
        monkeypatch.setattr(strop, "packed_linear", lambda x, w: 1.0001 * x @ w.to_dense().t())
        assert cli.main(["doctor", "--json"]) == 1
        report = json.loads(capsys.readouterr().out)
        failed = [check for check in report["checks"] if not check["passed"]]
        assert {check["op"] for check in failed} == {"pack_weight, packed_linear"}
        assert {check["isa"] for check in failed} == set(strop.supported_isas())
        assert "differs from the oracle: rows 1" in failed[0]["detail"]

    def test_bench(self, capsys, tmp_path):
        arguments = [
            "bench",
            "quantize",
            "--only",
            "16 elements and its",
            "--plot",
            str(tmp_path),
            "--json",
        ]
        assert cli.main(arguments) == 0
        measured = json.loads(capsys.readouterr().out)
        (result,) = measured["results"]
        assert set(result["seconds"]) == {"strop", "torch"}
        assert 0 < result["seconds"]["strop"] < 1
        assert (tmp_path / "bench-quantize.png").read_bytes().startswith(b"\x89PNG")
        assert cli.main(arguments[:-1]) == 0
        assert "a call on 16" in capsys.readouterr().out

    def test_bad_usage(self, capsys):
        for arguments in (["frobnicate"], [], ["bench", "nothing"]):
            with pytest.raises(SystemExit) as stopped:
                cli.main(arguments)
            assert stopped.value.code == 2
        assert cli.main(["bench", "quantize", "--only", "no such case"]) == 2
        assert "no case" in capsys.readouterr().err


def test_missing_peers_are_named(monkeypatch):
    from strop._bench import measure, registry
    from strop._bench.case import Case

    monkeypatch.setitem(sys.modules, "torchao.quantization.quant_primitives", None)
    (case,) = (c for c in registry.cases("quantize") if "choose_qparams" in c.name)
    small = {k: v for k, v in case.contenders().items() if k != "torchao compiled"}
    result = measure.measure(Case("quantize", "x", lambda: small, bars=case.bars), seconds=0.0)
    assert "torchao" in result.missing
    assert result.figures() == []


def test_memory_of_out_and_in_place():
    # In a process of its own, whose peak nothing else has raised.
    code = """
import torch, strop
from strop._bench.measure import extra_kib
x = torch.randn(2048, 2048); out = torch.empty_like(x).zero_(); s = torch.rand(2048, 1)
calls = [lambda o: strop.fake_quantize_(x, **o), lambda o: strop.fake_quantize(x, out=out, **o)]
options = [{}, {"block_size": (1, 32)}, {"block_size": (-1, 1)}, {"scale": s, "block_size": (1, -1)}]
for call in calls:
    strop.fake_quantize(x[:600, :600].clone())  # threads and tables exist from here on
for call in calls:
    for o in options:
        print(extra_kib(lambda: call(o)))
"""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError as error:
        pytest.skip(f"the kernel does not reset the peak of memory: {error}")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    grown = [int(n) for n in done.stdout.split()]
    assert len(grown) == 8
    assert max(grown) < 1024  # KiB


def test_forked_worker():
    strop.fake_quantize(torch.randn(100, 100))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        process = os.fork()
    if process == 0:
        torch.set_num_threads(1)
        good = np.array_equal(
            strop.fake_quantize(torch.ones(64)).numpy(),
            _C.reference.fake_quantize(np.ones(64, np.float32)),
        )
        os._exit(0 if good else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0


DOCUMENTED = sorted(
    ".".join(path.relative_to(ROOT / "python").with_suffix("").parts)
    for path in (ROOT / "python" / "strop").rglob("*.py")
    if ">>> " in path.read_text()
)


@pytest.mark.parametrize("module", DOCUMENTED)
def test_documented_examples(module):
    import doctest
    import importlib

    tested = doctest.testmod(importlib.import_module(module))
    assert tested.attempted > 0
    assert tested.failed == 0
