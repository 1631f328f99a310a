"""The registry's cases under pytest-benchmark: ``pytest benchmarks --benchmark-enable``."""

import pytest

from strop._bench import registry

CASES = [case for case in registry.cases() if not case.threads]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.family}: {case.name}")
@pytest.mark.parametrize("contender", ["strop", "copy_", "torch", "torchao"])
def test_case(benchmark, case, contender):
    makers = case.contenders()
    if contender not in makers:
        pytest.skip(f"{contender} is no contender of this case")
    try:
        call = makers[contender]()
    except ImportError as error:
        pytest.skip(f"{contender} is not installed: {error}")
    benchmark.group = f"{case.family}: {case.name}"
    benchmark(call)
