#include "prune/soft_threshold.h"

#include <cmath>

namespace strop::prune::reference {
namespace {

// Calls function(weight, amount, gradient, output) for each element.
template <class T, class Function>
void for_each_element(const SoftThresholdArgs& args, Function function) {
  using A = decltype(to_float(T{}));
  for (std::int64_t i = 0; i < args.count(); ++i) {
    SoftThresholdRow at;
    std::int64_t rest = i;
    for (int d = args.dims - 1; d >= 0; --d) {
      const std::int64_t k = rest % args.dim[d].size;
      rest /= args.dim[d].size;
      at.weight += k * args.dim[d].weight;
      at.amount += k * args.dim[d].amount;
      at.gradient += k * args.dim[d].gradient;
      at.output += k * args.dim[d].output;
    }
    const auto* gradient = static_cast<const T*>(args.gradient);
    function(to_float(static_cast<const T*>(args.weight)[at.weight]),
             args.amount == nullptr ? static_cast<A>(args.number)
                                    : static_cast<const A*>(args.amount)[at.amount],
             gradient == nullptr ? T{} : gradient[at.gradient],
             static_cast<T*>(args.output)[at.output]);
  }
}

}  // namespace
}  // namespace strop::prune::reference

namespace strop::prune {

void run(const SoftThresholdArgs& args, Oracle) {
  by_dtype(args.dtype, [&]<class T>() {
    reference::for_each_element<T>(args, [](auto weight, auto amount, T, T& output) {
      auto left = std::abs(weight) - amount;
      if (left <= 0 || weight == 0) {
        left = 0;
      } else if (weight < 0) {
        left = -left;
      }
      output = FromFloat<T>::call(weight != weight ? weight : left);
    });
  });
}

void run(const SoftThresholdGradientArgs& args, Oracle) {
  by_dtype(args.dtype, [&]<class T>() {
    reference::for_each_element<T>(args, [](auto weight, auto amount, T gradient, T& output) {
      output = std::abs(weight) > amount ? gradient : FromFloat<T>::call(0);
    });
  });
}

}  // namespace strop::prune
