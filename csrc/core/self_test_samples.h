#pragma once

// What the self-tests are made of. Their code is compiled once, for any machine.

#include <cmath>
#include <cstring>
#include <iterator>
#include <limits>
#include <vector>

#include "core/dtype.h"
#include "core/tensor_view.h"

namespace strop {

// Ties, both zeros, subnormals, values that saturate, and (where wanted) NaN and Inf.
inline std::vector<float> sample_values(std::int64_t count, bool finite) {
  const float infinity = std::numeric_limits<float>::infinity();
  const float special[] = {0.5f,   -0.5f, 1.5f,    2.5f,     -0.0f,     1e-40f,
                           -3e38f, 1e30f, 65504.f, infinity, -infinity, std::nanf("")};
  const std::size_t kinds = finite ? 6 : std::size(special);
  std::vector<float> values(static_cast<std::size_t>(count));
  std::uint32_t state = 12345;
  for (std::size_t i = 0; i < values.size(); ++i) {
    state = state * 1664525u + 1013904223u;
    values[i] = static_cast<float>(static_cast<std::int32_t>(state)) * 0x1p-28f;
    if (i % 7 == 3) values[i] = special[i / 7 % kinds];
  }
  return values;
}

template <class T>
std::vector<T> stored(const std::vector<float>& values) {
  std::vector<T> result;
  for (const float value : values) result.push_back(FromFloat<T>::call(value));
  return result;
}

template <class T>
bool agree(T a, T b) {
  const float x = to_float(a), y = to_float(b);
  return std::memcmp(&a, &b, sizeof a) == 0 || (x != x && y != y);
}

inline TensorView view_of(void* data, DType dtype, const std::int64_t* shape,
                          const std::int64_t* stride) {
  return {.present = true,
          .dtype = dtype,
          .dims = 2,
          .device = 0,
          .data = data,
          .shape = shape,
          .stride = stride};
}

}  // namespace strop
