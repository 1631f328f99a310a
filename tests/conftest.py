"""What each test runs with."""

import contextlib
import os

# Inductor's caches ignore the source of autograd kernels: after a change stale ones would be tested.
os.environ.setdefault("TORCHINDUCTOR_FORCE_DISABLE_CACHES", "1")

# Plans go by the shipped table: the same on every machine.
os.environ.setdefault("STROP_TUNE", "off")

import pytest

from core.devices import DEVICES, CudaHost, Device

with contextlib.suppress(ImportError):  # not everywhere that has a GPU
    import hypothesis

    hypothesis.settings.register_profile("strop", deadline=None, max_examples=200, derandomize=True)
    hypothesis.settings.load_profile("strop")


def pytest_collection_modifyitems(items):
    """Marks the tests of a device as cuda or cuda_host."""
    for item in items:
        parameters = getattr(item, "callspec", None)
        for device in parameters.params.values() if parameters is not None else ():
            if isinstance(device, Device) and not device.name.startswith("cpu"):
                item.add_marker(device.name.replace("-", "_"))


@pytest.fixture(params=DEVICES, ids=repr)
def device(request):
    """Every instruction set that this machine has, its GPU, and the GPU's kernels on the CPU."""
    with request.param as device:
        yield device


@pytest.fixture(params=[d for d in DEVICES if not isinstance(d, CudaHost)], ids=repr)
def torch_device(request):
    """Those of them that torch's tensors can be on."""
    with request.param as device:
        yield device


@pytest.fixture
def one_thread():
    """For times: two threads wait for each other where other work has the cores."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
