"""Every family's ops, and what a forked child makes of them. Run by test_fork.py, in a process of its own.

A child has no use of torch's threads: it touches tensors by ops that need none, and compares bytes.
"""

import hashlib
import os
import sys
import threading

import torch
from torch import Tensor

import strop
from strop._core.library import ops
from strop._linear import ops as _linear_ops


def digest(results) -> str:
    """Of the bytes of tensors, in any nesting."""
    found = hashlib.sha256()

    def take(item):
        if isinstance(item, Tensor):
            assert item.is_contiguous()
            width = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[item.itemsize]
            found.update(item.detach().view(width).numpy().data)
        elif isinstance(item, strop.QuantizedTensor):
            take([item.codes, item.scale])
        elif isinstance(item, list | tuple):
            for each in item:
                take(each)

    take(results)
    return found.hexdigest()


class Problems:
    """Inputs that are worth several threads, and calls on them."""

    def __init__(self) -> None:
        g = torch.Generator().manual_seed(0)
        self.x = torch.randn(600, 1000, generator=g)
        self.wide = self.x[:60].double()
        self.columns = self.x.t().contiguous()
        self.half = self.x.to(torch.bfloat16)
        self.scale = torch.rand(600, 1, generator=g) + 0.1
        self.mask = self.x > 0
        self.weight = torch.where(torch.rand(300, 1000, generator=g) < 0.3, self.x[:300], 0)
        self.bits, self.values = _linear_ops.pack_masked(self.weight, None)
        self.layouts = {
            n: _linear_ops.layout(self.bits, self.values, 1000, n)
            for n in ("mask", "quads", "pairs")
        }
        self.images = torch.randint(0, 256, (16, 3, 64, 64), dtype=torch.uint8, generator=g)
        self.floats = torch.rand(16, 3, 64, 64, generator=g)
        self.matrices = torch.eye(2, 3).repeat(16, 1, 1) + 0.01 * torch.randn(16, 2, 3, generator=g)
        self.points = torch.rand(16, 9000, 2, generator=g)
        self.boxes = torch.rand(16, 9000, 4, generator=g) * 60
        self.one = torch.tensor(0.1)
        self.signs = torch.zeros(600 * 1000 // 8, dtype=torch.uint8)
        self.q = strop.quantize(self.x, format="int4", block_size=(1, 50))
        self.codes = torch.randint(0, 8, (600, 1000), dtype=torch.uint8, generator=g)
        self.packed = strop.pack_bits(self.codes, 3)
        self.packed_mask = strop.pack_mask(self.mask)
        self.calls = {**self.quantize(), **self.prune(), **self.linear(), **self.augment()}

    def quantize(self):
        x, scale = self.x, self.scale
        blocks = {"block_size": (1, -1)}
        learned = (self.x, self.x, scale, None, "int4", [1, -1], "half_even", True)
        return {
            "fake_quantize": lambda: strop.fake_quantize(x, scale, **blocks),
            "chosen": lambda: strop.fake_quantize(self.half, format="mxfp8_e5m2"),
            "whole": lambda: strop.fake_quantize(x, symmetric=False, format="uint8"),
            "two levels": lambda: strop.fake_quantize(x, format="nvfp4"),
            "stochastic": lambda: strop.fake_quantize(
                x, scale, **blocks, rounding="stochastic", seed=1
            ),
            "strided": lambda: strop.fake_quantize(x.t(), self.one, out=torch.empty(1000, 600)),
            "in place": lambda: strop.fake_quantize_(
                strop.fake_quantize(x, scale, **blocks), self.one
            ),
            "float64": lambda: strop.fake_quantize(self.wide, self.one.double()),
            "quantize": lambda: strop.quantize(x, format="nf4", block_size=(1, 64)),
            "choose_scale": lambda: list(
                strop.choose_scale(x, format="int8", block_size=(1, 10))[:1]
            ),
            "dequantize": lambda: strop.dequantize(self.q),
            "pack_bits": lambda: strop.pack_bits(self.codes, 3),
            "pack_bits, strided": lambda: strop.pack_bits(self.codes.t(), 3),
            "unpack_bits": lambda: strop.unpack_bits(self.packed, 3, 1000),
            "masked gradient": lambda: ops._masked_gradient(x, self.signs),
            "learned gradient": lambda: ops._learned_gradient(*learned),
        }

    def prune(self):
        x = self.x
        return {
            "threshold": lambda: strop.prune_mask(x, threshold=0.5),
            "sparsity": lambda: strop.prune_mask(x, sparsity=0.5),
            "mask of columns": lambda: strop.prune_mask(x.t(), sparsity=0.5, per="row"),
            "2:4": lambda: strop.prune_mask(x, pattern="2:4"),
            "several": lambda: ops.prune_masks([x, self.weight], 0.5),
            "soft_threshold": lambda: strop.soft_threshold(x, 0.5),
            "its gradient": lambda: ops._soft_threshold_gradient(x, x, 0.5),
            "pack_mask": lambda: strop.pack_mask(self.mask),
            "unpack_mask": lambda: strop.unpack_mask(self.packed_mask, 1000),
        }

    def linear(self):
        def multiplied(layout, rows):
            return lambda: _linear_ops.by_layout(
                self.x[:rows], self.layouts[layout], 300, None, "gelu"
            )

        calls = {f"{n}, {r} rows": multiplied(n, r) for n in self.layouts for r in (1, 5, 600)}
        return calls | {
            "strided rows": lambda: _linear_ops.by_layout(
                self.columns.t(), self.layouts["quads"], 300, None, ""
            ),
            "pack_masked": lambda: list(_linear_ops.pack_masked(self.weight, None)),
            "unpack_masked": lambda: _linear_ops.unpack_masked(self.bits, self.values, 1000),
            "layout": lambda: _linear_ops.layout(self.bits, self.values, 1000, "pairs"),
        }

    def augment(self):
        images, floats, matrices = self.images, self.floats, self.matrices
        size = {"size": (64, 64)}
        return {
            "bytes": lambda: strop.augment_images(images, matrices, dtype=torch.uint8),
            "bytes to floats": lambda: strop.augment_images(images, matrices, fill_mode="reflect"),
            "floats": lambda: strop.augment_images(floats, matrices),
            "resized": lambda: strop.augment_images(images, size=(40, 50)),
            "gradient": lambda: ops._augment_gradient(floats, matrices, None, **size),
            "masks": lambda: strop.warp_masks(images[:, 0], matrices),
            "points": lambda: strop.warp_points(self.points, matrices),
            "boxes": lambda: strop.warp_boxes(self.boxes, matrices, **size),
        }

    def digests(self):
        return {name: digest(call()) for name, call in self.calls.items()}


def compare(problems, expected) -> None:
    for name, found in problems.digests().items():
        assert found == expected[name], name


def in_child(work) -> int:
    """The number of a child that does it, and says how that went by its exit status."""
    child = os.fork()
    if child:
        return child
    try:
        work()
    except BaseException as error:
        os.write(2, f"{type(error).__name__}: {error}\n".encode())
        os._exit(1)
    os._exit(0)


def wait_for(child: int) -> None:
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0, f"child {child} failed"


def use_threads() -> None:
    """Makes torch start its threads."""
    torch.set_num_threads(4)
    assert float(torch.ones(1 << 22).sum()) == 1 << 22


def after_threads() -> None:
    use_threads()
    problems = Problems()
    expected = problems.digests()

    def child() -> None:
        assert torch.get_num_threads() == 4
        compare(problems, expected)
        wait_for(in_child(lambda: compare(problems, expected)))  # a grandchild
        torch.set_num_threads(3)
        compare(problems, expected)
        failures = []

        def work() -> None:
            try:
                compare(problems, expected)
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures, failures
        torch.set_num_threads(1)
        compare(problems, expected)

    wait_for(in_child(child))
    compare(problems, expected)  # the parent goes on as before


def inside_an_op() -> None:
    """Forks while other threads are at work, the first time while a set is tested before its first use."""
    use_threads()
    stop = threading.Event()
    x, scale = torch.ones(2000, 1000), torch.tensor(0.3)

    def work() -> None:
        while not stop.is_set():
            strop.fake_quantize(x, scale)
            strop.prune_mask(x, sparsity=0.5)
            strop.fake_quantize(x, scale, quant_max=int(torch.randint(1, 120, ())))

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    few = torch.ones(300_000)
    wait_for(in_child(lambda: strop.fake_quantize(few, scale)))  # before the first call has ended
    expected = digest(strop.fake_quantize(few, scale))

    def child() -> None:
        strop.fake_quantize(few, scale, quant_max=121)  # a specification of its own
        strop.prune_mask(few, sparsity=0.5)
        assert digest(strop.fake_quantize(few, scale)) == expected

    for _ in range(20):
        wait_for(in_child(child))
    stop.set()
    for thread in threads:
        thread.join()


def before_threads() -> None:
    """A process without other threads loses none."""
    if len(os.listdir("/proc/self/task")) > 1:
        print("other threads are there from the start")
        return

    def child() -> None:
        torch.set_num_threads(3)
        x = torch.ones(3000, 1000)
        assert digest(strop.fake_quantize(x, torch.tensor(0.5))) == digest(torch.ones(3000, 1000))
        assert len(os.listdir("/proc/self/task")) > 1

    wait_for(in_child(child))


def by_a_data_loader() -> None:
    use_threads()
    problems = Problems()
    expected = problems.digests()

    class Samples(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return 4

        def __getitem__(self, index: int) -> list[bool]:
            return [d == expected[name] for name, d in problems.digests().items()]

    loader = torch.utils.data.DataLoader(
        Samples(), batch_size=None, num_workers=2, multiprocessing_context="fork"
    )
    for sample in loader:
        assert all(sample)


if __name__ == "__main__":
    {f.__name__: f for f in (after_threads, inside_an_op, before_threads, by_a_data_loader)}[
        sys.argv[1]
    ]()
    print("done")
