"""Weights in codes, and what products with them have to be."""

import torch

import strop
from core.devices import oracle
from linear.problems import generator
from strop import _C
from strop._linear import ops
from strop._quantize.formats import decoded_scales

INTEGERS = ("int2", "int3", "int4", "int5", "int6", "int7", "int8")
UNSIGNED = ("uint2", "uint3", "uint4", "uint5", "uint6", "uint7", "uint8")
FLOATS = ("float8_e4m3fn", "float8_e5m2", "float6_e2m3fn", "float6_e3m2fn", "float4_e2m1fn", "nf4")
RECIPES = ("mxfp8", "mxfp8_e5m2", "mxfp6_e2m3", "mxfp6_e3m2", "mxfp4", "nvfp4")


def as_multiplied(dense, x):
    """A weight as kernels of exact codes multiply it: AMX has that of bfloat16, for such an input of 8 rows and more."""
    rounds = _C.isa() == "amx" and x.dtype == torch.bfloat16 and x.shape[0] >= 8
    return dense.bfloat16() if rounds else dense


class CodedWeight:
    """A quantized weight: a byte a code, float32 scales and zero points, and its layout."""

    def __init__(self, shape, format, group=None, activations="", *, symmetric=True, seed=0):
        weight = torch.randn(shape, generator=generator(seed))
        recipe = format in RECIPES
        options = {} if recipe else {"block_size": (1, -1 if group is None else group)}
        if not symmetric:
            options["symmetric"] = False
        self.quantized = strop.quantize(weight, format=format, **options)
        self.format = strop.NumberFormat.get(format)
        self.group = self.format.block or group or max(shape[1], 1)
        self.activations = activations
        codes = self.quantized.codes
        self.codes = strop.unpack_bits(codes, self.format.bits, shape[1])
        scale = decoded_scales(self.format, self.quantized.scale)
        if self.quantized.tensor_scale is not None:
            scale = self.quantized.tensor_scale * scale
        self.scale = scale.contiguous()
        zero = self.quantized.zero_point
        self.zero = None if zero is None else zero.float().contiguous()
        self.shape = shape

    def layout(self):
        return ops.codes_layout(
            self.codes, self.scale, self.zero, self.group, self.format.name, self.activations
        )

    def multiplied(self, x, bias=None, activation=""):
        return ops.by_layout(x, self.layout(), self.shape[0], bias, activation)

    def by_oracle(self, x, bias=None, activation=""):
        layout = self.layout().numpy()
        return oracle("packed_linear")(x, torch.from_numpy(layout), bias, activation=activation)

    def integers(self):
        """Codes less their zero points."""
        codes = self.codes.long()
        if self.format.min < 0:
            half = 1 << (self.format.bits - 1)
            codes = torch.where(codes >= half, codes - 2 * half, codes)
        if self.zero is None:
            return codes
        zero = self.zero.long().repeat_interleave(self.group, 1)[:, : self.shape[1]]
        return codes - zero

    def by_torch(self, x, bias=None):
        """The product as docs/numerics.md has it for integer activations, in torch's own steps."""
        if x.dim() != 2:
            return self.by_torch(x.reshape(-1, x.shape[-1]), bias).unflatten(0, x.shape[:-1])
        symmetric = self.activations == "int8"
        q = strop.quantize(
            x.float(), format=self.activations, symmetric=symmetric, block_size=(1, -1)
        )
        x_codes = q.codes.view(torch.int8).long() if symmetric else q.codes.long()
        if q.zero_point is not None:
            x_codes = x_codes - q.zero_point.long()
        w, total = self.integers(), None
        groups = range(self.scale.shape[1])
        for g in groups:
            part = slice(g * self.group, (g + 1) * self.group)
            sums = (x_codes[:, part].double() @ w[:, part].double().T).float()
            scale = self.scale[:, g]
            if len(groups) == 1:
                total = sums * (q.scale * scale)
            else:
                total = sums * scale if total is None else total + sums * scale
        if len(groups) > 1:
            total = total * q.scale
        total = total if bias is None else total + bias
        return total.to(x.dtype)


def random_input(rows, columns, dtype=torch.float32, seed=5):
    x = torch.randn(rows, columns, generator=generator(seed + rows)) + 0.3
    return x.to(dtype)
