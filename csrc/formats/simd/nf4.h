#pragma once

// The nearest value of NF4, by a search in halves where an instruction looks lanes up in a table;
// elsewhere fifteen comparisons do (nearest_nf4 in formats/number_grid.h). Compiled once per
// instruction set.

#include "core/simd/vector.h"
#include "formats/number_grid.h"

namespace strop::simd::STROP_ISA {

#if defined(__AVX2__)
// A true comparison is -1, and sums of them are minus the number of a table's entry: entry i is
// where -i points to.
struct alignas(64) Nf4Tables {
  float quarters[kLanes];  // the midpoints 1, 5, 9, 13
  float eighths[kLanes];   // the midpoints 0, 2, ... 14
  float low[kLanes];       // the values 0 to 7
  float high[kLanes];      // the values 8 to 15; for 16 lanes all of them are here
};

constexpr Nf4Tables nf4_tables() {
  Nf4Tables tables{};
  for (int i = 0; i < 8; ++i) {
    const int at = (kLanes - i) % kLanes;
    if (i < 4) tables.quarters[at] = nf4_midpoint(4 * i + 1);
    tables.eighths[at] = nf4_midpoint(2 * i);
    tables.low[at] = nf4_value(i);
    tables.high[at] = nf4_value(i);
  }
  for (int i = 8; i < 16; ++i) tables.high[(2 * kLanes - i) % kLanes] = nf4_value(i);
  return tables;
}
inline constexpr Nf4Tables kNf4Tables = nf4_tables();

struct Nf4Place {
  I32 minus_code;
  I32 upper;  // whether the code is 8 or more
};

STROP_INLINE F32 nf4_at(const Nf4Place& place) {
  const F32 value = permuted(load(kNf4Tables.high).v, place.minus_code);
  if constexpr (kLanes == 16) return value;
  return select(place.upper, value, permuted(load(kNf4Tables.low).v, place.minus_code));
}

STROP_INLINE Nf4Place find_nf4(Vec v) {
  const auto above = [&](F32 bound) { return I32(v.v > bound); };
  const I32 half = above(broadcast(nf4_midpoint(7)));
  const F32 second = select(half, broadcast(nf4_midpoint(11)), broadcast(nf4_midpoint(3)));
  const I32 quarter = half + half + above(second);
  const I32 eighth = quarter + quarter + above(permuted(load(kNf4Tables.quarters).v, quarter));
  return {eighth + eighth + above(permuted(load(kNf4Tables.eighths).v, eighth)), half};
}

STROP_INLINE Vec nearest_nf4(Vec v) {
  return Vec::wrap(select(I32(v.v == v.v), nf4_at(find_nf4(v)), v.v));
}
STROP_INLINE I32 nf4_codes(Vec v) { return I32{} - find_nf4(v).minus_code; }
STROP_INLINE Vec nf4_values(I32 codes) {
  return Vec::wrap(nf4_at({I32{} - codes, I32(codes >= broadcast(std::int32_t{8}))}));
}
#else
STROP_INLINE I32 nf4_codes(Vec v) {
  I32 codes{};
  for (int i = 0; i < 15; ++i) codes -= I32(v.v > broadcast(nf4_midpoint(i)));  // a true lane is -1
  return codes;
}
STROP_INLINE Vec nf4_values(I32 codes) {
  F32 values{};
  for (int lane = 0; lane < kLanes; ++lane) values[lane] = nf4_value(codes[lane] & 15);
  return Vec::wrap(values);
}
#endif

}  // namespace strop::simd::STROP_ISA
