#pragma once

// Codes, eight of a row at a time: as many bytes as a code has bits.

#include "quantize/codes.h"
#include "quantize/cuda/values.cuh"

namespace strop::quantize::cuda {
using namespace strop::cuda;

inline constexpr int kUnit = 8;

// Eight codes' bits, of which the first `count` are there.
struct CodeUnit {
  std::uint64_t word = 0;

  __device__ __forceinline__ void put(int i, int bits, std::uint32_t code) {
    word |= std::uint64_t{code} << (i * bits);
  }
  __device__ __forceinline__ std::uint32_t get(int i, int bits) const {
    return static_cast<std::uint32_t>(word >> (i * bits)) & ((1u << bits) - 1);
  }

  // To bytes, of which there are at most eight.
  __device__ __forceinline__ void store(std::uint8_t* to, int bytes) const {
    if (bytes == 4 && reinterpret_cast<std::uintptr_t>(to) % 4 == 0) {
      *reinterpret_cast<std::uint32_t*>(to) = static_cast<std::uint32_t>(word);
    } else if (bytes == 8 && reinterpret_cast<std::uintptr_t>(to) % 8 == 0) {
      *reinterpret_cast<std::uint64_t*>(to) = word;
    } else {
      for (int i = 0; i < bytes; ++i) to[i] = static_cast<std::uint8_t>(word >> (8 * i));
    }
  }
  __device__ __forceinline__ void load(const std::uint8_t* from, int bytes) {
    if (bytes == 4 && reinterpret_cast<std::uintptr_t>(from) % 4 == 0) {
      word = *reinterpret_cast<const std::uint32_t*>(from);
    } else if (bytes == 8 && reinterpret_cast<std::uintptr_t>(from) % 8 == 0) {
      word = *reinterpret_cast<const std::uint64_t*>(from);
    } else {
      word = 0;
      for (int i = 0; i < bytes; ++i) word |= std::uint64_t{from[i]} << (8 * i);
    }
  }
};

// Where a unit is: a row's place, a column, how many columns from there.
struct UnitPlace {
  Place row;
  std::int64_t column;
  int count;
};

// Calls visit(place) for the units of a problem's rows.
template <class A, class Visit>
__device__ __forceinline__ void for_each_unit(const Problem<A>& problem, const Divider& row_units,
                                              std::int64_t units, Visit visit) {
  const std::int64_t step = std::int64_t{gridDim.x} * blockDim.x;
  for (std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < units; i += step) {
    const std::int64_t row = row_units.quotient(i);
    const std::int64_t column = (i - row * row_units.divisor()) * kUnit;
    visit(UnitPlace{row_at(problem, row), column,
                    elements_left<kUnit>(problem.inner().size - column)});
  }
}

// Elements of a unit that one instruction loads or stores.
template <class T>
inline constexpr int kUnitVector =
    sizeof(T) == 2 ? kUnit : kVectorBytes / static_cast<int>(sizeof(T));

// A unit's elements, those that are not there 0. `whole`: rows may be read as vectors.
template <class T, class A>
__device__ __forceinline__ void load_unit(A (&x)[kUnit], const T* from, std::int64_t step,
                                          int count, bool whole) {
  constexpr int kVector = kUnitVector<T>;
  if (whole && count == kUnit) {
#pragma unroll
    for (int v = 0; v < kUnit / kVector; ++v) {
      const auto held = *reinterpret_cast<const Vector<T, kVector>*>(from + v * kVector);
      for (int i = 0; i < kVector; ++i) x[v * kVector + i] = widened(held.lane(i));
    }
    return;
  }
#pragma unroll
  for (int i = 0; i < kUnit; ++i) x[i] = i < count ? widened(from[i * step]) : A(0);
}

template <class T, class A>
__device__ __forceinline__ void store_unit(const A (&x)[kUnit], T* to, std::int64_t step, int count,
                                           bool whole) {
  constexpr int kVector = kUnitVector<T>;
  if (whole && count == kUnit) {
#pragma unroll
    for (int v = 0; v < kUnit / kVector; ++v) {
      Vector<T, kVector> held = {};
      for (int i = 0; i < kVector; ++i) held.fill(i, FromFloat<T>::call(x[v * kVector + i]));
      *reinterpret_cast<Vector<T, kVector>*>(to + v * kVector) = held;
    }
    return;
  }
#pragma unroll
  for (int i = 0; i < kUnit; ++i) {
    if (i < count) to[i * step] = FromFloat<T>::call(x[i]);
  }
}

// Parameters of all blocks, by their numbers: what quantize chose.
template <class A>
struct ParamTable {
  A* inverse;
  A* scale;
  A* zero_point;
};

// The stored code of one that is not clamped yet.
template <class A>
__device__ __forceinline__ std::uint32_t integer_code(A code, const RuleNumbers<A>& rule) {
  const A held = min(rule.quant_max, max(rule.quant_min, code));
  const int whole = held == held ? static_cast<int>(held) : 0;
  return static_cast<std::uint32_t>(whole) & ((1u << rule.bits) - 1);
}

template <class A>
__device__ __forceinline__ std::uint32_t nf4_code(A v) {
  std::uint32_t code = 0;
#pragma unroll
  for (int i = 0; i < 15; ++i) code += A(nf4_midpoint(i)) < v ? 1u : 0u;
  return code;
}

// A code's value, before the zero point.
template <class A>
__device__ __forceinline__ A value_of(std::uint32_t code, const RuleNumbers<A>& rule) {
  if (rule.grid == Grid::kFloat) return float_value<A>(code, rule);
  if (rule.grid == Grid::kNf4) {
    A value(nf4_value(0));
#pragma unroll
    for (int i = 1; i < 16; ++i)
      value = code == static_cast<std::uint32_t>(i) ? A(nf4_value(i)) : value;
    return value;
  }
  const int shift = 32 - rule.bits;
  return rule.is_signed ? A(static_cast<int>(code << shift) >> shift) : A(code);
}

}  // namespace strop::quantize::cuda
