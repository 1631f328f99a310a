// The gradient of augment_images on a GPU.

#include "augment/cuda/images.cuh"
#include "augment/cuda/numbers.cuh"

namespace strop::augment::cuda {
using namespace strop::cuda;
namespace {

// Note [Gradient by rectangles]
// Each pixel of the input is a sum in the order of the output's pixels, so that no two warps may
// add to it. A warp has a rectangle of one image in shared memory, all channels of it. It goes
// through the rows of the output that can reach the rectangle, 32 neighbours at a time: each lane
// finds the taps of one and what each of them gets, and then those that reach the rectangle take
// turns in the order of lanes, a tap of a channel to a lane.
constexpr int kWarps = 2;
constexpr int kThreads = kWarps * kWarp;
constexpr int kColumns = 32;
constexpr int kScratchBytes = 2048;  // for a channel of a rectangle
constexpr int kShares = 4 * kMaxImageChannels;

template <class Number>
constexpr int kCells = kScratchBytes / static_cast<int>(sizeof(Number));
template <class Number>
constexpr int kRows = kCells<Number> / kColumns;

// What a warp's lanes share.
template <class Number>
struct Scratch {
  Number sum[kMaxImageChannels][kCells<Number>];
  Number share[kWarp][kShares + 1];  // of a lane's pixel, tap by tap (an odd step between lanes)
  int cell[kWarp][4];                // that its taps are in; -1: elsewhere
};

struct Rectangles {
  Divider columns;  // by the rectangles of a row of them
  Divider images;   // by those of an image
  std::int64_t all;

  Rectangles(const Warp& warp, int rows)
      : columns((warp.in_width + kColumns - 1) / kColumns),
        images(columns.divisor() * ((warp.in_height + rows - 1) / rows)),
        all(warp.batch * images.divisor()) {}
};

__device__ __forceinline__ int smaller_of(int a, std::int64_t b) {
  return b < a ? static_cast<int>(b) : a;
}

struct Rectangle {
  std::int64_t image;
  int row;
  int column;
  int rows;
  int columns;

  __device__ __forceinline__ Rectangle(const Warp& warp, const Rectangles& of, int most_rows,
                                       std::int64_t number)
      : image(of.images.quotient(number)) {
    const std::int64_t place = number - image * of.images.divisor();
    const std::int64_t line = of.columns.quotient(place);
    row = static_cast<int>(line) * most_rows;
    column = static_cast<int>(place - line * of.columns.divisor()) * kColumns;
    rows = smaller_of(most_rows, warp.in_height - row);
    columns = smaller_of(kColumns, warp.in_width - column);
  }

  __device__ __forceinline__ int cell(int in_row, int in_column) const {
    const int down = in_row - row, right = in_column - column;
    const bool held = down >= 0 && down < rows && right >= 0 && right < columns;
    return held ? down * kColumns + right : -1;
  }
};

// Note [What reaches a rectangle]
// Tests of positions in double, which may let more pass than what does: a position is within 1.5 of
// its line, in multiples of 2^-15, and a tap within a pixel of its position.
//
// Where positions are not folded, those of a row of the output that reach the rectangle are a span
// of columns, which two divisions find. A folded one comes from any number of places, a period
// apart, and from the mirror images of those: each lane tests whether 32 columns come by any.
constexpr double kMargin = 4;

struct Reach {
  double low;
  double high;

  __device__ __forceinline__ Reach(FillMode mode, int first, int count, std::int64_t pixels)
      : low((first - 1.0) * kOnePixel - kMargin),
        high((first + count) * 1.0 * kOnePixel + kMargin) {
    // What lies outside reads the first pixel, or the last.
    if (mode == FillMode::kNearest && first == 0) low = -0x1p62;
    if (mode == FillMode::kNearest && first + count == pixels) high = 0x1p62;
  }
};

// Columns of the output, [begin, end).
struct Span {
  double begin;
  double end;

  __device__ __forceinline__ void narrow(const PositionLine& line, std::int64_t row,
                                         const Reach& reach) {
    const double start = static_cast<double>(line.at(row, 0));
    if (line.by_column == 0) {
      if (start < reach.low || start > reach.high) end = begin;
      return;
    }
    const double step = static_cast<double>(line.by_column) * 0x1p-17;
    const double a = (reach.low - start) / step, b = (reach.high - start) / step;
    begin = fmax(begin, floor(fmin(a, b)) - 1);
    end = fmin(end, ceil(fmax(a, b)) + 2);
  }
};

// Whether [low, high] meets [begin, end], or the same a whole number of periods away.
__device__ __forceinline__ bool meets(double low, double high, double begin, double end,
                                      double period) {
  return floor((high - begin) / period) * period >= low - end;
}

// Whether positions of these columns may be folded to where they reach the rectangle.
static __device__ __noinline__ bool may_fold_to(FillMode mode, const Reach& reach,
                                                std::int64_t pixels, std::int64_t first,
                                                std::int64_t last) {
  const double a = static_cast<double>(first), b = static_cast<double>(last);
  const double low = fmin(a, b) - kMargin, high = fmax(a, b) + kMargin;
  const bool mirrors = mode == FillMode::kReflect || mode == FillMode::kMirror;
  const bool between = mode == FillMode::kMirror || mode == FillMode::kWrap;  // pixels' centres
  const double side = static_cast<double>((pixels - (between ? 1 : 0)) * kOnePixel);
  if (side == 0) return true;
  const double period = mirrors ? 2 * side : side;
  if (meets(low, high, reach.low, reach.high, period)) return true;
  const double turn = mode == FillMode::kReflect ? -static_cast<double>(kOnePixel) : 0;
  return mirrors && meets(low, high, turn - reach.high, turn - reach.low, period);
}

// Of `whole`, the second tap's part by `fraction`, and the first one's, which is the rest.
template <class Number>
__device__ __forceinline__ void split(Number whole, int fraction, Number& first, Number& second) {
  second = whole * (static_cast<Number>(fraction) * static_cast<Number>(0x1p-15));
  first = fraction == 0 ? whole : whole - second;
}

template <class Number>
class Walk {
 public:
  __device__ __forceinline__ Walk(const AugmentGradientArgs& args, const Rectangle& rectangle,
                                  Scratch<Number>& scratch)
      : args_(args),
        rectangle_(rectangle),
        scratch_(scratch),
        map_(position_map(args.warp, rectangle.image)),
        x_(args.warp.fill_mode, rectangle.column, rectangle.columns, args.warp.in_width),
        y_(args.warp.fill_mode, rectangle.row, rectangle.rows, args.warp.in_height) {}

  // The whole output's pixels.
  __device__ __forceinline__ void run() {
    const Warp& warp = args_.warp;
    if (!map_.near) return;
    for (std::int64_t first = 0; first < warp.out_height; first += kWarp) {
      const Span own = span_of_row(first + lane_id());
      const int own_begin = static_cast<int>(own.begin), own_end = static_cast<int>(own.end);
      unsigned rows = __ballot_sync(kAllLanes, own.begin < own.end);
      for (; rows != 0; rows &= rows - 1) {
        const int lane = __ffs(static_cast<int>(rows)) - 1;
        const int begin = __shfl_sync(kAllLanes, own_begin, lane);
        const int end = __shfl_sync(kAllLanes, own_end, lane);
        for (int column = begin; column < end; column += kWarp * kWarp) {
          add_row(static_cast<int>(first) + lane, column, end);
        }
      }
    }
  }

 private:
  __device__ __forceinline__ bool folds() const {
    return args_.warp.fill_mode >= FillMode::kReflect;
  }

  __device__ __forceinline__ Span span_of_row(std::int64_t row) const {
    Span span = {0, static_cast<double>(args_.warp.out_width)};
    if (row >= args_.warp.out_height) return {0, 0};
    if (folds()) return span;
    span.narrow(map_.x, row, x_);
    span.narrow(map_.y, row, y_);
    return span;
  }

  // 32 times 32 columns at most.
  __device__ __forceinline__ void add_row(int row, int begin, int end) {
    const int left = (end - begin + kWarp - 1) / kWarp;
    const int first = begin + lane_id() * kWarp;
    bool wanted = lane_id() < left;
    if (wanted && folds()) {
      const Warp& warp = args_.warp;
      const int last = smaller_of(first + kWarp, end) - 1;
      wanted = may_fold_to(warp.fill_mode, y_, warp.in_height, map_.y.at(row, first),
                           map_.y.at(row, last)) &&
               may_fold_to(warp.fill_mode, x_, warp.in_width, map_.x.at(row, first),
                           map_.x.at(row, last));
    }
    unsigned parts = __ballot_sync(kAllLanes, wanted);
    for (; parts != 0; parts &= parts - 1) {
      const int column = begin + (__ffs(static_cast<int>(parts)) - 1) * kWarp + lane_id();
      add(row, column, column < end);
    }
  }

  // Puts what a pixel's taps get into the scratch; whether one of them reaches the rectangle.
  __device__ __forceinline__ bool put(int row, int column) {
    const Taps taps = taps_at(args_.warp, map_.x.at(row, column), map_.y.at(row, column));
    const int columns[2] = {taps.x.first, taps.x.second}, rows[2] = {taps.y.first, taps.y.second};
    bool reached = false;
    int cell[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      cell[i] = rectangle_.cell(rows[i / 2], columns[i % 2]);
      reached = reached || cell[i] >= 0;
    }
    if (!reached) return false;
    const ImageStrides& strides = args_.in_strides;
    const std::int64_t at =
        rectangle_.image * strides.image + row * strides.row + column * strides.column;
#pragma unroll
    for (int i = 0; i < 4; ++i) scratch_.cell[lane_id()][i] = cell[i];
    for (int c = 0; c < args_.warp.channels; ++c) {
      const Number g = number_at<Number>(args_.in, args_.in_dtype, at + c * strides.channel);
      Number upper, lower, part[4];
      split(g * scale(c), taps.y.fraction, upper, lower);
      split(upper, taps.x.fraction, part[0], part[1]);
      split(lower, taps.x.fraction, part[2], part[3]);
#pragma unroll
      for (int i = 0; i < 4; ++i) scratch_.share[lane_id()][4 * c + i] = part[i];
    }
    return true;
  }

  __device__ __forceinline__ void add(int row, int column, bool exists) {
    const bool reached = exists && put(row, column);
    unsigned pixels = __ballot_sync(kAllLanes, reached);
    __syncwarp();  // what the lanes have put is there
    const int channel = lane_id() / 4, tap = lane_id() % 4;
    // Where a side is one pixel that wraps around, two taps are the same one.
    const Warp& warp = args_.warp;
    const bool single = warp.in_width == 1 || warp.in_height == 1;
    const int turns = single && warp.fill_mode == FillMode::kGridWrap ? 4 : 1;
    for (; pixels != 0; pixels &= pixels - 1) {
      const int lane = __ffs(static_cast<int>(pixels)) - 1;
      for (int turn = 0; turn < turns; ++turn) {
        if (channel < warp.channels && (turns == 1 || turn == tap)) {
          const int cell = scratch_.cell[lane][tap];
          if (cell >= 0) scratch_.sum[channel][cell] += scratch_.share[lane][lane_id()];
        }
        __syncwarp();  // the next pixel may add to the same cells
      }
    }
  }

  __device__ __forceinline__ Number scale(int channel) const {
    const Normalization& n = args_.normalization;
    const double std = n.std_data ? n.std_data[channel * n.std_stride] : n.std[channel];
    return static_cast<Number>(1 / std);
  }

  const AugmentGradientArgs& args_;
  const Rectangle& rectangle_;
  Scratch<Number>& scratch_;
  const PositionMap map_;
  const Reach x_;
  const Reach y_;
};

template <class Number>
__global__ void __launch_bounds__(kThreads)
    gradient_kernel(const __grid_constant__ AugmentGradientArgs args,
                    const __grid_constant__ Rectangles rectangles) {
  __shared__ Scratch<Number> rooms[kWarps];
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  Scratch<Number>& scratch = rooms[warp];
  const int channels = static_cast<int>(args.warp.channels);
  const std::int64_t step = std::int64_t{gridDim.x} * kWarps;
  for (std::int64_t i = std::int64_t{blockIdx.x} * kWarps + warp; i < rectangles.all; i += step) {
    const Rectangle rectangle(args.warp, rectangles, kRows<Number>, i);
    for (int c = 0; c < channels; ++c) {
      for (int cell = lane_id(); cell < kCells<Number>; cell += kWarp) scratch.sum[c][cell] = 0;
    }
    __syncwarp();
    Walk<Number>(args, rectangle, scratch).run();
    const ImageStrides& strides = args.out_strides;
    for (int c = 0; c < channels; ++c) {
      for (int row = 0; row < rectangle.rows; ++row) {
        if (lane_id() >= rectangle.columns) continue;
        const std::int64_t at = rectangle.image * strides.image + c * strides.channel +
                                (rectangle.row + row) * strides.row +
                                (rectangle.column + lane_id()) * strides.column;
        put_number(args.out, args.out_dtype, at, scratch.sum[c][row * kColumns + lane_id()]);
      }
    }
    __syncwarp();  // until the sums are written
  }
}

template <class Number>
void run_as(const AugmentGradientArgs& args, const Launch& on) {
  const Rectangles rectangles(args.warp, kRows<Number>);
  launch(on, gradient_kernel<Number>, (rectangles.all + kWarps - 1) / kWarps, kThreads, args,
         rectangles);
}

}  // namespace
}  // namespace strop::augment::cuda

namespace strop::augment {

void run(const AugmentGradientArgs& args, const Launch& on) {
  const Warp& warp = args.warp;
  if (warp.batch == 0 || warp.channels == 0 || warp.in_height == 0 || warp.in_width == 0) return;
  if (args.wide()) return cuda::run_as<double>(args, on);
  cuda::run_as<float>(args, on);
}

}  // namespace strop::augment
