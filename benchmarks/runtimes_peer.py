"""Runs ONNX models by ONNX Runtime and OpenVINO: a process in an environment of its own, without strop.

against_runtimes.py starts it and asks; a request and its answer are a line of JSON each:

    {"do": "abilities"}                        {"bfloat16": true, "sparse": true}: OpenVINO's, on this processor
    {"do": "load", "name": "a", "runtime": "openvino", "options": {}, "model": "m.onnx", "input": "x.npy",
     "output": "y.npy"}
    {"do": "run", "name": "a", "times": 5}     {"seconds": 0.0123}

Seconds are processor time of the process, whichever of its threads computes. Each model has one thread.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping

import numpy as np
import onnxruntime
import openvino

SPARSE = "CPU_SPARSE_WEIGHTS_DECOMPRESSION_RATE"

Call = Callable[[], np.ndarray]


def by_onnxruntime(model: str, x: np.ndarray, options: Mapping[str, object]) -> Call:
    """A call of a model in ONNX Runtime, with all that it optimizes; it has no options here."""
    if options:
        raise ValueError(f"ONNX Runtime has no options here, got {options}")
    told = onnxruntime.SessionOptions()
    told.intra_op_num_threads = told.inter_op_num_threads = 1
    told.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    session = onnxruntime.InferenceSession(model, told, providers=["CPUExecutionProvider"])
    given = {session.get_inputs()[0].name: x}
    return lambda: session.run(None, given)[0]


def by_openvino(model: str, x: np.ndarray, options: Mapping[str, object]) -> Call:
    """A call of a model in OpenVINO, compiled with properties of its CPU plugin; nothing is copied."""
    told = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, **options}
    request = openvino.Core().compile_model(model, "CPU", told).create_infer_request()

    def call() -> np.ndarray:
        request.infer({0: x}, share_inputs=True, share_outputs=True)
        return request.get_output_tensor(0).data

    return call


RUNTIMES = {"onnxruntime": by_onnxruntime, "openvino": by_openvino}


def abilities() -> dict[str, bool]:
    """Whether OpenVINO computes in bfloat16 on this processor, and knows weights that are mostly zeros."""
    core = openvino.Core()
    return {
        "bfloat16": "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"),
        "sparse": SPARSE in core.get_property("CPU", "SUPPORTED_PROPERTIES"),
    }


class Runner:
    """The models that are loaded, by name."""

    def __init__(self) -> None:
        self.calls: dict[str, Call] = {}

    def load(
        self,
        name: str,
        runtime: str,
        options: Mapping[str, object],
        model: str,
        input: str,
        output: str,
    ) -> None:
        """Compiles a model in place of the one of that name, runs it, and keeps what came out."""
        self.calls.pop(name, None)  # first: its memory is free again
        self.calls[name] = RUNTIMES[runtime](model, np.load(input), options)
        np.save(output, self.calls[name]())

    def run(self, name: str, times: int) -> float:
        """Seconds of so many runs, after one that warms the caches."""
        call = self.calls[name]
        call()
        start = time.process_time()
        for _ in range(times):
            call()
        return time.process_time() - start


def main() -> None:
    """Answers until nothing more is asked."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a runtime prints is no answer
    runner = Runner()
    release = openvino.__version__.split("-")[0]
    version = f"ONNX Runtime {onnxruntime.__version__}, OpenVINO {release}"
    print(json.dumps({"version": version, "isa": "what they choose"}), file=answers)
    for line in sys.stdin:
        request = json.loads(line)
        do, answer = request.pop("do"), {}
        if do == "abilities":
            answer = abilities()
        elif do == "load":
            runner.load(**request)
        elif do == "run":
            answer["seconds"] = runner.run(**request)
        else:
            raise ValueError(f"what is {do!r}?")
        print(json.dumps(answer), file=answers)


if __name__ == "__main__":
    main()
