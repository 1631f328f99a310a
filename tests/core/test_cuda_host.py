"""The host execution of the CUDA kernels: that it catches what it is there to catch."""

import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest

if importlib.util.find_spec("strop._cuda_host") is None:
    pytest.skip("strop._cuda_host is not built here", allow_module_level=True)
from strop import _C, _cuda_host  # noqa: E402

pytestmark = pytest.mark.cuda_host
SOURCE = Path(__file__).parents[1] / "cuda_host" / "faults.cu"
# What a fault is called, where the order of the threads decides which of two is met.
KINDS = {
    "missing_barrier": "race|uninitialised",
    "missing_barrier_before_writing": "race",
    "missing_syncwarp": "race|uninitialised",
    "shuffle_for_barrier": "race",
    "syncwarp_of_half": "race|uninitialised",
    "missing_wait": "uninitialised",
    "plain_count": "race",
    "plain_count_of_blocks": "race|uninitialised",
    "same_value_twice": "race",
    "atomic_and_plain": "race",
    "reads_another_block": "race|uninitialised",
    "two_barriers": "divergence",
    "early_return": "divergence",
    "barrier_of_some": "divergence",
    "shuffle_of_some": "mask|divergence",
    "shuffles_of_two_branches": "divergence",
    "self_not_in_mask": "mask",
    "masks_differ": "divergence",
    "source_not_in_mask": "mask",
    "lane_has_returned": "mask",
    "reads_past_the_end": "out of bounds",
    "writes_before_the_begin": "out of bounds",
    "vector_past_the_end": "out of bounds",
    "gap_between_rows": "out of bounds",
    "shared_index": "out of bounds",
    "dynamic_shared_index": "out of bounds",
    "local_of_another_thread": "out of bounds",
    "host_memory": "out of bounds",
    "misaligned_vector": "misaligned",
    "uninitialised_shared": "uninitialised",
    "shared_of_the_block_before": "uninitialised",
    "uninitialised_workspace": "uninitialised",
    "writes_to_an_input": "what is an input",
    "unwritten": "unwritten",
    "no_loop_over_the_grid": "unwritten",
    "overflow": "overflow",
    "division_by_zero": "overflow",
    "long_shift": "shift",
    "too_much_shared": "cudaFuncSetAttribute",
}


@pytest.fixture(autouse=True)
def any_launch():
    yield
    _cuda_host.set_launch(0)


def lines_of(fault):
    """The lines of the source that end in a fault's name."""
    lines = SOURCE.read_text().splitlines()
    return [i for i, line in enumerate(lines, 1) if line.endswith(f"// {fault}")]


def test_every_kernel_is_tested():
    names = {name for name in _cuda_host.case_names() if not name.startswith("right_")}
    assert names - {"float_atomics"} == set(KINDS)


@pytest.mark.parametrize("fault", KINDS)
def test_fault_is_caught(fault):
    for seed in range(8):
        _cuda_host.set_launch(seed)
        with pytest.raises(RuntimeError, match=KINDS[fault]) as caught:
            _cuda_host.run_case(fault)
        places = lines_of(fault)
        said = {int(n) for n in re.findall(r"faults\.cu:(\d+)", str(caught.value))}
        assert said & set(places) or not places, str(caught.value)


@pytest.mark.parametrize("name", [n for n in _cuda_host.case_names() if n.startswith("right_")])
def test_what_is_right_passes(name):
    for seed in range(8):
        _cuda_host.set_launch(seed)
        _cuda_host.run_case(name)


def test_faults_without_a_line_are_few():
    # They are of a launch, or of what no line did.
    assert {fault for fault in KINDS if not lines_of(fault)} == {
        "unwritten",
        "no_loop_over_the_grid",
        "too_much_shared",
    }


def test_a_message_says_who_what_and_where():
    _cuda_host.set_launch(1)
    with pytest.raises(RuntimeError) as caught:
        _cuda_host.run_case("same_value_twice")
    (line,) = lines_of("same_value_twice")
    assert re.fullmatch(
        r"CUDA on the host: thread 0 of block \d: writes what another block's thread 0 wrote "
        rf"\(race\): byte 0 of output, at faults\.cu:{line} same_value_twice; "
        rf"the other at faults\.cu:{line} same_value_twice",
        str(caught.value),
    )


def test_sums_that_depend_on_order_differ_between_seeds():
    found = set()
    for seed in range(20):
        _cuda_host.set_launch(seed)
        found.add(_cuda_host.run_case("float_atomics"))
    assert len(found) > 1


PROBLEMS = [
    {"block_size": (1, 32)},
    {"block_size": (1, 256)},
    {"block_size": (-1, 1)},
    {"block_size": (1, 33), "symmetric": False},
    {"block_size": (1, -1)},
    {},
]


@pytest.mark.parametrize("options", PROBLEMS, ids=str)
def test_no_order_and_no_size_of_the_grid_changes_a_bit(options):
    generator = np.random.default_rng(0)
    x = generator.standard_normal((70, 1056), np.float32)
    blocks = options.get("block_size", (70, 1056))
    sizes = [n if b < 0 else b for n, b in zip(x.shape, blocks, strict=True)]
    grid = [-(-n // b) for n, b in zip(x.shape, sizes, strict=True)]
    scale = generator.random(grid, np.float32) + 0.5
    zero = generator.standard_normal(grid).astype(np.float32)
    found = []
    for seed, launch in enumerate([(1, 1), (1, 8), (3, 2), (16, 1), (200, 8)]):
        _cuda_host.set_launch(seed, *launch)
        mask = np.zeros(x.size // 8, np.uint8)
        results = [_cuda_host.fake_quantize(x, format="int4", **options)]
        results.append(
            _cuda_host.fake_quantize(x, scale, zero, format="int4", mask=mask, **options)
        )
        results.append(_cuda_host.masked_gradient(x, mask))
        results += _cuda_host.learned_gradient(x, x, scale, zero, format="int4", **options)
        found.append([r.tobytes() for r in (*results, mask)])
    assert all(other == found[0] for other in found[1:])


@pytest.mark.parametrize("symmetric", [True, False])
def test_a_large_gpu_shares_what_a_small_one_does_not(symmetric):
    x = np.random.default_rng(0).standard_normal((2000, 80), np.float32)
    options = {"block_size": (-1, 8), "symmetric": symmetric}
    found = []
    for multiprocessors in (1, 200):  # by slabs, and by a table of extremes
        _cuda_host.set_launch(1, multiprocessors)
        found.append(_cuda_host.fake_quantize(x, **options).tobytes())
    assert found[0] == found[1] == _C.reference.fake_quantize(x, **options).tobytes()


def test_a_fault_leaves_nothing_behind():
    x = np.ones((3, 5), np.float32)
    for _ in range(3):
        with pytest.raises(RuntimeError, match="race"):
            _cuda_host.run_case("plain_count")
        assert (_cuda_host.fake_quantize(x, np.ones((1, 1), np.float32)) == x).all()


def test_errors_are_those_of_the_other_bindings():
    with pytest.raises(TypeError, match="input has dtype int32"):
        _cuda_host.fake_quantize(np.zeros(3, np.int32))
    with pytest.raises(ValueError, match="there is no format int77|unknown format|int77"):
        _cuda_host.fake_quantize(np.zeros(3, np.float32), format="int77")
    with pytest.raises(TypeError, match="there is no argument colour"):
        _cuda_host.fake_quantize(np.zeros(3, np.float32), colour=1)
