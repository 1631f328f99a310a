// Kept columns of panels times x, compiled once per instruction set (STROP_ISA). See Note [Kept
// columns on a CPU].

#include <cmath>

#include "core/simd/unroll.h"
#include "linear/bits.h"
#include "linear/simd/finite.h"
#include "linear/simd/masked/one_row.h"
#include "linear/simd/masked/put_tile.h"

namespace strop::linear::simd::STROP_ISA {
using namespace strop::simd::STROP_ISA;

void fill_panels(const StripTask& task, std::int64_t begin, std::int64_t end);
void place_columns(const ColumnsTask& task, std::int64_t begin, std::int64_t end);
void multiply_columns(const ColumnsTask& task, float* sums, std::int64_t begin, std::int64_t end);

namespace {

constexpr int kPanelVectors = kPanelRows / kLanes;
// Values, of lists that few rows of x pass by, which wait for memory, and that many do.
constexpr std::int64_t kFewAhead = 1024, kManyAhead = 256;

// What a panel keeps of a block of columns.
struct List {
  const std::uint16_t* columns;
  const float* values;
  std::int64_t count;
};

// The lists of a layout.
class Lists {
 public:
  explicit Lists(const ColumnsHeader& header)
      : base_(reinterpret_cast<const std::uint8_t*>(&header)), header_(header) {}

  STROP_MEMBER List at(std::int64_t number) const {
    const std::int64_t first = start(number);
    return {reinterpret_cast<const std::uint16_t*>(base_ + header_.second) + first,
            reinterpret_cast<const float*>(base_ + header_.third) + first * kPanelRows,
            start(number + 1) - first};
  }
  // A bit for each row that has the column; where rows lack some.
  STROP_MEMBER const std::uint16_t* masks(std::int64_t number) const {
    return reinterpret_cast<const std::uint16_t*>(base_ + header_.masks) + start(number);
  }

 private:
  STROP_MEMBER std::int64_t start(std::int64_t number) const {
    return reinterpret_cast<const std::int64_t*>(base_ + header_.first)[number];
  }

  const std::uint8_t* base_;
  const ColumnsHeader& header_;
};

// Elements of rows of x that lie side by side, one at a time in every lane: loaded as it is needed,
// or by fours.
template <int kCount>
class Elements {
 public:
  explicit STROP_MEMBER Elements(const float* from) : from_(from) {
    if constexpr (kByFours) {
      for (int i = 0; i < kCount / 4; ++i) fours_[i] = load_unaligned<F32>(from + 4 * i);
    }
  }
  template <int kElement>
  STROP_MEMBER F32 at() const {
    if constexpr (kByFours) return splat<kElement % 4>(fours_[kElement / 4]);
    return broadcast_from(from_ + kElement);
  }

 private:
  static constexpr bool kByFours = kLanes == 4 && kCount % 4 == 0;

  const float* from_;
  F32 fours_[(kCount + 3) / 4];
};

// A list times kRows rows of x, an element of each after the other. Sums of a row are kGroupRows
// apart. Where there are few of them columns take turns, so that none waits for another.
template <int kRows>
void multiply_elements(const List& list, const float* x, float* sums, bool first) {
  constexpr int kSums = kRows * kPanelVectors, kTurns = kSums >= 8 ? 1 : kSums >= 4 ? 2 : 4;
  F32 sum[kTurns][kRows][kPanelVectors] = {};
  const auto add = [&](std::int64_t i, F32(&to)[kRows][kPanelVectors]) STROP_UNROLLED {
    const float* const values = list.values + i * kPanelRows;
    prefetch(values + kFewAhead);
    F32 value[kPanelVectors];
    unrolled<kPanelVectors>(
        [&](auto j) STROP_UNROLLED { value[j] = load_unaligned<F32>(values + j * kLanes); });
    const Elements<kRows> elements(x + std::int64_t{list.columns[i]} * kRows);
    unrolled<kRows>([&](auto r) STROP_UNROLLED {
      const F32 element = elements.template at<r>();
      unrolled<kPanelVectors>(
          [&](auto j) STROP_UNROLLED { to[r][j] = multiply_add(value[j], element, to[r][j]); });
    });
  };
  std::int64_t i = 0;
  for (; i + kTurns <= list.count; i += kTurns) {
    unrolled<kTurns>([&](auto turn) STROP_UNROLLED { add(i + turn, sum[turn]); });
  }
  for (; i < list.count; ++i) add(i, sum[0]);
  unrolled<kRows>([&](auto r) STROP_UNROLLED {
    unrolled<kPanelVectors>([&](auto j) STROP_UNROLLED {
      F32 all = sum[0][r][j];
      for (int turn = 1; turn < kTurns; ++turn) all += sum[turn][r][j];
      float* const at = sums + r * kGroupRows + j * kLanes;
      store_unaligned(at, first ? all : all + load_unaligned<F32>(at));
    });
  });
}

using Multiply = void (*)(const List&, const float*, float*, bool);

template <int... kNumbers>
Multiply by_elements(int rows, std::integer_sequence<int, kNumbers...>) {
  static constexpr Multiply kernels[] = {multiply_elements<kNumbers + 1>...};
  return kernels[rows - 1];
}

#if defined(__AVX512F__)
// A list times kRegisters vectors of rows of x, kRows rows of the panel at a time.
template <int kRegisters>
void multiply_vectors(const List& list, const float* x, float* sums, bool first) {
  constexpr int kWidth = kRegisters * kLanes, kRows = kRegisters == 1 ? 16 : 8;
  for (int row = 0; row < kPanelRows; row += kRows, sums += kRows * kWidth) {
    F32 sum[kRows][kRegisters] = {};
    const float* values = list.values + row;
    for (std::int64_t i = 0; i < list.count; ++i, values += kPanelRows) {
      const float* const column = x + std::int64_t{list.columns[i]} * kWidth;
      if (row == 0) prefetch(values + kManyAhead);
      F32 element[kRegisters];
      unrolled<kRegisters>([&](auto j) STROP_UNROLLED {
        element[j] = load_unaligned<F32>(column + j * kLanes);
        keep_in_register(element[j]);
      });
      unrolled<kRows>([&](auto r) STROP_UNROLLED {
        const F32 value = broadcast_from(values + r);
        unrolled<kRegisters>(
            [&](auto j) STROP_UNROLLED { sum[r][j] = multiply_add(value, element[j], sum[r][j]); });
      });
    }
    unrolled<kRows>([&](auto r) STROP_UNROLLED {
      unrolled<kRegisters>([&](auto j) STROP_UNROLLED {
        float* const at = sums + r * kWidth + j * kLanes;
        store_unaligned(at, first ? sum[r][j] : sum[r][j] + load_unaligned<F32>(at));
      });
    });
  }
}

Multiply by_vectors(int registers) {
  static_assert(kColumnRegisters == 3);
  constexpr Multiply kernels[] = {multiply_vectors<1>, multiply_vectors<2>, multiply_vectors<3>};
  return kernels[registers - 1];
}
#endif

Multiply kernel_of(const ColumnsTask& task, int tile) {
  const int registers = task.tiles[tile].registers;
#if defined(__AVX512F__)
  if (task.vectors) return by_vectors(registers);
#endif
  return by_elements(registers, std::make_integer_sequence<int, kColumnRows>{});
}

// A tile of x, with the sums of a group of panels.
struct Tile {
  const ColumnsTask& task;
  int number;
  float* sums;

  STROP_MEMBER const PanelTile& rows() const { return task.tiles[number]; }
  STROP_MEMBER int width() const { return task.width(number); }
  STROP_MEMBER float* block(std::int64_t block) const {
    return task.panels + rows().panel + block * (task.columns_header().block_columns + 1) * width();
  }
  // Rows of a panel lie side by side, or those of x where they are vectors.
  STROP_MEMBER float* of_panel(std::int64_t panel) const {
    return sums + panel * kPanelRows * (task.vectors ? width() : 1);
  }
  STROP_MEMBER float& sum(std::int64_t row, int of_x) const {
    return task.vectors ? sums[row * width() + of_x] : sums[of_x * kGroupRows + row];
  }
};

// A row's element that is Inf or NaN, times what is kept of its column in a group's block.
template <class T>
void add_not_finite(const Tile& tile, std::int64_t group, std::int64_t block) {
  const ColumnsHeader& header = tile.task.columns_header();
  const LinearRows& args = tile.task.args;
  const Lists lists(header);
  const T* const x = static_cast<const T*>(args.x) + tile.rows().first * args.x_stride +
                     block * header.block_columns;
  for (std::int64_t panel = 0; panel < kGroupPanels; ++panel) {
    const std::int64_t number = (group * header.column_blocks() + block) * kGroupPanels + panel;
    const List list = lists.at(number);
    for (std::int64_t i = 0; i < list.count; ++i) {
      for (int row = 0; row < tile.rows().rows; ++row) {
        const float element = to_float(x[row * args.x_stride + list.columns[i]]);
        if (std::isfinite(element)) continue;
        for_each_bit(lists.masks(number)[i], [&](int n) {
          tile.sum(panel * kPanelRows + n, row) += element * list.values[i * kPanelRows + n];
        });
      }
    }
  }
}

void multiply_tile(const Tile& tile, std::int64_t group, std::int64_t block) {
  const ColumnsTask& task = tile.task;
  const std::int64_t first = (group * task.columns_header().column_blocks() + block) * kGroupPanels;
  const Lists lists(task.columns_header());
  const Multiply multiply = kernel_of(task, tile.number);
  for (std::int64_t panel = 0; panel < kGroupPanels; ++panel) {
    const List list = lists.at(first + panel);
    if (list.count == 0 && block > 0) continue;
    multiply(list, tile.block(block), tile.of_panel(panel), block == 0);
  }
}

void finish_tile(const Tile& tile, std::int64_t group) {
  const ColumnsTask& task = tile.task;
  const LinearRows& args = task.args;
  const ColumnsHeader& header = task.columns_header();
  const std::int64_t blocks = header.column_blocks(), column = group * kGroupRows;
  by_narrow_dtype(args.dtype, [&]<class T>() {
    for (std::int64_t block = 0; header.masks != 0 && block < blocks; ++block) {
      if (!task.finite[tile.number * blocks + block]) add_not_finite<T>(tile, group, block);
    }
    if (task.vectors) {
      return put_tile<T>(task.args, tile.rows(), {column, kGroupRows}, tile.sums);
    }
    const std::int64_t left = header.rows - column;
    for (int row = 0; row < tile.rows().rows; ++row) {
      T* const y = static_cast<T*>(args.y) + (tile.rows().first + row) * args.y_stride;
      put_row<T>(task.args, tile.sums + row * kGroupRows, column,
                 left < kGroupRows ? left : kGroupRows, y);
    }
  });
}

// A block of columns of a tile, an element of each row after the other.
template <class T>
void place_elements(const Tile& tile, std::int64_t block, std::int64_t count) {
  const ColumnsTask& task = tile.task;
  const int rows = tile.rows().rows;
  const T* const x = static_cast<const T*>(task.args.x) + tile.rows().first * task.args.x_stride +
                     block * task.columns_header().block_columns;
  float* const to = tile.block(block);
  for (int row = 0; row < rows; ++row) {
    for (std::int64_t k = 0; k < count; ++k) {
      to[k * rows + row] = to_float(x[row * task.args.x_stride + k]);
    }
  }
}

// Whether so many elements are finite. Those that are not become 0.
bool make_finite(float* elements, std::int64_t count) {
  if (all_finite(elements, count)) return true;
  for (std::int64_t i = 0; i < count; ++i) {
    if (!std::isfinite(elements[i])) elements[i] = 0;
  }
  return false;
}

}  // namespace

void place_columns(const ColumnsTask& task, std::int64_t begin, std::int64_t end) {
  if (task.vectors) fill_panels(task, begin, end);
  const ColumnsHeader& header = task.columns_header();
  const std::int64_t blocks = header.column_blocks();
  by_narrow_dtype(task.args.dtype, [&]<class T>() {
    for (std::int64_t piece = begin; piece < end; ++piece) {
      const Tile tile = {task, static_cast<int>(piece / blocks), nullptr};
      const std::int64_t block = piece % blocks;
      const std::int64_t left = header.columns - block * header.block_columns;
      const std::int64_t count = left < header.block_columns ? left : header.block_columns;
      if (!task.vectors) place_elements<T>(tile, block, count);
      if (header.masks == 0) continue;
      task.finite[piece] = make_finite(tile.block(block), count * tile.width());
    }
  });
}

void multiply_columns(const ColumnsTask& task, float* sums, std::int64_t begin, std::int64_t end) {
  const ColumnsHeader& header = task.columns_header();
  const std::int64_t groups = header.groups(), most = task.groups_at_once();
  const std::int64_t of_group = task.tile_floats() * task.tiles_a_group();
  for (std::int64_t item = begin, next = begin; item < end; item = next) {
    const std::int64_t group = item % groups;
    std::int64_t count = groups - group < most ? groups - group : most;
    count = end - item < count ? end - item : count;
    next = item + count;
    const int first = static_cast<int>(item / groups) * task.tiles_a_group();
    const int left = task.tile_count - first;
    const int tiles = left < task.tiles_a_group() ? left : task.tiles_a_group();
    const auto tile_of = [&](int t, std::int64_t g) {
      return Tile{task, first + t, sums + g * of_group + t * task.tile_floats()};
    };
    for (std::int64_t block = 0; block < header.column_blocks(); ++block) {
      for (int t = 0; t < tiles; ++t) {
        for (std::int64_t g = 0; g < count; ++g) multiply_tile(tile_of(t, g), group + g, block);
      }
    }
    for (int t = 0; t < tiles; ++t) {
      for (std::int64_t g = 0; g < count; ++g) finish_tile(tile_of(t, g), group + g);
    }
  }
}

}  // namespace strop::linear::simd::STROP_ISA
