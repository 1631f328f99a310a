// warp_points and warp_boxes, one item after the other: their work is less than a call's.

#include <algorithm>
#include <cmath>
#include <limits>

#include "augment/boxes.h"
#include "augment/warped_box.h"

namespace strop::augment::cpu {
namespace {

constexpr std::int64_t kGrain = 4096;  // items that are worth waking a thread for

template <class T, class M>
void move_points(const WarpPointsArgs& args, std::int64_t begin, std::int64_t end) {
  const WarpedItems& points = args.points;
  T* to = static_cast<T*>(args.out) + begin * points.count * 2;
  for (std::int64_t i = begin; i < end; ++i) {
    const auto warp = InverseWarp::of<M>(points.matrices, points.matrix_strides, i);
    const double scale = warp.scale();
    for (std::int64_t j = 0; j < points.count; ++j, to += 2) {
      const double x = points.at<T>(i, j, 0), y = points.at<T>(i, j, 1);
      const bool known = warp.known && std::isfinite(x) && std::isfinite(y);
      constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
      to[0] = static_cast<T>(known ? warp.x(x, y) * scale : kNan);
      to[1] = static_cast<T>(known ? warp.y(x, y) * scale : kNan);
    }
  }
}

template <class T, class M>
void move_boxes(const WarpBoxesArgs& args, std::int64_t begin, std::int64_t end) {
  const WarpedItems& boxes = args.boxes;
  const WarpedSize size = {args.height, args.width};
  for (std::int64_t i = begin; i < end; ++i) {
    const auto warp = InverseWarp::of<M>(boxes.matrices, boxes.matrix_strides, i);
    for (std::int64_t j = 0; j < boxes.count; ++j) {
      const WarpedBox box = {
          {boxes.at<T>(i, j, 0), boxes.at<T>(i, j, 1), boxes.at<T>(i, j, 2), boxes.at<T>(i, j, 3)}};
      double visible = 0;
      const WarpedBox moved =
          warped_box(box, warp, size, args.visible == nullptr ? nullptr : &visible);
      const std::int64_t at = i * boxes.count + j;
      for (int k = 0; k < 4; ++k) {
        static_cast<T*>(args.out)[4 * at + k] = static_cast<T>(moved.side[k]);
      }
      if (args.visible != nullptr) static_cast<T*>(args.visible)[at] = static_cast<T>(visible);
    }
  }
}

// Calls function.operator()<T, M>(begin, end) on ranges of samples, with the types of items and
// matrices.
template <class Function>
void for_samples(const WarpedItems& items, const Parallel& parallel, Function function) {
  const auto run = [&]<class T, class M>() {
    const std::int64_t grain = kGrain / std::max<std::int64_t>(items.count, 1) + 1;
    parallel.for_range(items.samples, grain, [&](std::int64_t begin, std::int64_t end) {
      function.template operator()<T, M>(begin, end);
    });
  };
  const auto with = [&]<class T>() {
    items.matrix_dtype == DType::kFloat32 ? run.template operator()<T, float>()
                                          : run.template operator()<T, double>();
  };
  items.dtype == DType::kFloat32 ? with.template operator()<float>()
                                 : with.template operator()<double>();
}

}  // namespace
}  // namespace strop::augment::cpu

namespace strop::augment {

void run(const WarpPointsArgs& args, const ExecutionOptions& options) {
  cpu::for_samples(args.points, options.parallel,
                   [&]<class T, class M>(std::int64_t begin, std::int64_t end) {
                     cpu::move_points<T, M>(args, begin, end);
                   });
}

void run(const WarpBoxesArgs& args, const ExecutionOptions& options) {
  cpu::for_samples(args.boxes, options.parallel,
                   [&]<class T, class M>(std::int64_t begin, std::int64_t end) {
                     cpu::move_boxes<T, M>(args, begin, end);
                   });
}

}  // namespace strop::augment
