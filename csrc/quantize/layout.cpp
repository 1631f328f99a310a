#include <algorithm>
#include <cstdlib>

#include "quantize/arguments.h"

namespace strop::quantize {
namespace {

bool stochastic(const FakeQuantizeArgs& args) {
  return args.rule.rounding == Rounding::kStochastic;
}

// Dimensions of one element say nothing; one stays if all are such. An axis along which the given
// parameters do not change is one block, whatever block_size says.
void drop_and_widen(FakeQuantizeArgs& args) {
  int kept = 0;
  for (int d = 0; d < args.dims; ++d) {
    QuantizeDim dim = args.dim[d];
    if (!args.dynamic() && dim.scale == 0 && dim.zero_point == 0) dim.block = dim.size;
    if (!stochastic(args)) dim.index = 0;
    if (dim.size != 1) args.dim[kept++] = dim;
  }
  if (kept == 0) args.dim[kept++] = {1, 1, 1, 1, 0, 0, stochastic(args) ? 1 : 0};
  args.dims = kept;
}

// Widest steps outside.
void order_by_memory(FakeQuantizeArgs& args) {
  const auto wider = [](const QuantizeDim& a, const QuantizeDim& b) {
    if (std::abs(a.output) != std::abs(b.output)) return std::abs(a.output) > std::abs(b.output);
    return std::abs(a.input) > std::abs(b.input);
  };
  // Insertion: equal steps keep their order, and unlike std::stable_sort no call allocates.
  for (int d = 1; d < args.dims; ++d) {
    QuantizeDim* const place = std::upper_bound(args.dim, args.dim + d, args.dim[d], wider);
    std::rotate(place, args.dim + d, args.dim + d + 1);
  }
}

// Where the unit-step axis is much shorter than another one (colour triples of a sliced image,
// say), the long one goes inside: a strided walk beats three elements at a time.
void lengthen_inner(FakeQuantizeArgs& args) {
  constexpr std::int64_t kShort = 16;
  constexpr std::int64_t kMuchLonger = 8;
  QuantizeDim* const last = args.dim + args.dims - 1;
  if (last->size >= kShort) return;
  QuantizeDim* const longest =
      std::max_element(args.dim, last + 1,
                       [](const QuantizeDim& a, const QuantizeDim& b) { return a.size < b.size; });
  if (longest->size >= kMuchLonger * last->size) std::rotate(longest, longest + 1, last + 1);
}

// Whether outer and inner walk through memory, and through the parameters, as one axis would.
bool try_merge(QuantizeDim& outer, const QuantizeDim& inner) {
  const std::int64_t n = inner.size;
  if (outer.input != n * inner.input || outer.output != n * inner.output ||
      outer.index != n * inner.index) {
    return false;
  }
  QuantizeDim merged = outer;
  merged.size = outer.size * n;
  merged.input = inner.input;
  merged.output = inner.output;
  merged.index = inner.index;
  if (inner.block == n) {  // whole rows: a block of rows is a run
    merged.block = outer.block * n;
  } else if (outer.block == 1 && n % inner.block == 0 &&
             outer.scale == inner.blocks() * inner.scale &&
             outer.zero_point ==
                 inner.blocks() * inner.zero_point) {  // groups go on in the next row
    merged.block = inner.block;
    merged.scale = inner.scale;
    merged.zero_point = inner.zero_point;
  } else {
    return false;
  }
  outer = merged;
  return true;
}

void merge_neighbours(FakeQuantizeArgs& args) {
  int last = 0;
  for (int d = 1; d < args.dims; ++d) {
    if (!try_merge(args.dim[last], args.dim[d])) args.dim[++last] = args.dim[d];
  }
  args.dims = last + 1;
}

}  // namespace

std::int64_t FakeQuantizeArgs::elements() const {
  std::int64_t count = 1;
  for (int d = 0; d < dims; ++d) count *= dim[d].size;
  return count;
}

std::int64_t FakeQuantizeArgs::slabs() const {
  std::int64_t count = 1;
  for (int d = 0; d + 1 < dims; ++d) count *= dim[d].blocks();
  return count;
}

std::int64_t FakeQuantizeArgs::slab_rows() const {
  std::int64_t rows = 1;
  for (int d = 0; d + 1 < dims; ++d) rows *= std::min(dim[d].block, dim[d].size);
  return rows;
}

TileShape tile_shape(const FakeQuantizeArgs& args, std::int64_t rows, std::int64_t columns) {
  TileShape shape{};
  shape.rows = rows;
  shape.columns = columns;
  shape.row_pieces = divide_up(args.slab_rows(), rows);
  shape.column_pieces = divide_up(args.dim[args.dims - 1].size, columns);
  shape.tiles = args.slabs() * shape.row_pieces * shape.column_pieces;
  return shape;
}

std::int64_t assign_block_strides(FakeQuantizeArgs& args) {
  std::int64_t blocks = 1;
  for (int d = args.dims - 1; d >= 0; --d) {
    args.dim[d].scale = args.dim[d].zero_point = args.dim[d].blocks() > 1 ? blocks : 0;
    blocks *= args.dim[d].blocks();
  }
  return blocks;
}

FakeQuantizeArgs simplified(FakeQuantizeArgs args, bool ordered) {
  drop_and_widen(args);
  order_by_memory(args);
  merge_neighbours(args);
  if (!ordered) lengthen_inner(args);
  return args;
}

}  // namespace strop::quantize
