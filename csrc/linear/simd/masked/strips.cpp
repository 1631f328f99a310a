// Strips times tiles of x, compiled once per instruction set (STROP_ISA). See Note [Strips
// on a CPU].

#include <bit>

#include "core/simd/unroll.h"
#include "linear/kernels.h"
#include "linear/simd/masked/put_tile.h"

namespace strop::linear::simd::STROP_ISA {
using namespace strop::simd::STROP_ISA;
namespace {

// Registers of a tile's columns, under strips of 4 and of 2: eight sums and what they need fit 16
// registers. AArch64 and AVX-512 have 32; of the latter more than four hold more than a first
// cache.
#if defined(STROP_NEON)
constexpr int kMaxRegisters[2] = {4, 8};
#elif defined(__AVX512F__)
constexpr int kMaxRegisters[2] = {4, 4};
#else
constexpr int kMaxRegisters[2] = {2, 4};
#endif
constexpr std::int64_t kAhead = 4096;  // bytes; what few rows of x leave waiting for memory

// Weight kPlace of a record in every lane. AVX-512 loads it, so that no port that multiplies is
// taken.
template <int kPlace, class V>
STROP_INLINE F32 shared_weight(const V* weights) {
  if constexpr (kLanes == 16 && sizeof(V) == 4) {
    return broadcast_from(weights + kPlace);
  } else {
    return splat<kPlace % 4>(four_repeated(weights + kPlace / 4 * 4));
  }
}

// A strip's sums over one block of columns, of weights V. `record` moves on; `columns` are the
// record's.
template <int kInterleave, int kRegisters, class V>
struct StripSums {
  F32 sum[kInterleave][kRegisters];

  // (in bytes; of a power of two it takes a rotation and a mask)
  __attribute__((always_inline)) const float* column(const float* panel, std::uint32_t columns,
                                                     int i) const {
    constexpr std::uint64_t kWidth = kRegisters * kVectorBytes;
    const std::uint64_t at = std::has_single_bit(kWidth)
                                 ? std::rotr(columns * kWidth, 8 * i) & 0xff * kWidth
                                 : (columns >> 8 * i & 0xff) * kWidth;
    return reinterpret_cast<const float*>(reinterpret_cast<const std::uint8_t*>(panel) + at);
  }

  __attribute__((always_inline)) void clear() {
    unrolled<kInterleave>([&](auto row) STROP_UNROLLED {
      unrolled<kRegisters>([&](auto j) STROP_UNROLLED { sum[row][j] = F32{}; });
    });
  }

  __attribute__((always_inline)) void add_shared(const std::uint8_t*& record,
                                                 std::uint32_t& columns, const float* panel) {
    constexpr int kBytes = shared_bytes(sizeof(V), kInterleave);
    const auto next = load_unaligned<std::uint32_t>(record + kBytes);
    const auto* const weights = reinterpret_cast<const V*>(record + kRecordColumns);
    unrolled<4>([&](auto i) STROP_UNROLLED {
      const float* const x = column(panel, columns, i);
      F32 held[kRegisters];
      unrolled<kRegisters>([&](auto j) STROP_UNROLLED {
        held[j] = load_unaligned<F32>(x + j * kLanes);
        keep_in_register(held[j]);  // loaded once, not once a row
      });
      unrolled<kInterleave>([&](auto row) STROP_UNROLLED {
        constexpr int kPlace = i * kInterleave + row;
        const F32 weight = shared_weight<kPlace>(weights);
        unrolled<kRegisters>([&](auto j) STROP_UNROLLED {
          sum[row][j] = multiply_add(weight, held[j], sum[row][j]);
        });
      });
    });
    record += kBytes;
    columns = next;
  }

  __attribute__((always_inline)) void add_own(const std::uint8_t*& record, std::uint32_t& columns,
                                              const float* panel) {
    constexpr int kBytes = own_bytes(sizeof(V));
    const auto next = load_unaligned<std::uint32_t>(record + kBytes);
    const F32 weights = four_repeated(reinterpret_cast<const V*>(record + kRecordColumns));
    if constexpr (kInterleave == 4) prefetch(record + kAhead);
    unrolled<4>([&](auto i) STROP_UNROLLED {
      const F32 weight = splat<i>(weights);
      const float* const x = column(panel, columns, i);
      unrolled<kRegisters>([&](auto j) STROP_UNROLLED {
        F32& to = sum[i % kInterleave][j];
        to = multiply_add(weight, load_unaligned<F32>(x + j * kLanes), to);
      });
    });
    record += kBytes;
    columns = next;
  }

  // What earlier blocks summed is added last: it may have to come from afar.
  __attribute__((always_inline)) void put(float* sums, const std::uint16_t* rows,
                                          bool first) const {
    unrolled<kInterleave>([&](auto row) STROP_UNROLLED {
      float* const to = sums + std::int64_t{rows[row]} * (kRegisters * kLanes);
      unrolled<kRegisters>([&](auto j) STROP_UNROLLED {
        float* const at = to + j * kLanes;
        store_unaligned(at, first ? sum[row][j] : sum[row][j] + load_unaligned<F32>(at));
      });
    });
  }
};

struct Block {
  const std::uint8_t* layout;
  const StripBlock& at;
  const float* panel;
  bool first;
};

template <class V, int kInterleave, int kRegisters>
void multiply_block(const Block& block, float* sums) {
  const auto* record = block.layout + block.at.records;
  const auto* rows = reinterpret_cast<const std::uint16_t*>(block.layout + block.at.rows);
  const auto* const runs = reinterpret_cast<const StripRun*>(block.layout + block.at.runs);
  auto columns = load_unaligned<std::uint32_t>(record);
  for (std::int64_t run = 0; run < block.at.run_count; ++run) {
    const std::uint32_t shared = runs[run].shared, own = runs[run].own;
    for (std::uint32_t strip = 0; strip < runs[run].strips; ++strip, rows += kInterleave) {
      StripSums<kInterleave, kRegisters, V> sum;
      sum.clear();
      for (std::uint32_t i = 0; i < shared; ++i) sum.add_shared(record, columns, block.panel);
      for (std::uint32_t i = 0; i < own; ++i) sum.add_own(record, columns, block.panel);
      sum.put(sums, rows, block.first);
    }
  }
}

using MultiplyBlock = void (*)(const Block&, float*);

template <class V, int kInterleave, int... kRegisters>
MultiplyBlock block_kernel(int registers, std::integer_sequence<int, kRegisters...>) {
  static constexpr MultiplyBlock kernels[] = {multiply_block<V, kInterleave, kRegisters + 1>...};
  return kernels[registers - 1];
}

MultiplyBlock block_kernel(const LayoutHeader& header, int registers) {
  return by_narrow_dtype(header.values(), [&]<class V>() {
    if (header.interleave == 4) {
      return block_kernel<V, 4>(registers, std::make_integer_sequence<int, kMaxRegisters[0]>{});
    }
    return block_kernel<V, 2>(registers, std::make_integer_sequence<int, kMaxRegisters[1]>{});
  });
}

void multiply_strips(const StripTask& task, float* sums, std::int64_t begin, std::int64_t end) {
  const LayoutHeader& header = task.args.header();
  const auto* const layout = static_cast<const std::uint8_t*>(task.args.layout);
  const std::int64_t row_blocks = header.row_blocks(), column_blocks = header.column_blocks();
  const std::int64_t apart = task.tile_sums(kLanes);
  for (std::int64_t item = begin; item < end; ++item) {
    const auto first_tile = static_cast<int>(item / row_blocks) * kMaxTiles;
    const std::int64_t row_block = item % row_blocks;
    const int left = task.tile_count - first_tile;
    const int count = left < kMaxTiles ? left : kMaxTiles;
    for (std::int64_t i = 0; i < column_blocks; ++i) {
      const StripBlock& at = task.blocks()[row_block * column_blocks + i];
      for (int t = 0; t < count; ++t) {
        const PanelTile& tile = task.tiles[first_tile + t];
        const float* const panel =
            task.panels + tile.panel + i * (header.block_columns + 1) * tile.registers * kLanes;
        block_kernel(header, tile.registers)({layout, at, panel, i == 0}, sums + t * apart);
      }
    }
    by_narrow_dtype(task.args.dtype, [&]<class T>() {
      for (int t = 0; t < count; ++t) {
        put_tile<T>(task.args, task.tiles[first_tile + t], {row_block * kBlockRows, kBlockRows},
                    sums + t * apart);
      }
    });
  }
}

// Columns [0, count) of x's rows, with the lane of each row, and a column of zeros.
template <class T>
void fill_panel(const MaskedLinearArgs& args, const PanelTile& tile, const T* x, std::int64_t count,
                float* panel) {
  const int width = tile.registers * kLanes;
  for (std::int64_t k = 0; k < count; k += kLanes) {
    const std::int64_t left = count - k < kLanes ? count - k : kLanes;
    for (int j = 0; j < width; j += kLanes) {
      F32 v[kLanes];
      for (int i = 0; i < kLanes; ++i) {
        const T* const from = x + (j + i) * args.x_stride + k;
        prefetch(from + kAheadInRow);
        if (j + i >= tile.rows) {
          v[i] = F32{};
        } else {
          v[i] = (left == kLanes ? load(from) : load_first(from, left)).v;
        }
      }
      transpose(v);
      for (std::int64_t i = 0; i < left; ++i) store_unaligned(panel + (k + i) * width + j, v[i]);
    }
  }
  for (int j = 0; j < width; j += kLanes) store_unaligned(panel + count * width + j, F32{});
}

template <class T>
void fill_panels_of(const StripTask& task, std::int64_t begin, std::int64_t end) {
  const LayoutHeader& header = task.args.header();
  for (std::int64_t piece = begin; piece < end; ++piece) {
    const PanelTile& tile = task.tiles[piece / header.column_blocks()];
    const std::int64_t block = piece % header.column_blocks();
    const std::int64_t first = block * header.block_columns, left = header.columns - first;
    const std::int64_t count = left < header.block_columns ? left : header.block_columns;
    const T* const x = static_cast<const T*>(task.args.x) + tile.first * task.args.x_stride;
    const int width = task.one() ? 1 : tile.registers * kLanes;
    float* const panel = task.panels + tile.panel + block * (header.block_columns + 1) * width;
    if (!task.one()) {
      fill_panel(task.args, tile, x + first, count, panel);
      continue;
    }
    for (std::int64_t k = 0; k < count; ++k) panel[k] = to_float(x[first + k]);
    panel[count] = 0;
  }
}

}  // namespace

void fill_panels(const StripTask& task, std::int64_t begin, std::int64_t end) {
  by_narrow_dtype(task.args.dtype, [&]<class T>() { fill_panels_of<T>(task, begin, end); });
}

void place_columns(const ColumnsTask& task, std::int64_t begin, std::int64_t end);
void multiply_columns(const ColumnsTask& task, float* sums, std::int64_t begin, std::int64_t end);
void multiply_one(const StripTask& task, float* sums, std::int64_t begin, std::int64_t end);
void multiply_mask(const BitmapLinearArgs& args, float* scratch, std::int64_t begin,
                   std::int64_t end);
void quantize_rows(const CodesTask& task, std::int64_t begin, std::int64_t end);
void multiply_codes(const CodesTask& task, std::uint8_t* scratch, std::int64_t begin,
                    std::int64_t end);
void widen_rows(const CodesTask& task, std::int64_t begin, std::int64_t end);
void multiply_exact(const CodesTask& task, std::uint8_t* scratch, std::int64_t begin,
                    std::int64_t end);
void nonzero_bits(const float* row, std::int64_t count, std::uint8_t* bits);

extern const Kernels kernels;
const Kernels kernels = {.lanes = kLanes,
                         .most_registers = {kMaxRegisters[0], kMaxRegisters[1]},
                         .column_rows = kColumnRows,
                         .column_registers = kColumnRegisters,
                         .fill_panels = fill_panels,
                         .multiply_strips = multiply_strips,
                         .multiply_one = multiply_one,
                         .multiply_mask = multiply_mask,
                         .place_columns = place_columns,
                         .multiply_columns = multiply_columns,
                         .quantize_rows = quantize_rows,
                         .widen_rows = widen_rows,
                         .multiply_codes = multiply_codes,
                         .multiply_exact = multiply_exact,
                         .nonzero_bits = nonzero_bits};

}  // namespace strop::linear::simd::STROP_ISA
