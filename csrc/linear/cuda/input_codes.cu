// Rows of x to codes on a GPU, as quantize gives them: a thread block for each row.

#include "linear/cuda/codes.cuh"

namespace strop::linear::cuda {
namespace {

constexpr int kInputThreads = 256;
constexpr int kInputWarps = kInputThreads / kWarp;
constexpr int kPieceWords = static_cast<int>(kPieceColumns) / 4;

struct Task {
  InputCodesArgs args;
  PiecesOnGpu pieces;
};

// NaN where one is among them.
template <class T>
__device__ __forceinline__ quantize::QuantizeParams<float> params_of(const T* x, std::int64_t count,
                                                                     Activations activations) {
  __shared__ float lowest[kInputWarps], highest[kInputWarps];
  float low = 0, high = 0;
  for (std::int64_t k = threadIdx.x; k < count; k += kInputThreads) {
    const float v = widened(x[k]);
    low = smaller(low, v);
    high = larger(high, v);
  }
  for (int distance = 1; distance < kWarp; distance *= 2) {
    low = smaller(low, __shfl_xor_sync(kAllLanes, low, distance));
    high = larger(high, __shfl_xor_sync(kAllLanes, high, distance));
  }
  __syncthreads();  // those of the row before have been read
  if (lane_id() == 0) {
    lowest[threadIdx.x / kWarp] = low;
    highest[threadIdx.x / kWarp] = high;
  }
  __syncthreads();
  for (int w = 0; w < kInputWarps; ++w) {
    low = smaller(low, lowest[w]);
    high = larger(high, highest[w]);
  }
  if (activations == Activations::kUInt8)
    return quantize::choose_asymmetric(low, high, ByteRule{0, 255});
  return quantize::choose_symmetric(larger(-low, high), ByteRule{-128, 127});
}

// A row's scale and zero point in what they are kept as; `offset` is what codes are stored less.
struct ToBytes {
  quantize::QuantizeParams<float> params;
  float least;
  int offset;
  int zero;

  // (a row with NaN or Inf has codes that nobody looks at)
  __device__ __forceinline__ ToBytes(const quantize::QuantizeParams<float>& of, bool is_signed)
      : params(of),
        least(is_signed ? -128.0f : 0.0f),
        offset(is_signed ? 0 : 128),
        zero(whole(of.zero_point) - offset) {}
  static __device__ __forceinline__ int whole(float code) {
    return code == code ? static_cast<int>(code) : 0;
  }
  __device__ __forceinline__ int operator()(float v) const {
    const float code = round_half_even(v * params.inverse) + params.zero_point;
    return whole(min(least + 255.0f, max(least, code))) - offset;
  }
};

template <class T>
__global__ void __launch_bounds__(kInputThreads)
    input_codes_kernel(const __grid_constant__ Task task) {
  const InputCodesArgs& args = task.args;
  const std::int64_t words = task.pieces.all * kPieceWords;
  for (std::int64_t row = blockIdx.x; row < args.rows; row += gridDim.x) {
    const T* const x = static_cast<const T*>(args.x) + row * args.x_stride;
    const ToBytes to_bytes(params_of(x, args.pieces.columns, args.activations),
                           args.activations == Activations::kInt8);
    const std::int64_t begin = row * task.pieces.all;
    auto* const to = reinterpret_cast<std::uint32_t*>(args.to.codes) + begin * kPieceWords;
    for (std::int64_t first = threadIdx.x / kWarp * kWarp; first < words; first += kInputThreads) {
      const std::int64_t word = first + lane_id(), piece = word / kPieceWords;
      const PiecesOnGpu::Place at = task.pieces.place(piece);
      const int within = static_cast<int>(word % kPieceWords) * 4;
      std::uint32_t bytes = 0;
      int sum = 0;
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        if (within + i >= at.count) continue;
        const int byte = to_bytes(widened(x[at.column + within + i]));
        bytes |= (static_cast<std::uint32_t>(byte) & 0xffu) << (8 * i);
        sum += byte - to_bytes.zero;
      }
      for (int distance = 1; distance < kPieceWords; distance *= 2) {
        sum += __shfl_xor_sync(kAllLanes, sum, distance);
      }
      if (word >= words) continue;
      to[word] = bytes;
      if (within == 0) args.to.sums[begin + piece] = sum;
    }
    if (threadIdx.x == 0) {
      args.to.scale[row] = to_bytes.params.scale;
      args.to.zero[row] = to_bytes.zero;
    }
  }
}

}  // namespace
}  // namespace strop::linear::cuda

namespace strop::linear {

void run(const InputCodesArgs& args, const Launch& on) {
  if (args.rows == 0) return;
  const cuda::Task task = {args, cuda::PiecesOnGpu(args.pieces)};
  by_narrow_dtype(args.dtype, [&]<class T>() {
    cuda::launch(on, cuda::input_codes_kernel<T>, args.rows, cuda::kInputThreads, task);
  });
}

}  // namespace strop::linear
