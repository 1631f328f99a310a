"""The GPU's benchmarks and `make gpu`, as far as a machine without a GPU can tell."""

import argparse
import io
import json
import sys
import time
from pathlib import Path

import pytest
import torch
from benchmarks import gpu as make_gpu
from benchmarks import pages
from rich.console import Console

from strop import cli
from strop._bench import gpu, present, registry
from strop._bench.augment import gpu as augment_gpu
from strop._bench.linear import gpu as masked_gpu
from strop._bench.prune import gpu as prune_gpu
from strop._bench.quantize import gpu as quantize_gpu

CEILINGS = gpu.Ceilings(copy=3e12, matrix=8e14)
CASES = [
    *quantize_gpu.cases(side=96),
    *prune_gpu.cases(side=96),
    *list(masked_gpu.cases(side=96))[::7],
    *augment_gpu.cases(side=32, count=2),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case_runs_on_the_device_it_is_given(case):
    result = gpu.measure(case, torch.device("cpu"), gpu.by_clock, turns=2).to_dict(CEILINGS)
    assert set(result["seconds"]) == set(case.contenders(torch.device("cpu")))
    assert all(seconds > 0 for seconds in result["seconds"].values())
    if case.on_host:
        assert result["gb_per_s"] is None
    else:
        rate = case.moved_bytes / result["seconds"]["strop"]
        assert result["share_of_copy"] == pytest.approx(rate / 3e12)


def test_names_are_unique():
    assert len({case.name for case in CASES}) == len(CASES) > 20


def test_buffers_rotate():
    made = []

    def contenders(device):
        def make():
            counter = torch.zeros(1, device=device)
            made.append(counter)
            return lambda: counter.add_(1)

        return {"strop": make}

    case = gpu.GpuCase("quantize", "rotation", contenders, moved_bytes=gpu._LEAST_BUFFER_BYTES // 3)
    gpu.measure(case, torch.device("cpu"), gpu.by_clock, turns=5)
    assert len(made) == 3
    assert {x.item() for x in made} == {6 * (gpu._CALLS_A_TURN // 3)}  # a turn to warm up, then 5


def test_a_missing_peer_is_named():
    def contenders(device):
        def absent():
            raise ImportError("peer is not installed")

        return {"strop": lambda: lambda: None, "peer": absent}

    case = gpu.GpuCase("quantize", "absent", contenders)
    result = gpu.measure(case, torch.device("cpu"), gpu.by_clock, turns=1)
    assert result.to_dict(CEILINGS)["missing"] == {"peer": "peer is not installed"}


def measured():
    """As `make gpu` writes it."""
    results = [gpu.measure(case, torch.device("cpu"), gpu.by_clock, 1) for case in CASES[:3]]
    where = {"gpu": "GPU 9000", "torch": "2", "cuda": "13", "copy_gb_per_s": 3e3}
    return {
        "machine": where | {"bfloat16_product_tflops": 800.0},
        "results": [result.to_dict(CEILINGS) for result in results],
    }


def test_tables():
    found = measured()
    console = Console(width=150, file=io.StringIO())
    console.print(present.gpu_table(found))
    text = console.file.getvalue()
    for part in ("GPU 9000", "of copy", "of matrix", "3000 GB/s", "800 TFLOP/s", CASES[0].name):
        assert part in text
    table = pages.gpus({"gpu": found})
    assert table.count("\n| static int8") == 3
    assert "GPU 9000" in table
    assert "Not yet measured" in pages.gpus({})


def test_runner_tells_what_became_of_its_steps(tmp_path):
    runner = make_gpu.Runner(tmp_path)
    python = [sys.executable, "-c"]
    passed = "print('3 passed in 1 s'); print('========= ERROR SUMMARY: 0 errors')"
    assert runner.run("good", 60, [*python, "print('fine')"])
    assert runner.run("tests", 60, [*python, "print('== 3 passed ==')"])
    assert runner.run("memcheck", 60, [*python, passed])
    assert not runner.run("racecheck", 60, [*python, "print('3 passed')"])
    assert not runner.run("tests", 60, [*python, "print('== 3 skipped ==')"])
    assert not runner.run("bad", 60, [*python, "print('no'); exit(3)"], [*python, "print('then')"])
    runner.skip("absent", "there is no such tool")
    assert [(o.step, o.state) for o in runner.outcomes] == [
        ("good", "passed"),
        ("tests", "passed"),
        ("memcheck", "passed"),
        ("racecheck", "failed"),
        ("tests", "failed"),
        ("bad", "failed"),
        ("absent", "skipped"),
    ]
    details = [outcome.detail.split(" (see")[0] for outcome in runner.outcomes]
    assert details == [
        "",
        "3 passed",
        "ERROR SUMMARY: 0 errors",
        "the sanitizer says nothing: 3 passed",
        "no test passed: 3 skipped",
        "exit status 3: no",
        "there is no such tool",
    ]
    assert "then" not in (tmp_path / "steps.log").read_text()


def test_runner_ends_what_takes_too_long(tmp_path):
    runner = make_gpu.Runner(tmp_path)
    child = "import time; time.sleep(3); open('late', 'w')"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}], cwd={str(tmp_path)!r})"
    assert not runner.run("slow", 1, [sys.executable, "-c", code])
    assert runner.outcomes[0].detail.startswith("out of time")
    runner.end = 0
    assert not runner.run("late", 60, [sys.executable, "-c", "print('unreached')"])
    assert runner.outcomes[1].state == "skipped"
    time.sleep(3)
    assert [path.name for path in tmp_path.iterdir()] == ["steps.log"]


class Recorder:
    """In place of a Runner: notes what would be run, all of which passes."""

    def __init__(self):
        self.steps = {}

    def run(self, step, limit, *commands, **environment):
        self.steps[step] = commands[-1]
        saved = [Path(word) for word in commands[-1] if word.endswith(".json")]
        for path in saved:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps({"machine": {}, "results": [path.stem]}))
        return True

    def skip(self, step, reason):
        self.steps[step] = reason


def test_what_ran_on_no_gpu_yet_comes_first(monkeypatch, tmp_path):
    monkeypatch.setattr(make_gpu, "BUILD", tmp_path)
    runner = Recorder()
    everything = list(make_gpu.FAMILIES)
    make_gpu.check(runner, everything)
    found = make_gpu.bench(runner, everything)
    assert [step for step in runner.steps if step.startswith("tests")] == [
        *("tests of prune", "tests of masked", "tests of augment", "tests of quantize"),
        "tests of the rest",
    ]
    assert found["results"] == [f"benchmarks-{name}" for name in ("masked", "augment", "quantize")]
    of_families = [word for family in everything for word in runner.steps[f"tests of {family}"]]
    files = [word for word in of_families if word.endswith(".py")]
    assert len(files) == len(set(files)) > 30
    assert f"--ignore={files[0]}" in runner.steps["tests of the rest"]


def test_one_family_alone(monkeypatch, tmp_path):
    monkeypatch.setattr(make_gpu, "BUILD", tmp_path)
    monkeypatch.setattr(make_gpu.shutil, "which", lambda *_, **__: "compute-sanitizer")
    runner = Recorder()
    make_gpu.check(runner, ["augment"])
    make_gpu.bench(runner, ["augment"])
    make_gpu.sanitize(runner, ["augment"])
    assert list(runner.steps) == [
        *("doctor", "tests of augment", "benchmarks of augment"),
        *make_gpu.SANITIZERS,
    ]
    words = runner.steps["memcheck"]
    assert [Path(word).name for word in words if word.endswith(".py")] == ["test_cuda.py"]
    make_gpu.sanitize(runner, ["prune"])
    assert runner.steps["memcheck"] == "these families have no test of every kernel"


def test_families_have_tests_and_benchmarks():
    for name, family in make_gpu.FAMILIES.items():
        assert make_gpu._files([name])
        assert family.benchmarks in {case.family for case in registry.gpu_cases()}
    assert make_gpu._families("augment,prune") == ["prune", "augment"]
    assert make_gpu._families("") == list(make_gpu.FAMILIES)
    with pytest.raises(argparse.ArgumentTypeError, match="nothing: known are prune, masked"):
        make_gpu._families("augment,nothing")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_without_a_gpu(capsys, tmp_path):
    assert make_gpu.main(["--out", str(tmp_path)]) == 2
    assert cli.main(["bench", "--device", "cuda"]) == 1
    assert capsys.readouterr().err.count("torch sees no CUDA device here") == 2
    assert not list(tmp_path.iterdir())


def test_bench_saves_what_it_prints(capsys, tmp_path):
    path = tmp_path / "new" / "results.json"
    assert (
        cli.main(["bench", "quantize", "--only", "a call on 16", "--json", "--save", str(path)])
        == 0
    )
    assert json.loads(path.read_text()) == json.loads(capsys.readouterr().out)
