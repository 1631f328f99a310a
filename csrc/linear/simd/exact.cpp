// Products of float32 with the values of codes, compiled once per instruction set. See Note
// [Products of codes on a CPU].

#include <cmath>
#include <type_traits>

#include "linear/simd/decode.h"
#include "linear/simd/finite.h"
#include "linear/simd/float_tiles.h"
#include "linear/simd/panel_tiles.h"

namespace strop::linear::simd::STROP_ISA {
namespace {

// What x was given at a place.
float given_at(const LinearRows& args, const CodesHeader& header, std::int64_t row,
               std::int64_t place) {
  const std::int64_t column = column_at(header, place);
  float x = 0;
  if (column < 0) return x;
  by_narrow_dtype(args.dtype, [&]<class T>() {
    x = to_float(static_cast<const T*>(args.x)[row * args.x_stride + column]);
  });
  return x;
}

// Beside a mask Inf and NaN are placed as 0, so that they meet no weight that was left out. Here
// they are multiplied with those that were kept: what comes of that is the same in any order.
void add_not_finite(const PanelBlock& block, std::int64_t row) {
  const CodesHeader& header = block.header;
  const auto* const words = reinterpret_cast<const std::uint64_t*>(block.layout() + header.masks) +
                            block.panel * header.panel_words();
  PanelCodes codes(block, block.spread);
  float* const sums = block.floats + row * kPanelRows;
  for (std::int64_t k = 0; k < header.places(); k += kGroupUnit) {
    const std::uint8_t* const from = codes.take(k, k + kGroupUnit);
    const std::int64_t group = k / header.stretch;
    const float* const scale = block.numbers<float>(header.scales, group);
    const float* const zero = block.numbers<float>(header.zeros, group);
    for (std::int64_t i = 0; i < kGroupUnit; ++i) {
      const float x = given_at(block.task.args, header, block.row + row, k + i);
      if (std::isfinite(x)) continue;
      for (std::int64_t n = 0; n < kPanelRows; ++n) {
        const std::int64_t number = number_of(header.store, place_of(header, k + i, n));
        if ((words[number / kWordCodes] >> number % kWordCodes & 1) == 0) continue;
        const float value = value_of(header, from, place_of(header, i, n));
        const float least = header.zeros != 0 ? zero[n] : static_cast<float>(header.same_zero);
        sums[n] += x * ((value - least) * scale[n]);
      }
    }
  }
}

void add_not_finite(const PanelBlock& block) {
  if (block.header.masks == 0) return;
  const bool* const finite = block.task.x_finite + block.row;
  if (std::memchr(finite, 0, static_cast<std::size_t>(block.rows)) == nullptr) return;
  for (std::int64_t row = 0; row < block.rows; ++row) {
    if (!finite[row]) add_not_finite(block, row);
  }
}

// Calls with_decoder.template operator()<Decoder>() with that of a layout.
template <class WithDecoder>
STROP_INLINE void by_decoder(const CodesHeader& header, WithDecoder with_decoder) {
  const bool zero = header.zeros != 0 || header.same_zero != 0;
  if (header.code_kind == CodeKind::kFloat) return with_decoder.template operator()<FloatDecoder>();
  if (header.store == CodeStore::kBytes) {
    return zero ? with_decoder.template operator()<ByteDecoder<true>>()
                : with_decoder.template operator()<ByteDecoder<false>>();
  }
#if defined(STROP_PLANES)
  if (header.zeros != 0) return with_decoder.template operator()<NibbleDecoder>();
  has_upper_only(header) ? with_decoder.template operator()<PlaneDecoder<true>>()
                         : with_decoder.template operator()<PlaneDecoder<false>>();
#else
  if constexpr (kOneTable) {
    if (header.zeros != 0) return with_decoder.template operator()<TableDecoder<true>>();
  } else {
    if (header.code_kind == CodeKind::kInteger) {
      return with_decoder.template operator()<NibbleDecoder>();
    }
  }
  with_decoder.template operator()<TableDecoder<false>>();
#endif
}

void put(const PanelBlock* blocks, int count) {
  for (int i = 0; i < count; ++i) add_not_finite(blocks[i]);
  count == 2 ? put_blocks<2>(blocks) : put_blocks<1>(blocks);
}

#if defined(STROP_FLOAT_TILES)
void multiply_by_float_tiles(const CodesTask& task, std::uint8_t* scratch, std::int64_t begin,
                             std::int64_t end) {
  const CodesHeader& header = task.args.header();
  if (header.code_kind == CodeKind::kValue) {
    return for_tile_panels<KeptTiles>(task, scratch, begin, end, put);
  }
  if (suits_row_tiles(header)) return for_tile_panels<RowTiles>(task, scratch, begin, end, put);
  by_decoder(header, [&]<class Decoder>() {
    for_tile_panels<DecodedTiles<Decoder>>(task, scratch, begin, end, put);
  });
}
#endif

// A row of x, each group from a place of its own on.
template <class T>
void place_row(const CodesTask& task, std::int64_t row) {
  const CodesHeader& header = task.args.header();
  const T* const x = static_cast<const T*>(task.args.x) + row * task.args.x_stride;
  auto* const to = static_cast<float*>(task.x) + row * header.places();
  for (std::int64_t g = 0; g < header.groups; ++g) {
    const std::int64_t first = g * header.group, left = header.columns - first;
    const std::int64_t count = left < header.group ? left : header.group;
    float* const at = to + g * header.stretch;
    for (std::int64_t k = 0; k < count; ++k) at[k] = to_float(x[first + k]);
    for (std::int64_t k = count; k < header.stretch; ++k) at[k] = 0;
  }
  if (header.masks == 0) return;
  task.x_finite[row] = all_finite(x, header.columns);
  if (task.x_finite[row]) return;
  for (std::int64_t k = 0; k < header.places(); ++k) {
    if (!std::isfinite(to[k])) to[k] = 0;
  }
}

}  // namespace

void widen_rows(const CodesTask& task, std::int64_t begin, std::int64_t end) {
#if defined(STROP_FLOAT_TILES)
  if (suits_float_tiles(task)) {
    for (std::int64_t row = begin; row < end; ++row) place_in_tiles(task, row);
    return;
  }
#endif
  by_narrow_dtype(task.args.dtype, [&]<class T>() {
    for (std::int64_t row = begin; row < end; ++row) place_row<T>(task, row);
  });
}

void multiply_exact(const CodesTask& task, std::uint8_t* scratch, std::int64_t begin,
                    std::int64_t end) {
#if defined(STROP_FLOAT_TILES)
  if (suits_float_tiles(task)) return multiply_by_float_tiles(task, scratch, begin, end);
#endif
  const auto multiply = [&]<class Decoder>() {
    multiply_panels<Decoder>(task, scratch, begin, end, put);
  };
  const CodesHeader& header = task.args.header();
  header.code_kind == CodeKind::kValue ? multiply.template operator()<ValueDecoder>()
                                       : by_decoder(header, multiply);
}

}  // namespace strop::linear::simd::STROP_ISA
