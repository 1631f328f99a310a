"""augment_images and warp_masks between pages that nobody may touch: what they read and write."""

import ctypes
import faulthandler
import mmap
import os
import warnings

import pytest
import torch

import strop
from augment.problems import (
    FILL_MODES,
    expected,
    expected_gradient,
    expected_masks,
    images,
    matrices,
    peculiar_matrices,
    same,
)
from core.devices import Device

PAGE = mmap.PAGESIZE
SIZES = [(1, 1), (2, 3), (5, 7), (16, 16), (9, 33), (31, 64), (64, 31)]
CHANNELS_LAST = torch.channels_last


class Guarded:
    """Memory whose neighbours are protected; keeps it while it lives."""

    def __init__(self):
        self.kept = []
        self.protect = ctypes.CDLL(None, use_errno=True).mprotect
        self.protect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]

    def put(self, tensor, at_end):
        """A dense tensor there, its last byte before a protected page or its first one after."""
        size = tensor.numel() * tensor.itemsize
        pages = -(-size // PAGE)
        memory = mmap.mmap(-1, (pages + 2) * PAGE)
        base = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        for page in (0, pages + 1):
            assert self.protect(base + page * PAGE, PAGE, 0) == 0
        self.kept.append(memory)
        start = PAGE + (pages * PAGE - size if at_end else 0)
        flat = torch.frombuffer(memory, dtype=tensor.dtype, count=tensor.numel(), offset=start)
        return flat.as_strided(tensor.shape, tensor.stride()).copy_(tensor)


def survives(work):
    """Runs work(say) in a child; fails with what it said last if it dies."""
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        process = os.fork()
    if process == 0:
        os.close(reader)
        faulthandler.disable()  # what it would print is no failure
        torch.set_num_threads(1)
        said = b""
        try:
            work(lambda *note: os.write(writer, repr(note).encode() + b"\n"))
            os._exit(0)
        except BaseException as error:
            said = str(error).encode()
        finally:
            os.write(writer, said + b"\n")
            os._exit(1)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        said = pipe.read().splitlines()
    status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    assert status == 0, f"ended with {status} after {said[-2:]}"


@pytest.fixture(params=strop.supported_isas())
def _isa(request):
    """Each instruction set in force. (A GPU's accesses are checked where its kernels run on a CPU.)"""
    with Device(request.param, isa=request.param):
        yield


def problems():
    """Images of every layout, and maps whose taps lie at all edges."""
    for number, size in enumerate(SIZES):
        for channels in (1, 3, 4):
            for dtype in (torch.uint8, torch.float32, torch.bfloat16):
                layout = (torch.contiguous_format, CHANNELS_LAST)[(number + channels) % 2]
                to = SIZES[-number]
                maps = torch.cat([matrices(4, size, to, number), peculiar_matrices(size, to)])
                image = images((len(maps), channels, *size), dtype, number)
                yield image.contiguous(memory_format=layout), maps, to, layout


def test_the_guard():
    def work(say):
        say("reads")
        guarded = Guarded().put(torch.zeros(8), True)
        ctypes.string_at(guarded.data_ptr(), 33)

    with pytest.raises(AssertionError, match="reads"):
        survives(work)


@pytest.mark.usefixtures("_isa")
@pytest.mark.parametrize("fill_mode", FILL_MODES)
@pytest.mark.parametrize("at_end", [False, True])
def test_images(fill_mode, at_end):
    def work(say):
        for number, (image, maps, to, layout) in enumerate(problems()):
            guarded = Guarded()
            dtype = (torch.float32, torch.uint8, torch.bfloat16)[number % 3]
            out = torch.empty(len(maps), image.shape[1], *to, dtype=dtype)
            out = guarded.put(out.contiguous(memory_format=layout), at_end)
            interpolation = ("bilinear", "nearest")[number // 9 % 2]
            say(image.dtype, dtype, list(image.shape), to, layout, interpolation)
            options = {"size": to, "fill_mode": fill_mode, "interpolation": interpolation}
            options["dtype"] = dtype
            given = guarded.put(image, at_end), guarded.put(maps, at_end)
            strop.augment_images(*given, out=out, **options)
            same(out, expected(image, maps, **options))
            plain = guarded.put(out.contiguous(memory_format=layout), at_end)
            strop.augment_images(given[0], size=to, dtype=dtype, out=plain)
            same(plain, expected(image, size=to, dtype=dtype))

    survives(work)


@pytest.mark.usefixtures("_isa")
@pytest.mark.parametrize("at_end", [False, True])
def test_masks_and_gradients(at_end):
    def work(say):
        for image, maps, to, _ in problems():
            guarded, size = Guarded(), image.shape[2:]
            say(image.dtype, list(image.shape), to)
            given = guarded.put(image, at_end), guarded.put(maps, at_end)
            out = guarded.put(torch.empty(*image.shape[:2], *to, dtype=image.dtype), at_end)
            same(strop.warp_masks(*given, size=to, out=out), expected_masks(image, maps, to))
            if image.dtype == torch.uint8:
                continue
            options = {"size": size, "dtype": image.dtype}
            found = torch.ops.strop._augment_gradient(out, given[1], None, **options)
            zeros = torch.zeros(image.shape, dtype=image.dtype)
            same(found, expected_gradient(out, zeros, maps, size=to))

    survives(work)
