// Faults of every kind that the host execution is there to catch, each in a kernel of its own; and
// kernels that come close and are right. The line of a fault ends in its name.

#include <cuda_runtime.h>

#include <map>
#include <string>

#include "core/cuda/intrinsics.cuh"
#include "core/cuda/launch.h"
#include "cuda_host/device_arrays.h"
#include "cuda_host/faults.h"
#include "cuda_host/grid.h"

namespace strop::cuda_host {
namespace {

constexpr int kThreads = 64;
constexpr int kBlocks = 3;
constexpr int kCount = kThreads * kBlocks;
constexpr unsigned kAll = 0xffffffffu;

// What each kernel has: kCount inputs and outputs, and kCount numbers of a workspace.
struct Data {
  const float* in;
  float* out;
  int* work;
};
using Kernel = void (*)(Data);

__device__ int self() { return static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x); }
__device__ int lane() { return static_cast<int>(threadIdx.x) % 32; }
__device__ int first() { return static_cast<int>(threadIdx.x) - lane(); }

__global__ void missing_barrier(Data d) {
  __shared__ float held[kThreads];
  held[threadIdx.x] = d.in[self()];
  d.out[self()] = held[kThreads - 1 - threadIdx.x];  // missing_barrier
}

__global__ void missing_barrier_before_writing(Data d) {
  __shared__ float held[kThreads];
  held[threadIdx.x] = d.in[self()];
  __syncthreads();
  d.out[self()] = held[kThreads - 1 - threadIdx.x];
  held[threadIdx.x] = 0;  // missing_barrier_before_writing
}

__global__ void missing_syncwarp(Data d) {
  __shared__ float held[kThreads];
  held[threadIdx.x] = d.in[self()];
  d.out[self()] = held[first() + (lane() ^ 1)];  // missing_syncwarp
}

__global__ void shuffle_for_barrier(Data d) {
  __shared__ float held[kThreads];
  held[threadIdx.x] = __shfl_xor_sync(kAll, d.in[self()], 1);
  const float other = __shfl_xor_sync(kAll, d.in[self()], 2);
  d.out[self()] = other + held[first() + (lane() ^ 1)];  // shuffle_for_barrier
}

__global__ void syncwarp_of_half(Data d) {
  __shared__ float held[kThreads];
  held[threadIdx.x] = d.in[self()];
  __syncwarp(lane() < 16 ? 0x0000ffffu : 0xffff0000u);
  d.out[self()] = held[first() + (lane() ^ 16)];  // syncwarp_of_half
}

__global__ void missing_wait(Data d) {
  __shared__ float held[kThreads];
  cuda::copy_async(held + threadIdx.x, d.in + self(), 4);
  cuda::commit_copies();
  d.out[self()] = held[threadIdx.x];  // missing_wait
}

__global__ void plain_count(Data d) {
  __shared__ int count;
  if (threadIdx.x == 0) count = 0;
  __syncthreads();
  count += 1;  // plain_count
  d.out[self()] = static_cast<float>(count);
}

__global__ void plain_count_of_blocks(Data d) {
  if (threadIdx.x != 0) return;
  if (blockIdx.x == 0) d.work[0] = 0;
  d.out[self()] = static_cast<float>(atomicAdd(d.work, 1));  // plain_count_of_blocks
}

__global__ void same_value_twice(Data d) {
  if (threadIdx.x == 0) d.out[0] = 1;  // same_value_twice
}

__global__ void atomic_and_plain(Data d) {
  __shared__ int most;
  if (threadIdx.x == 0) most = 0;
  __syncthreads();
  atomicMax(&most, static_cast<int>(threadIdx.x));
  d.out[self()] = static_cast<float>(most);  // atomic_and_plain
}

__global__ void reads_another_block(Data d) {
  d.out[self()] = d.in[self()];
  __syncthreads();
  d.work[self()] = static_cast<int>(d.out[(self() + kThreads) % kCount]);  // reads_another_block
}

__global__ void two_barriers(Data d) {
  if (threadIdx.x < 32) {
    __syncthreads();  // two_barriers
  } else {
    __syncthreads();  // two_barriers
  }
  d.out[self()] = 0;
}

__global__ void early_return(Data d) {
  if (threadIdx.x == 5) return;
  __syncthreads();  // early_return
  d.out[self()] = 0;
}

__global__ void barrier_of_some(Data d) {
  if (threadIdx.x < 32) __syncthreads();  // barrier_of_some
  d.out[self()] = 0;
}

__global__ void shuffle_of_some(Data d) {
  float v = d.in[self()];
  if (lane() < 16) v += __shfl_xor_sync(kAll, v, 1);  // shuffle_of_some
  d.out[self()] = v;
}

__global__ void shuffles_of_two_branches(Data d) {
  float v = d.in[self()];
  if (lane() % 2 == 0) {
    v = __shfl_xor_sync(kAll, v, 1);  // shuffles_of_two_branches
  } else {
    v = __shfl_xor_sync(kAll, v, 3);  // shuffles_of_two_branches
  }
  d.out[self()] = v;
}

__global__ void self_not_in_mask(Data d) {
  d.out[self()] = __shfl_sync(0x0000ffffu, d.in[self()], 0);  // self_not_in_mask
}

__global__ void masks_differ(Data d) {
  const unsigned mask = lane() == 3 ? 0x0fffffffu : kAll;
  d.out[self()] = __shfl_xor_sync(mask, d.in[self()], 1);  // masks_differ
}

__global__ void source_not_in_mask(Data d) {
  if (lane() >= 16) return;
  d.out[self()] = __shfl_sync(0x0000ffffu, d.in[self()], 20);  // source_not_in_mask
}

__global__ void lane_has_returned(Data d) {
  if (lane() == 7) return;
  __syncwarp(~(1u << 7));
  d.out[self()] = static_cast<float>(__ballot_sync(kAll, 1));  // lane_has_returned
}

__global__ void reads_past_the_end(Data d) {
  d.out[self()] = d.in[self() + 2 * kCount + 1];  // reads_past_the_end
}

__global__ void writes_before_the_begin(Data d) {
  d.out[self() - 1] = 0;  // writes_before_the_begin
}

__global__ void vector_past_the_end(Data d) {
  if (self() % 4 != 2) return;
  const auto* const at = reinterpret_cast<const float4*>(d.in + 2 * kCount + self() + 2);
  d.out[self()] = at->w;  // vector_past_the_end
}

__global__ void gap_between_rows(Data d) {
  d.out[self()] = d.in[kCount + 8];  // gap_between_rows
}

__global__ void shared_index(Data d) {
  __shared__ float held[kThreads];
  held[threadIdx.x + (d.in[self()] >= 0 ? 1 : 0)] = 0;  // shared_index
}

__global__ void dynamic_shared_index(Data d) {
  auto* const held = reinterpret_cast<float*>(dynamic_shared());
  held[threadIdx.x + 1] = d.in[self()];  // dynamic_shared_index
}

__global__ void misaligned_vector(Data d) {
  if (threadIdx.x != 0) return;
  d.out[self()] = reinterpret_cast<const float4*>(d.in + 1)->x;  // misaligned_vector
}

__global__ void uninitialised_shared(Data d) {
  __shared__ float held[kThreads];
  if (threadIdx.x != 9) held[threadIdx.x] = d.in[self()];
  __syncthreads();
  d.out[self()] = held[threadIdx.x];  // uninitialised_shared
}

__global__ void shared_of_the_block_before(Data d) {
  __shared__ float held;
  if (blockIdx.x == 0 && threadIdx.x == 0) held = d.in[0];
  __syncthreads();
  d.out[self()] = held;  // shared_of_the_block_before
}

__global__ void uninitialised_workspace(Data d) {
  d.out[self()] = static_cast<float>(d.work[self()]);  // uninitialised_workspace
}

__global__ void writes_to_an_input(Data d) {
  const_cast<float*>(d.in)[self()] = 0;  // writes_to_an_input
}

__global__ void local_of_another_thread(Data d) {
  __shared__ const float* shown;
  const float own[2] = {d.in[self()], 1};
  if (threadIdx.x == 0) shown = own;
  __syncthreads();
  d.out[self()] = shown[threadIdx.x % 2];  // local_of_another_thread
}

__global__ void host_memory(Data d) {
  const std::uintptr_t at = d.in[self()] >= 0 ? 64 : 0;
  d.out[self()] = *reinterpret_cast<const volatile float*>(at);  // host_memory
}

__global__ void unwritten(Data d) {
  if (self() != 77) d.out[self()] = 0;
}

__global__ void no_loop_over_the_grid(Data d) {
  if (blockIdx.x < 2) d.out[self()] = 0;  // as many blocks as a small GPU gave it
}

__global__ void overflow(Data d) {
  int n = 0x7fffffff - 10;
  n += static_cast<int>(d.in[self()]);  // overflow
  d.out[self()] = static_cast<float>(n);
}

__global__ void division_by_zero(Data d) {
  d.out[self()] = static_cast<float>(7 / static_cast<int>(d.in[self()]));  // division_by_zero
}

__global__ void long_shift(Data d) {
  d.out[self()] = static_cast<float>(1 << static_cast<int>(d.in[self()]));  // long_shift
}

__global__ void right_barriers(Data d) {
  __shared__ float held[kThreads];
  for (int i = 0; i < 3; ++i) {
    held[threadIdx.x] = d.in[self()] + static_cast<float>(i);
    __syncthreads();
    d.out[self()] = held[kThreads - 1 - threadIdx.x];
    __syncthreads();
  }
}

__global__ void right_syncwarps(Data d) {
  __shared__ float held[kThreads];
  held[threadIdx.x] = d.in[self()];
  const unsigned half = lane() < 16 ? 0x0000ffffu : 0xffff0000u;
  __syncwarp(half);
  float v = held[first() + (lane() ^ 8)];
  __syncwarp();
  v += held[first() + (lane() ^ 16)] + __shfl_up_sync(kAll, v, 1);
  v += __shfl_xor_sync(half, v, 4);
  if (lane() < 4) v += __shfl_down_sync(0xfu, v, 2, 4);
  __syncwarp();
  held[threadIdx.x] = v;
  d.out[self()] = held[threadIdx.x];
}

__global__ void right_atomics(Data d) {
  __shared__ int sum;
  if (threadIdx.x == 0) sum = 0;
  __syncthreads();
  atomicAdd(&sum, static_cast<int>(d.in[self()]));
  __syncthreads();
  d.out[self()] = static_cast<float>(sum);
}

__global__ void right_dynamic_shared(Data d) {
  auto* const held = reinterpret_cast<float*>(dynamic_shared());
  held[threadIdx.x] = d.in[self()];
  __syncthreads();
  d.out[self()] = held[threadIdx.x ^ 32];
}

__global__ void right_copy(Data d) { d.out[self()] = d.in[self()]; }
__global__ void right_after_a_copy(Data d) {
  d.work[self()] = static_cast<int>(d.out[(self() + kThreads) % kCount]);
}

// Sums up in whatever order the blocks come: the result is another one for another seed.
__global__ void float_atomics(Data d) {
  auto* const sum = reinterpret_cast<float*>(d.work);
  atomicAdd(sum, 1.0f / static_cast<float>(1 + self()));
  d.out[self()] = 0;
}

struct Case {
  Kernel kernel;
  std::size_t shared = 0;
  Kernel then = nullptr;  // launched after it
};

#define STROP_CASE(name, ...)      \
  {                                \
    #name, { name, ##__VA_ARGS__ } \
  }
const std::map<std::string, Case> kCases = {
    STROP_CASE(missing_barrier),
    STROP_CASE(missing_barrier_before_writing),
    STROP_CASE(missing_syncwarp),
    STROP_CASE(shuffle_for_barrier),
    STROP_CASE(syncwarp_of_half),
    STROP_CASE(missing_wait),
    STROP_CASE(plain_count),
    STROP_CASE(plain_count_of_blocks),
    STROP_CASE(same_value_twice),
    STROP_CASE(atomic_and_plain),
    STROP_CASE(reads_another_block),
    STROP_CASE(two_barriers),
    STROP_CASE(early_return),
    STROP_CASE(barrier_of_some),
    STROP_CASE(shuffle_of_some),
    STROP_CASE(shuffles_of_two_branches),
    STROP_CASE(self_not_in_mask),
    STROP_CASE(masks_differ),
    STROP_CASE(source_not_in_mask),
    STROP_CASE(lane_has_returned),
    STROP_CASE(reads_past_the_end),
    STROP_CASE(gap_between_rows),
    STROP_CASE(writes_before_the_begin),
    STROP_CASE(vector_past_the_end),
    STROP_CASE(shared_index),
    STROP_CASE(dynamic_shared_index, kThreads * 4),
    STROP_CASE(misaligned_vector),
    STROP_CASE(uninitialised_shared),
    STROP_CASE(shared_of_the_block_before),
    STROP_CASE(uninitialised_workspace),
    STROP_CASE(writes_to_an_input),
    STROP_CASE(local_of_another_thread),
    STROP_CASE(host_memory),
    STROP_CASE(unwritten),
    STROP_CASE(no_loop_over_the_grid),
    STROP_CASE(overflow),
    STROP_CASE(division_by_zero),
    STROP_CASE(long_shift),
    STROP_CASE(right_barriers),
    STROP_CASE(right_syncwarps),
    STROP_CASE(right_atomics),
    STROP_CASE(right_dynamic_shared, kThreads * 4),
    STROP_CASE(float_atomics),
    {"too_much_shared", {right_dynamic_shared, (48 << 10) + 4}},
    {"right_two_launches", {right_copy, 0, right_after_a_copy}},
};

void launch_kernel(Kernel kernel, std::size_t shared, const Data& data) {
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3{kBlocks, 1, 1};
  config.blockDim = dim3{kThreads, 1, 1};
  config.dynamicSmemBytes = shared;
  cuda::check(cudaLaunchKernelEx(&config, kernel, data), "launch");
}

}  // namespace

float run_case(const std::string& name) {
  const Case& wanted = kCases.at(name);
  // The input has a second row, with a gap before it.
  std::vector<float> in(4 * kCount), out(kCount);
  for (int i = 0; i < kCount; ++i) in[static_cast<std::size_t>(i)] = static_cast<float>(i);
  DeviceArrays arrays;
  arrays.add({"input", in.data(), 4, {{2, 2 * kCount}, {kCount, 1}}, Use::kInput});
  arrays.add({"output", out.data(), 4, {{kCount, 1}}, Use::kOutput});
  arrays.upload();
  auto* const work = static_cast<int*>(arrays.scratch("workspace", kCount * 4));
  if (name == "float_atomics") cuda::check(cudaMemsetAsync(work, 0, 4, nullptr), "clear");
  const Data data = {arrays.at(in.data()), arrays.at(out.data()), work};
  launch_kernel(wanted.kernel, wanted.shared, data);
  if (wanted.then != nullptr) launch_kernel(wanted.then, 0, data);
  arrays.download();
  return name == "float_atomics" ? *reinterpret_cast<float*>(work) : 0.0f;
}

std::vector<std::string> case_names() {
  std::vector<std::string> names;
  for (const auto& [name, _] : kCases) names.push_back(name);
  return names;
}

}  // namespace strop::cuda_host
