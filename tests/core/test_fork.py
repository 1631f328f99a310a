"""After a fork: no op waits for threads that the child does not have, and each gives the same bits."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")

PROBLEMS = Path(__file__).parent / "fork_problems.py"


def outcome(name, seconds=90, **environment):
    """What a process of its own prints; it and its children end when time is up."""
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", str(PROBLEMS), name],
        env=os.environ | {"OMP_NUM_THREADS": "4"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        out, errors = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, errors = process.communicate()
        pytest.fail(f"{name} did not end within {seconds} s\n{out}{errors}")
    assert process.returncode == 0, errors
    return out


def test_every_family_after_torch_has_run_threads():
    assert outcome("after_threads") == "done\n"


def test_while_other_threads_are_inside_ops():
    assert outcome("inside_an_op") == "done\n"


def test_workers_of_a_data_loader():
    assert outcome("by_a_data_loader") == "done\n"


@pytest.mark.skipif(sys.platform != "linux", reason="threads are counted on Linux alone")
def test_threads_stay_where_there_were_none_before():
    found = outcome("before_threads", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")
    if found != "done\n":
        pytest.skip("torch or numpy starts threads when it is imported here")
