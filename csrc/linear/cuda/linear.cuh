#pragma once

// How a warp goes along a row of bits and its values.

#include "core/cuda/launch.h"
#include "core/cuda/scan.cuh"
#include "linear/bitmap.h"
#include "linear/cuda/rows.cuh"

namespace strop::linear::cuda {
using namespace strop::cuda;

inline constexpr int kMaskedThreads = 128;
inline constexpr int kMaskedWarps = kMaskedThreads / kWarp;

// Note [Steps along a row]
// A step is a byte for each lane: 256 columns, of which a lane has eight neighbours. The bytes of
// four steps are a lane's word, byte s for step s, so that one sum over the lanes of all four
// counts at a time tells where each byte's values begin: a sum of at most 31 bytes' bits, 248, does
// not run over.
//
// A word's values lie side by side, but where a lane's own begin depends on all that come before.
// So the warp copies them as they lie to shared memory, where each lane takes its own: at 50 % a
// step's float32 values are four lines of the first cache, which eight loads from where they are
// would touch each anew. The copies, of 2 KiB then, go on while the word before is worked on, and
// the bits are a word further ahead.
inline constexpr int kSteps = 4;
inline constexpr int kWordBytes = kSteps * kWarp;  // of a row, in the words of a warp
inline constexpr int kWordColumns = 8 * kWordBytes;

// A lane's bytes of the kWordBytes from `begin` on; 0 beyond the row.
__device__ __forceinline__ std::uint32_t bytes_of_lane(const std::uint8_t* row, int bytes,
                                                       int begin) {
  std::uint32_t word = 0;
#pragma unroll
  for (int s = 0; s < kSteps; ++s) {
    const int at = begin + s * kWarp + lane_id();
    if (at < bytes) word |= std::uint32_t{row[at]} << (8 * s);
  }
  return word;
}

__device__ __forceinline__ int byte_of(std::uint32_t word, int s) {
  return static_cast<int>(word >> (8 * s) & 0xff);
}

// The number of bits in each byte of a word.
__device__ __forceinline__ std::uint32_t counts_of_bytes(std::uint32_t word) {
  word -= word >> 1 & 0x55555555u;
  word = (word & 0x33333333u) + (word >> 2 & 0x33333333u);
  return (word + (word >> 4)) & 0x0f0f0f0fu;
}

// A lane's word, and for each of its steps how many values the lanes before have, and all.
struct Word {
  std::uint32_t bytes;
  std::uint32_t before;
  std::uint32_t before_last;
  std::uint32_t last;

  static __device__ __forceinline__ Word of(std::uint32_t bytes) {
    const std::uint32_t counts = counts_of_bytes(bytes);
    const std::uint32_t before = sum_of_lanes_before(counts);
    return {bytes, before, __shfl_sync(kAllLanes, before, kWarp - 1),
            __shfl_sync(kAllLanes, counts, kWarp - 1)};
  }
  __device__ __forceinline__ int count(int s) const {
    return byte_of(before_last, s) + byte_of(last, s);
  }
  __device__ __forceinline__ int count() const {
    int sum = 0;
#pragma unroll
    for (int s = 0; s < kSteps; ++s) sum += count(s);
    return sum;
  }
};

// Calls visit(at, byte, place) for the steps of a word that begins at a row's byte `begin`: a
// lane's byte, 0 beyond the row, and where its values are among those of the word.
template <class Visit>
__device__ __forceinline__ void for_each_step(const Word& word, int begin, int bytes, Visit visit) {
  int place = 0;
#pragma unroll  // as a loop, 76 registers for eight rows of x instead of 68
  for (int s = 0; s < kSteps && begin + s * kWarp < bytes; ++s) {
    visit(begin + s * kWarp + lane_id(), byte_of(word.bytes, s), place + byte_of(word.before, s));
    place += word.count(s);
  }
}

// A warp's scratch in shared memory: the values of a word, and of the one that is on its way.
template <class Values>
struct alignas(4) Scratch {
  Values word[2][kWordColumns + 2];
};

// Sends a warp's copies of `bytes` on their way, as one group of each lane. Copies are of four
// bytes, from where `source` is aligned.
__device__ __forceinline__ void stage_bytes(const void* source, int bytes, void* to) {
  for (int at = 4 * lane_id(); at < bytes; at += 4 * kWarp) {
    copy_async(static_cast<char*>(to) + at, static_cast<const char*>(source) + at,
               bytes - at < 4 ? bytes - at : 4);
  }
  commit_copies();
}

// The values of a row that are not yet on their way.
template <class Values>
struct ValuesAhead {
  const Values* next;
  Scratch<Values>& scratch;

  // Sends so many on their way. Returns where the first one is. Of none nothing is sent: after a
  // row's last word nobody waits for it, and the next row begins in either room.
  __device__ __forceinline__ int stage(int count, int turn) {
    const int shift = static_cast<int>(reinterpret_cast<std::uintptr_t>(next) % 4 / sizeof(Values));
    const int bytes = (shift + count) * static_cast<int>(sizeof(Values));
    stage_bytes(next - shift, count > 0 ? bytes : 0, scratch.word[turn]);
    next += count;
    return shift;
  }
  __device__ __forceinline__ const Values* staged(int turn, int shift, int place) const {
    return scratch.word[turn] + shift + place;
  }
};

struct Nothing {
  __device__ __forceinline__ void operator()(int) const {}
};

// Calls visit(at, byte, staged) along a row: with a lane's byte, 0 beyond the row, and what is kept
// of it; after a word of the warp, done(begin). `ahead` is ValuesAhead, or what else lies as they
// do.
template <class Ahead, class Visit, class Done = Nothing>
__device__ __forceinline__ void for_each_byte(const std::uint8_t* row, int bytes, Ahead ahead,
                                              Visit visit, Done done = {}) {
  int turn = 0;
  Word next = Word::of(bytes_of_lane(row, bytes, 0));
  std::uint32_t further = bytes_of_lane(row, bytes, kWordBytes);
  int shift = ahead.stage(next.count(), 0);
  for (int begin = 0; begin < bytes; begin += kWordBytes) {
    const Word word = next;
    const int here = turn, first = shift;
    turn ^= 1;
    next = Word::of(further);
    further = bytes_of_lane(row, bytes, begin + 2 * kWordBytes);
    shift = ahead.stage(next.count(), turn);
    wait_for_copies<1>();
    __syncwarp();  // the copies of all lanes are there
    for_each_step(word, begin, bytes, [&](int at, int byte, int place) {
      visit(at, byte, ahead.staged(here, first, place));
    });
    __syncwarp();  // and have been used
    done(begin);
  }
}

// Calls visit(row) for a warp's rows.
template <class Visit>
__device__ __forceinline__ void for_each_row(std::int64_t rows, Visit visit) {
  const std::int64_t first = std::int64_t{blockIdx.x} * kMaskedWarps + threadIdx.x / kWarp;
  for (std::int64_t row = first; row < rows; row += std::int64_t{gridDim.x} * kMaskedWarps) {
    visit(row);
  }
}

// The lanes' sums of a row of the weight, one for each row of x, become results.
template <class T, int kRows>
__device__ __forceinline__ void store_sums(const LinearRows& args, std::int64_t row,
                                           float (&sums)[kRows]) {
  float own = 0;  // lane m has the sum for row m of x
#pragma unroll
  for (int m = 0; m < kRows; ++m) {
    for (int distance = 1; distance < kWarp; distance *= 2) {
      sums[m] += __shfl_xor_sync(kAllLanes, sums[m], distance);
    }
    if (lane_id() == m) own = sums[m];
  }
  if (lane_id() < args.rows) {
    T* const y = static_cast<T*>(args.y) + lane_id() * args.y_stride + row;
    store_rounded(y, activated(own + bias_at(args, row), args.activation));
  }
}

inline std::int64_t row_blocks(std::int64_t rows) {
  return (rows + kMaskedWarps - 1) / kMaskedWarps;
}

// Calls function.operator()<Values, To>() for the types of which the first widens to the second.
template <class Function>
void by_widening(DType values, DType to, Function function) {
  by_narrow_dtype(values, [&]<class Values>() {
    if (to == values) return function.template operator()<Values, Values>();
    function.template operator()<Values, float>();
  });
}

}  // namespace strop::linear::cuda
