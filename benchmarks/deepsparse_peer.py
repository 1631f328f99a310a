"""Runs ONNX models by DeepSparse: a process in an environment of its own, which knows nothing of strop.

against_deepsparse.py starts it and asks; a request and its answer are a line of JSON each:

    {"do": "layer", "weight": "w.npy", "rows": 16, "model": "layer.onnx"}    writes y = x W^T as a model
    {"do": "load", "model": "layer.onnx", "input": "x.npy", "output": "y.npy"}
    {"do": "run", "times": 5}                                              {"seconds": 0.0123}

Seconds are processor time of the thread that calls. With one core DeepSparse computes in that thread, so
that this is all of its work; no other engine may be alive meanwhile, for its threads spin.
"""

from __future__ import annotations

import json
import os
import sys
import time

import deepsparse
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def write_layer(weight: str, rows: int, model: str) -> None:
    """A pruned layer without bias as an ONNX model."""
    w = np.load(weight)
    n, k = w.shape
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "layer",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [rows, k])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [rows, n])],
        [numpy_helper.from_array(np.ascontiguousarray(w.T), "w")],
    )
    opset = [helper.make_opsetid("", 13)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), model)


def instruction_set() -> str:
    """That of the library that is loaded, and of the code that it generates where that is another.

    ``NM_ARCH`` chooses the library alone: what DeepSparse 1.8 had generated under ``NM_ARCH=avx2``, on a
    processor with AVX-512, was vectors of 512 bits throughout.
    """
    library = deepsparse.cpu.cpu_architecture().isa
    with open("/proc/cpuinfo") as lines:
        flags = next((line.split() for line in lines if line.startswith("flags")), [])
    generated = "avx512" if "avx512f" in flags else "avx2"
    return library if generated == library else f"{library} library, {generated} code"


class Runner:
    """The one model that is loaded."""

    def __init__(self) -> None:
        self.engine = None
        self.inputs: list[np.ndarray] = []

    def load(self, model: str, input: str, output: str) -> None:
        """Compiles a model for one core, runs it, and keeps what came out."""
        self.engine = None  # first: its threads end
        self.inputs = [np.load(input)]
        self.engine = deepsparse.Engine(model, batch_size=len(self.inputs[0]), num_cores=1)
        np.save(output, self.engine.run(self.inputs)[0])

    def run(self, times: int) -> float:
        """Seconds of so many runs, after one that warms the caches."""
        self.engine.run(self.inputs)
        start = time.thread_time()
        for _ in range(times):
            self.engine.run(self.inputs)
        return time.thread_time() - start


def main() -> None:
    """Answers until nothing more is asked."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what DeepSparse prints is no answer
    runner = Runner()
    facts = {"version": deepsparse.__version__, "isa": instruction_set()}
    print(json.dumps(facts), file=answers)
    for line in sys.stdin:
        request = json.loads(line)
        do, answer = request.pop("do"), {}
        if do == "layer":
            write_layer(**request)
        elif do == "load":
            runner.load(**request)
        elif do == "run":
            answer["seconds"] = runner.run(**request)
        print(json.dumps(answer), file=answers)


if __name__ == "__main__":
    main()
