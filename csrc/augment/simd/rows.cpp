// Rows of samples to elements of the result, for each pair of their types.

#include "augment/simd/rows.h"

namespace strop::augment::simd::STROP_ISA {
using namespace strop::simd::STROP_ISA;
namespace {

template <class In, class Out>
void finish_row_of(const void* from, void* to, int count, ScaleAndOffset by, bool stream) {
  finish_row(static_cast<const In*>(from), static_cast<Out*>(to), count, by, stream);
}

template <class T>
void spread_rows_of(const AugmentArgs& args, const ChannelRows& rows, void* to, int count,
                    bool stream) {
  spread_rows<T>(args, rows, to, count, stream);
}

}  // namespace

template <class In>
RowWriter row_writer(const AugmentArgs& args, WarpScratch& scratch, bool stream) {
  RowWriter writer = {args, scratch, stream, {}, 0, nullptr, nullptr};
  for (int c = 0; c < args.warp.channels; ++c) {
    writer.by[c] = args.out_dtype == DType::kUInt8 ? ScaleAndOffset{255.0f, -0.0f}
                                                   : scale_and_offset<In>(args.normalization, c);
  }
  by_narrow_image_dtype(args.out_dtype, [&]<class Out>() {
    writer.item = sizeof(Out);
    if (!std::is_same_v<In, std::uint8_t> || !std::is_same_v<Out, std::uint8_t>) {
      writer.finish = finish_row_of<In, Out>;
    }
    writer.spread = spread_rows_of<typename Lane<sizeof(Out)>::Element>;
  });
  return writer;
}
template RowWriter row_writer<Mixed>(const AugmentArgs&, WarpScratch&, bool);
template RowWriter row_writer<std::uint8_t>(const AugmentArgs&, WarpScratch&, bool);
template RowWriter row_writer<float>(const AugmentArgs&, WarpScratch&, bool);
template RowWriter row_writer<BFloat16>(const AugmentArgs&, WarpScratch&, bool);
template RowWriter row_writer<Float16>(const AugmentArgs&, WarpScratch&, bool);

}  // namespace strop::augment::simd::STROP_ISA
