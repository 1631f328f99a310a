"""What augment_images and warp_masks say about arguments that do not fit."""

import re

import numpy as np
import pytest
import torch

import strop
from strop import _C

X = torch.zeros(2, 3, 4, 5, dtype=torch.uint8)
M = torch.zeros(2, 2, 3)
OUT = torch.zeros(2, 3, 4, 5)
INF = float("inf")
NEEDED = "float32, bfloat16, float16, float64 or uint8 is needed"
MODES = "'constant', 'hard_constant', 'nearest', 'reflect', 'mirror', 'wrap', 'grid_wrap'"


def refused(kind, text, *arguments, op="augment_images", **options):
    with pytest.raises(kind, match="^" + re.escape(f"strop.{op}: {text}")):
        getattr(strop, op)(*arguments, **options)


def cases_of_images():
    four = "four dimensions are needed: batch, channels, rows, columns"
    return [
        (TypeError, "images is a list; a tensor is needed", [1]),
        (TypeError, "images have dtype int32; uint8, float32, bfloat16", X.int()),
        (TypeError, "images have dtype bool; uint8, float32", X.bool()),
        (TypeError, "images has layout torch.sparse_coo; torch.strided is needed", X.to_sparse()),
        (ValueError, f"images have shape [3, 4, 5]; {four}", X[0]),
        (ValueError, "images of shape [2, 2, 4, 5] have 2 channels; 1, 3 or 4 are", X[:, :2]),
        (TypeError, "matrices is a list; a tensor is needed", X, [1]),
        (TypeError, "matrices have dtype int64; float32 or float64 is needed", X, M.long()),
        (TypeError, "matrices have dtype bfloat16; float32 or float64", X, M.bfloat16()),
        (
            ValueError,
            "matrices have shape [3, 2, 3]; [2, 2, 3] is needed for 2 images, or [1, 2, 3]",
            X,
            torch.zeros(3, 2, 3),
        ),
        (ValueError, "matrices have shape [2, 3]; [2, 2, 3] is needed", X, M[0]),
        (ValueError, "matrices and images are on different devices", X, M.to("meta")),
    ]


@pytest.mark.parametrize(("kind", "text", "x", "maps"), [(*c, None)[:4] for c in cases_of_images()])
def test_images_and_matrices(kind, text, x, maps):
    refused(kind, text, x, maps)


@pytest.mark.parametrize(
    ("kind", "text", "size"),
    [
        (TypeError, "size is a float; an int or a pair (rows, columns) is needed", 4.0),
        (TypeError, "size is a bool; an int or a pair", True),
        (TypeError, "size is a str; an int or a pair", "4"),
        (TypeError, "an entry of size is a float; an int is needed", (4, 5.0)),
        (ValueError, "size has 3 entries; rows and columns are needed", (4, 5, 6)),
        (ValueError, "size has 0 entries; rows and columns are needed", ()),
        (ValueError, "size is [-1, 5]; rows and columns must be 0 or more", (-1, 5)),
        (ValueError, "size has a side of 16777217 pixels; at most 16777216", (1, 2**24 + 1)),
    ],
)
def test_size(kind, text, size):
    refused(kind, text, X, M, size=size)
    refused(kind, text, X, M, size=size, op="warp_masks")


def test_images_of_too_many_pixels():
    wide = torch.zeros(1, dtype=torch.uint8).expand(1, 1, 2, 2**24 + 1)
    refused(ValueError, "images has a side of 16777217 pixels", wide, size=2)
    refused(ValueError, "masks has a side of 16777217 pixels", wide, None, size=2, op="warp_masks")


@pytest.mark.parametrize("name", ["mean", "std"])
def test_mean_and_std(name):
    def check(kind, text, value, **options):
        refused(kind, f"{name} {text}", X, **{name: value}, **options)

    channels = "2 values for images of 3 channels; one for each is needed, or one for all"
    check(ValueError, f"has {channels}", [1, 2])
    check(ValueError, f"has {channels}", torch.ones(2))
    check(ValueError, "has no values; one for each channel is needed, or one for all", [])
    check(ValueError, "has shape [3, 1]; one value for each channel", torch.ones(3, 1))
    check(ValueError, "is nan; it must be finite", float("nan"))
    check(ValueError, "is inf; it must be finite", [1, INF, 1])
    check(ValueError, "is -inf; it must be finite", torch.tensor([1, -INF, 1]))
    check(ValueError, "is beyond what float64 holds", 10**400)
    check(TypeError, "is a str; a number or a sequence of them is needed", "0.5")
    check(TypeError, "is a bool; a number or a sequence", True)
    check(TypeError, "has dtype torch.complex64; a real dtype is needed", torch.ones(3).cfloat())
    check(ValueError, "and images are on different devices", torch.ones(3, device="meta"))
    for value in (0.5, torch.ones(3)):
        text = "is given, and dtype is uint8, which is not normalised"
        check(ValueError, text, value, dtype=torch.uint8)
    for value in ([None], [True], ["a"]):
        kind = "None" if value == [None] else f"a {type(value[0]).__name__}"
        refused(TypeError, f"an entry of {name} is {kind}; a number", X, **{name: value})
    one = X[:, :1]
    refused(ValueError, f"{name} has 3 values for images of 1 channel; one is needed", one,
            **{name: [1, 2, 3]})  # fmt: skip


def test_std_of_zero():
    for std in (0, [1, 0, 1], torch.tensor([1.0, 1.0, 0.0]), torch.tensor(0)):
        refused(ValueError, "std is 0; it must be finite and not 0", X, std=std)
        out = OUT.clone().fill_(7)
        refused(ValueError, "std is 0", X, std=std, out=out)
        assert (out == 7).all()


def test_fill():
    refused(ValueError, "fill has 2 values for images of 3 channels", X, fill=[1, 2])
    refused(ValueError, "fill has 0 values for images of 3 channels", X, fill=[])
    for fill in (256, -1, INF, float("nan"), [0, 0, 255.5]):
        value = fill[-1] if isinstance(fill, list) else fill
        refused(ValueError, f"fill is {value}; uint8 images have values from 0", X, fill=fill)
    refused(TypeError, "fill is a Tensor; a number or a sequence of them", X, fill=torch.ones(3))
    refused(TypeError, "fill is a NoneType; a number or a sequence of them", X, fill=None)
    strop.augment_images(OUT, M, fill=[-1e9, INF, float("nan")])


class TestNumbersInTheTypeThatComputes:
    FLOATS = (torch.float32, torch.bfloat16, torch.float16)

    @pytest.mark.parametrize("as_tensor", [False, True])
    def test_mean_and_std(self, as_tensor):
        def check(text, x, dtype=torch.float32, **given):
            if as_tensor:
                given = {name: torch.tensor(value) for name, value in given.items()}
                if not all(value.isfinite().all() and value.all() for value in given.values()):
                    text = re.sub(" is .*", " is ", text)  # that of float32
            out = OUT.clone().to(dtype).fill_(7)
            refused(ValueError, text, x, **given, dtype=dtype)
            refused(ValueError, text, x, **given, dtype=dtype, out=out)
            assert (out == 7).all()

        for x in (X, OUT, OUT.half()):
            for dtype in self.FLOATS:
                check("mean is 1e+300 and std 1; mean / std must be finite in float32", x, dtype,
                      mean=1e300)  # fmt: skip
                check("std is 1e-300; its inverse must be finite and not 0 in float32", x, dtype,
                      std=[1, 1e-300, 1])  # fmt: skip
                check("std is 1e+300; its inverse must be finite and not 0", x, dtype, std=1e300)
                check("std is ", OUT, dtype, std=1e-45)
                check("mean is -1e+20 and std 1e-20; mean / std must be finite", x, dtype,
                      mean=-1e20, std=1e-20)  # fmt: skip
        refused(ValueError, "std is 1e-310; its inverse must be finite and not 0 in float64", OUT,
                std=1e-310, dtype=torch.float64)  # fmt: skip

    def test_float64_holds_more(self):
        x = torch.full((1, 1, 2, 2), 2.0, dtype=torch.float64)
        found = strop.augment_images(x, mean=1e300, std=1e290, dtype=torch.float64)
        assert (found == (2 - 1e300) / 1e290).all()
        found = strop.augment_images(x, std=1e-300, dtype=torch.float64)
        torch.testing.assert_close(found, x * 1e300)

    @pytest.mark.parametrize(
        ("dtype", "fill", "held"),
        [
            (torch.float32, 1e39, 3e38),
            (torch.float32, -1e300, -3e38),
            (torch.bfloat16, 3.4e38, 3.38e38),
            (torch.float16, 65520, 65519),
            (torch.float16, -1e6, -65504),
        ],
        ids=str,
    )
    def test_a_fill_that_the_dtype_does_not_hold(self, dtype, fill, held):
        name = str(dtype).removeprefix("torch.")
        x = OUT.to(dtype)
        for op, more in (("augment_images", {}), ("warp_masks", {})):
            refused(ValueError, f"fill is {fill:g}, which {name} does not hold", x, M, fill=fill,
                    op=op, **more)  # fmt: skip
        away = M + 999  # outside
        for value in (held, INF, -INF):
            wanted = torch.full(x.shape, value).to(dtype)
            assert torch.equal(strop.augment_images(x, away, fill=value, dtype=dtype), wanted)
            assert torch.equal(strop.warp_masks(x, away, fill=value), wanted)
        refused(ValueError, f"fill is {fill:g}, which", x, M, fill=[0, 0, fill])

    def test_a_fill_of_float64_keeps_its_bits(self, torch_device):
        x, away = OUT.double(), M + 999
        for fill in (0.1, 1e300, -1e-300):
            wanted = torch.full_like(x, fill)
            found = torch_device.augment_images(x, away, fill=fill, dtype=torch.float64)
            assert torch.equal(found, wanted)
            assert torch.equal(torch_device.warp_masks(x, away, fill=fill), wanted)

    @pytest.mark.parametrize(
        ("place", "value", "text"),
        [
            (0, INF, "angle is inf; it must be finite in float32"),
            (0, [0, float("nan")], "angle is nan; it must be finite in float32"),
            (1, (1e39, 0), "translate is 1e+39; it must be finite in float32"),
            (1, ((0, 0), (0, -1e300)), "translate is -1e+300; it must be"),
            (1, np.array([[0.0, INF]]), "translate is inf; it must be finite"),
            (1, (0, 10**400), "translate is beyond what float64 holds"),
            (2, 1e-300, "scale is 1e-300; its inverse must be finite in float32"),
            (2, 1e-39, "scale is 1e-39; its inverse must be finite in float32"),
            (2, 1e300, "scale is 1e+300; it must be finite in float32"),
            (2, [1, INF], "scale is inf; it must be finite in float32"),
            (2, np.array([1.0, 0.0]), "scale is [1. 0.]; it must be above 0"),
            (3, (0, INF), "shear is inf; it must be finite in float32"),
            (3, np.float64("nan"), "shear is nan; it must be finite"),
        ],
    )
    def test_affine_matrix(self, place, value, text):
        given = [0, (0, 0), 1, 0, 8, 9]
        given[place] = value
        refused(ValueError, text, *given, op="affine_matrix")

    @pytest.mark.parametrize("place", range(6))
    def test_keras_matrix(self, place):
        name = ("theta", "tx", "ty", "shear", "zx", "zy")[place]
        for value in (INF, 1e300, [1, float("nan")], np.array([-1e39])):
            given = [0, 0, 0, 0, 1, 1, 8, 9]
            given[place] = value
            refused(ValueError, f"{name} is ", *given, op="keras_matrix")

    def test_what_they_do_hold(self):
        assert strop.affine_matrix(1e30, (3e38, -3e38), 1e-37, 90, 8, 9).shape == (1, 2, 3)
        big = strop.affine_matrix(0, (0, 0), 1e37, 0, 8, 9)
        assert big[0, 0, 0] == torch.tensor(1e-37)


# As scipy, Keras, OpenCV, numpy, torchvision, torch and kornia write them.
ELSEWHERE = {
    "constant": ["grid-constant", "CONSTANT", "Constant", "BORDER_CONSTANT", "cv2.BORDER_CONSTANT", "zeros"],
    "hard_constant": ["hard-constant", "HARD_CONSTANT", "hard constant"],
    "nearest": ["edge", "border", "replicate", "BORDER_REPLICATE", "NEAREST", "Edge"],
    "reflect": ["symmetric", "SYMMETRIC", "grid-mirror", "BORDER_REFLECT", "reflection", "REFLECT"],
    "mirror": ["BORDER_REFLECT_101", "BORDER_REFLECT101", "cv2.BORDER_DEFAULT", "reflect_101", "Mirror"],
    "wrap": ["Wrap", "WRAP"],
    "grid_wrap": ["grid-wrap", "circular", "BORDER_WRAP", "GRID_WRAP"],
}  # fmt: skip


@pytest.mark.parametrize("ours", ELSEWHERE)
def test_other_spellings_of_fill_modes(ours):
    for name in ELSEWHERE[ours]:
        text = f"fill_mode is '{name}'; one of {MODES} is needed; that is '{ours}'"
        refused(ValueError, text, X, M, fill_mode=name)
        refused(ValueError, text, X, fill_mode=name)  # where it does not matter as well
    with pytest.raises(ValueError, match="'grid_wrap' is needed$"):
        strop.augment_images(X, M, fill_mode="linear_ramp")


def test_names():
    refused(ValueError, f"fill_mode is 'edge'; one of {MODES} is needed", X, fill_mode="edge")
    text = "interpolation is 'bicubic'; one of 'bilinear', 'nearest' is needed"
    refused(ValueError, text, X, interpolation="bicubic")
    refused(TypeError, "interpolation is a int; a string is needed", X, interpolation=2)
    refused(TypeError, "fill_mode is a NoneType; a string is needed", X, fill_mode=None)


def test_dtype_and_memory_format():
    refused(TypeError, f"dtype is int32; {NEEDED}", X, dtype=torch.int32)
    refused(TypeError, f"dtype is bits8; {NEEDED}", X, dtype=torch.bits8)
    refused(TypeError, f"dtype is float8_e5m2; {NEEDED}", X, dtype=torch.float8_e5m2)
    refused(TypeError, "dtype is a str; a torch.dtype is needed", X, dtype="float32")
    text = "memory_format is torch.preserve_format; torch.contiguous_format or torch.channels_last"
    refused(ValueError, text, X, memory_format=torch.preserve_format)
    text = "memory_format is a str; a torch.memory_format is needed"
    refused(TypeError, text, X, memory_format="channels_last")


def test_out():
    refused(TypeError, "out is a int; a tensor is needed", X, out=3)
    refused(TypeError, "out has dtype float64; float32 is needed", X, out=OUT.double())
    refused(TypeError, "out has dtype float32; bfloat16", X, out=OUT, dtype=torch.bfloat16)
    text = "out has shape [2, 3, 4, 5]; [2, 3, 4, 4] is needed"
    refused(ValueError, text, X, out=OUT, size=(4, 4))
    text = "elements of out share memory (an expanded tensor?); each needs a place of its own"
    refused(ValueError, text, X, out=OUT[:1].expand(2, 3, 4, 5))
    refused(ValueError, "out overlaps images; give a tensor apart", OUT, out=OUT)
    flat = torch.zeros(200)
    images, out = flat[:120].view(2, 3, 4, 5), flat[60:180].view(2, 3, 4, 5)
    refused(ValueError, "out overlaps images", images, out=out)
    maps = flat[60:72].view(2, 2, 3)
    refused(ValueError, "out overlaps matrices", X, maps, out=out)
    refused(ValueError, "out overlaps mean", X, mean=flat[61:64], out=out)
    refused(ValueError, "out overlaps std", X, std=flat[61:64].fill_(1), out=out)
    refused(ValueError, "out and images are on different devices", X, out=OUT.to("meta"))


def test_masks():
    def check(kind, text, *arguments, **options):
        refused(kind, text, *arguments, **options, op="warp_masks")

    dims = "[batch, rows, columns] or [batch, channels, rows, columns] is needed"
    check(TypeError, "masks is a int; a tensor is needed", 3, M)
    check(TypeError, "masks have dtype complex64; bool, an integer or a floating", X.cfloat(), M)
    check(ValueError, f"masks have shape [4, 5]; {dims}", X[0, 0], M)
    check(ValueError, f"masks have shape [1, 2, 3, 4, 5]; {dims}", X[None], M)
    check(TypeError, "matrices have dtype float16; float32 or float64 is needed", X, M.half())
    check(ValueError, "matrices have shape [2, 2, 3]; [1, 2, 3] is needed for 1 masks", X[:1], M)
    check(ValueError, "matrices and masks are on different devices", X, M.to("meta"))
    check(ValueError, "fill is 300, which uint8 does not hold", X, M, fill=300)
    check(ValueError, "fill is 0.5, which uint8 does not hold", X, M, fill=0.5)
    check(ValueError, "fill is -1, which uint8 does not hold", X, M, fill=-1)
    check(ValueError, "fill is 2, which bool does not hold", X.bool(), M, fill=2)
    check(ValueError, "fill is nan, which int64 does not hold", X.long(), M, fill=float("nan"))
    check(ValueError, "fill is 128, which int8 does not hold", X.to(torch.int8), M, fill=128)
    text = f"fill is {2**53 + 1}, which float64 does not hold; 2**53 does fit"
    check(ValueError, text, X.long(), M, fill=2**53 + 1)
    check(ValueError, "fill is beyond what float64 holds", X.long(), M, fill=10**400)
    check(TypeError, "fill is None; a number is needed", X, M, fill=None)
    check(TypeError, "fill is a str; a number is needed", X, M, fill="0")
    check(ValueError, "out overlaps masks; give a tensor apart", X, M, out=X)
    check(TypeError, "out has dtype float32; uint8 is needed", X, M, out=OUT)
    check(ValueError, "out has shape [2, 3, 4, 5]; [2, 3, 9, 9] is", X, M, size=9, out=X.clone())
    check(ValueError, "elements of out share memory", X[:, 0], M, out=X[:1, 1].expand(2, 4, 5))


def test_raw_ops_and_bindings_say_the_same():
    text = re.escape("strop.augment_images: fill is 300; uint8 images have values from 0 to 255")
    with pytest.raises(RuntimeError, match=text):
        torch.ops.strop.augment_images(X, M, fill=[300.0])
    for module in (_C.cpu, _C.reference):
        with pytest.raises(ValueError, match=text):
            module.augment_images(X.numpy(), M.numpy(), fill=[300.0])
        with pytest.raises(ValueError, match="std is 0; it must be finite and not 0"):
            module.augment_images(X.numpy(), std_array=np.zeros(3, np.float32))
        with pytest.raises(TypeError, match="there is no argument colour"):
            module.augment_images(X.numpy(), colour=1)
    text = "strop.warp_masks: fill is 300, which uint8 does not hold"
    with pytest.raises(RuntimeError, match=text):
        torch.ops.strop.warp_masks(X, M, fill=300.0)
    with pytest.raises(ValueError, match=text):
        _C.cpu.warp_masks(X.numpy(), M.numpy(), fill=300.0)
    with pytest.raises(RuntimeError, match="there is no such gradient"):
        torch.ops.strop._augment_gradient(OUT, M, None, size=[4, 5], dtype=torch.uint8)
    with pytest.raises(RuntimeError, match="there is no gradient of uint8"):
        torch.ops.strop._augment_gradient(X, M, None, size=[4, 5])
    with pytest.raises(RuntimeError, match="matrices have shape"):
        torch.ops.strop._augment_gradient(OUT, torch.zeros(3, 2, 3), None, size=[4, 5])
