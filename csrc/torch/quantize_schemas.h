#pragma once

#include <string>

#include "torch/quantize_codes_ops.h"

namespace strop {

template <class Library>
void define_quantize_ops(Library& m) {
  const auto schema = [](const char* before, const char* arguments, const char* after) {
    return std::string(before) + arguments + after;
  };
  const std::string spelled_arguments = std::string(kSpelledArguments) + kGradFactor;
  const char* const spelled = spelled_arguments.c_str();
  const char* const packed = kPackedArguments;
  const char* const made = ") -> Tensor";
  const char* const given = ", *, Tensor(a!) out) -> ()";
  const char* const learned = ") -> (Tensor, Tensor, Tensor)";
  m.def(schema("fake_quantize(Tensor x, ", spelled, made).c_str());
  m.def(schema("fake_quantize.out(Tensor x, ", spelled, given).c_str());
  m.def(schema("fake_quantize_(Tensor(a!) x, ", spelled, ") -> ()").c_str());
  m.def(schema("_fake_quantize(Tensor x, ", packed, made).c_str());
  m.def(schema("_fake_quantize.out(Tensor x, ", packed, given).c_str());
  m.def(schema("_fake_quantize_(Tensor(a!) x, ", packed, ") -> ()").c_str());
  m.def(schema("_fake_quantize_with_mask(Tensor x, ", spelled, ") -> (Tensor, Tensor)").c_str());
  m.def(schema("_fake_quantize_with_mask.packed(Tensor x, ", packed, ") -> (Tensor, Tensor)")
            .c_str());
  m.def("_masked_gradient(Tensor gradient, Tensor mask) -> Tensor");
  m.def("_masked_gradient.out(Tensor gradient, Tensor mask, *, Tensor(a!) out) -> ()");
  m.def(schema("_learned_gradient(Tensor gradient, Tensor x, ", spelled, learned).c_str());
  m.def(schema("_learned_gradient.packed(Tensor gradient, Tensor x, ", packed,
               ", float grad_factor=1.0) -> (Tensor, Tensor, Tensor)")
            .c_str());
  m.def(schema("quantize(Tensor x, ", kSpelledArguments, ") -> (Tensor, Tensor, Tensor, Tensor)")
            .c_str());
  m.def(
      "choose_scale(Tensor x, str format, int[] block_size, bool symmetric, int? quant_min=None, "
      "int? quant_max=None, float? eps=None) -> (Tensor, Tensor, Tensor)");
  m.def(
      schema("dequantize(", kKeptArguments, "SymInt[] shape, ScalarType dtype) -> Tensor").c_str());
  m.def(schema("dequantize.out(", kKeptArguments, "*, Tensor(a!) out) -> ()").c_str());
  m.def("pack_bits(Tensor codes, int bits) -> Tensor");
  m.def("unpack_bits(Tensor packed, int bits, SymInt count) -> Tensor");
  m.def("unpack_bits.out(Tensor packed, int bits, SymInt count, *, Tensor(a!) out) -> ()");
}

}  // namespace strop
