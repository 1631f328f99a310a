#include "cuda_host/grid.h"

#include <algorithm>
#include <bit>
#include <numeric>
#include <sstream>
#include <utility>

namespace strop::cuda_host {

// What threadIdx and so on are to a kernel (cuda_runtime.h), for the thread that runs.
Size3 thread_index asm("strop_cuda_host_thread_index");
Size3 block_index asm("strop_cuda_host_block_index");
Size3 block_shape asm("strop_cuda_host_block_shape");
Size3 grid_shape asm("strop_cuda_host_grid_shape");

namespace {

constexpr std::size_t kStackBytes = std::size_t{64} << 10;

Size3 unflatten(std::size_t number, const Size3& size) {
  return {static_cast<unsigned>(number % size.x), static_cast<unsigned>(number / size.x % size.y),
          static_cast<unsigned>(number / size.x / size.y)};
}

std::string text_of(const Size3& index) {
  if (index.y == 0 && index.z == 0) return std::to_string(index.x);
  std::ostringstream text;
  text << index.x << ',' << index.y << ',' << index.z;
  return text.str();
}

std::string text_of(const Place& place) {
  return base_name(place.file) + ":" + std::to_string(place.line);
}

}  // namespace

Grid& Grid::instance() {
  static Grid grid;
  return grid;
}

void Grid::reserve(std::size_t threads) {
  threads_.resize(threads);
  warps_.resize((threads + kWarp - 1) / kWarp);
  warp_order_.resize(warps_.size());
  std::iota(warp_order_.begin(), warp_order_.end(), std::size_t{0});
  if (stacks_held_ < threads) {
    stacks_.reset(new std::byte[threads * kStackBytes]);
    stacks_held_ = threads;
  }
  for (std::size_t i = 0; i < threads; ++i) threads_[i].stack = stacks_.get() + i * kStackBytes;
}

void Grid::run(Size3 grid, Size3 block, void (*body)(const void*), const void* data) {
  throw_pending();
  grid_shape = grid;
  block_shape = block;
  count_ = block.count();
  body_ = body;
  data_ = data;
  reserve(count_);
  first_block_ = block_number_ + 1;
  std::vector<std::size_t> order(grid.count());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::shuffle(order.begin(), order.end(), random_);
  for (const std::size_t number : order) {
    start_block(unflatten(number, grid));
    switch_to(next());
    throw_pending();
  }
}

void Grid::throw_pending() {
  if (!fault_.empty()) throw Fault(std::exchange(fault_, {}));
}

void Grid::undefined(const char* what, Place place) {
  const Inside inside(*this);
  const std::string text = std::string(what) + " at " + text_of(place);
  if (running()) fail(text);
  if (fault_.empty()) fault_ = "CUDA on the host: host code " + text;
}

void Grid::start_block(Size3 index) {
  memory_.begin_block();
  ++block_number_;
  epoch_ = 1;
  block_index = index;
  alive_ = count_;
  at_barrier_ = 0;
  copies_.assign(count_, {});
  backwards_ = (random_() & 1) != 0;
  std::shuffle(warp_order_.begin(), warp_order_.end(), random_);
  for (std::size_t i = 0; i < count_; ++i) {
    Thread& thread = threads_[i];
    thread.index = unflatten(i, block_shape);
    thread.state = State::kReady;
    prepare(thread.fiber, thread.stack, kStackBytes, &Grid::enter);
  }
  for (std::size_t w = 0; w < warps_.size(); ++w) {
    Warp& warp = warps_[w];
    const std::size_t lanes = std::min<std::size_t>(count_ - w * kWarp, kWarp);
    warp.alive = warp.ready = static_cast<std::uint32_t>((std::uint64_t{1} << lanes) - 1);
    warp.arrived = 0;
    warp.tick = 1;
    for (auto& row : warp.seen) std::fill(std::begin(row), std::end(row), 0);
  }
}

void Grid::enter() {
  Grid& grid = instance();
  grid.inside_ = false;
  grid.body_(grid.data_);
  grid.inside_ = true;
  grid.finish_thread();
}

Grid::Thread* Grid::next() {
  // The lanes of the running warp first, then the warps in their order.
  const std::size_t here = current_ == nullptr ? warp_order_[0] : number_of(current_) / kWarp;
  const std::size_t from = current_ == nullptr ? random_() % kWarp : number_of(current_) % kWarp;
  const auto lane_of = [&](std::uint32_t ready) {
    const int turn = static_cast<int>(from);
    if (backwards_) {
      return (kWarp - 1 - std::countl_zero(std::rotr(ready, turn)) + turn) % kWarp;
    }
    return (std::countr_zero(std::rotr(ready, turn)) + turn) % kWarp;
  };
  const auto take = [&](std::size_t warp) -> Thread* {
    if (warps_[warp].ready == 0) return nullptr;
    return &threads_[warp * kWarp + static_cast<std::size_t>(lane_of(warps_[warp].ready))];
  };
  if (Thread* const thread = take(here)) return thread;
  for (const std::size_t warp : warp_order_) {
    if (Thread* const thread = take(warp)) return thread;
  }
  return nullptr;
}

// nullptr: to the host.
void Grid::switch_to(Thread* thread) {
  Fiber& from = current_ == nullptr ? host_ : current_->fiber;
  if (thread == current_) return;
  current_ = thread;
  if (thread != nullptr) thread_index = thread->index;
  switch_fiber(from, thread == nullptr ? host_ : thread->fiber);
}

void Grid::finish_thread() {
  const std::size_t number = number_of(current_);
  Warp& warp = warps_[number / kWarp];
  const std::uint32_t bit = 1u << number % kWarp;
  current_->state = State::kDone;
  warp.ready &= ~bit;
  warp.alive &= ~bit;
  --alive_;
  if (alive_ == 0) switch_to(nullptr);
  wait();
}

// The running thread cannot go on: another one does.
void Grid::wait() {
  Thread* const thread = next();
  if (thread == nullptr) explain_deadlock();
  switch_to(thread);
}

void Grid::explain_deadlock() {
  const Thread* waiting = nullptr;
  const Thread* other = nullptr;
  for (std::size_t i = 0; i < count_; ++i) {
    const Thread& thread = threads_[i];
    if (thread.state != State::kAtBarrier && thread.state != State::kTogether) continue;
    if (waiting == nullptr) waiting = &thread;
    if (thread.place != waiting->place) other = &thread;
  }
  std::string text = name_of(waiting) + " waits at " + text_of(waiting->place) + " for ever: ";
  if (other != nullptr) {
    text += name_of(other) + " waits at " + text_of(other->place);
  } else {
    text += std::to_string(count_ - alive_) + " threads have returned";
  }
  fail(text + " (divergence)");
}

void Grid::barrier(Place place) {
  const Inside inside(*this);
  const std::size_t number = number_of(current_);
  if (at_barrier_ > 0 && barrier_place_ != place) {
    fail("comes to the barrier at " + text_of(place) + " while others wait at the one at " +
         text_of(barrier_place_) + " (divergence)");
  }
  barrier_place_ = place;
  ++at_barrier_;
  if (at_barrier_ == count_) {
    at_barrier_ = 0;
    ++epoch_;
    for (std::size_t i = 0; i < count_; ++i) {
      threads_[i].state = State::kReady;
      warps_[i / kWarp].ready |= 1u << i % kWarp;
    }
    return;
  }
  current_->state = State::kAtBarrier;
  current_->place = place;
  warps_[number / kWarp].ready &= ~(1u << number % kWarp);
  wait();
}

std::uint64_t Grid::together(const CollectiveCall& call, std::uint64_t value) {
  const Inside inside(*this);
  const std::size_t number = number_of(current_);
  Warp& warp = warps_[number / kWarp];
  Thread& self = *current_;
  self.call = call;
  self.place = call.place;
  self.given = value;
  check_call(warp, call);
  self.state = State::kTogether;
  warp.arrived |= 1u << number % kWarp;
  // Those that came before have to be here for the same: one of them tells, at the end all.
  const std::uint32_t others = warp.arrived & call.mask & ~(1u << number % kWarp);
  const bool same = all_came_for(call, others & -others);
  if (same && (warp.arrived & call.mask) == call.mask && all_came_for(call, others)) {
    complete(warp, call);
  } else {
    warp.ready &= ~(1u << number % kWarp);
    wait();
  }
  return self.taken;
}

void Grid::check_call(const Warp& warp, const CollectiveCall& call) {
  if ((call.mask >> number_of(current_) % kWarp & 1) == 0) {
    fail("is not in the mask that it gives at " + text_of(call.place) + " (mask)");
  }
  if (call.width < 1 || call.width > kWarp || !std::has_single_bit(unsigned(call.width))) {
    fail("shuffles in a width of " + std::to_string(call.width) + " at " + text_of(call.place) +
         " (width)");
  }
  if ((call.mask & ~warp.alive) != 0) {
    fail("names a lane in its mask at " + text_of(call.place) + " that has returned (mask)");
  }
}

bool Grid::all_came_for(const CollectiveCall& call, std::uint32_t lanes) {
  const std::size_t lane = number_of(current_) % kWarp;
  const std::size_t first = number_of(current_) - lane;
  for (; lanes != 0; lanes &= lanes - 1) {
    const Thread& other = threads_[first + static_cast<std::size_t>(std::countr_zero(lanes))];
    if (other.call.what == call.what && other.call.mask == call.mask &&
        other.call.width == call.width && other.place == call.place) {
      continue;
    }
    // One that waits for others alone will come yet.
    if ((other.call.mask >> lane & 1) == 0) return false;
    fail("comes to " + text_of(call.place) + " while " + name_of(&other) + " waits for it at " +
         text_of(other.place) + (other.place == call.place ? " with another mask" : "") +
         " (divergence)");
  }
  return true;
}

void Grid::complete(Warp& warp, const CollectiveCall& call) {
  const std::size_t first = number_of(current_) / kWarp * kWarp;
  std::uint64_t ballot = 0;
  for (std::uint32_t left = call.mask; left != 0; left &= left - 1) {
    const int lane = std::countr_zero(left);
    if (threads_[first + static_cast<std::size_t>(lane)].given != 0) ballot |= 1u << lane;
  }
  for (std::uint32_t left = call.mask; left != 0; left &= left - 1) {
    const int lane = std::countr_zero(left);
    Thread& thread = threads_[first + static_cast<std::size_t>(lane)];
    thread.state = State::kReady;
    thread.taken = call.what >= Collective::kBallot ? ballot : shuffled(thread.call, lane, first);
  }
  warp.ready |= call.mask;
  warp.arrived &= ~call.mask;
  if (call.what == Collective::kSync) join(warp, call.mask);
}

std::uint64_t Grid::shuffled(const CollectiveCall& call, int lane, std::size_t first) {
  const int operand = call.operand & (kWarp - 1);  // as the hardware takes it
  const int base = lane / call.width * call.width;
  int source = lane;
  switch (call.what) {
    case Collective::kShuffleIndex:
      source = base + (operand & (call.width - 1));
      break;
    case Collective::kShuffleUp:
      if (lane - operand >= base) source = lane - operand;
      break;
    case Collective::kShuffleDown:
      if (lane + operand < base + call.width) source = lane + operand;
      break;
    default:
      if ((lane ^ operand) < base + call.width) source = lane ^ operand;
  }
  if ((call.mask >> source & 1) == 0) {
    fail("lane " + std::to_string(lane) + " reads lane " + std::to_string(source) + " at " +
         text_of(call.place) + ", which is not in the mask (mask)");
  }
  return threads_[first + static_cast<std::size_t>(source)].given;
}

// Note [Order of accesses]
void Grid::join(Warp& warp, std::uint32_t mask) {
  std::uint32_t heard[kWarp] = {};
  ++warp.tick;
  for (std::uint32_t left = mask; left != 0; left &= left - 1) {
    const auto& seen = warp.seen[std::countr_zero(left)];
    for (int i = 0; i < kWarp; ++i) heard[i] = std::max(heard[i], seen[i]);
  }
  for (int i = 0; i < kWarp; ++i) {
    if ((mask >> i & 1) != 0) heard[i] = warp.tick;
  }
  for (std::uint32_t left = mask; left != 0; left &= left - 1) {
    std::copy(std::begin(heard), std::end(heard), warp.seen[std::countr_zero(left)]);
  }
}

Actor Grid::actor() const {
  const std::size_t number = number_of(current_);
  const Warp& warp = warps_[number / kWarp];
  const auto lane = static_cast<std::uint16_t>(number % kWarp);
  return {
      block_number_, first_block_,   epoch_, warp.tick, static_cast<std::uint16_t>(number / kWarp),
      lane,          warp.seen[lane]};
}

void Grid::access(const void* at, std::size_t bytes, Kind kind, CodeAddress code) {
  const auto address = reinterpret_cast<std::uintptr_t>(at);
  const auto stack = reinterpret_cast<std::uintptr_t>(current_->stack);
  if (address - stack < kStackBytes) return;  // a thread's own
  const Inside inside(*this);
  Region* const region = memory_.find(address);
  Complaint complaint;
  if (region != nullptr) {
    region->used_since_forgotten = true;
    if (region->access(address, bytes, kind, actor(), code, complaint)) return;
    complaint.what +=
        ": byte " + std::to_string(address - region->begin()) + " of " + region->name();
  } else if (kind == Kind::kRead && is_constant(address)) {
    return;
  } else {
    complaint.what = "touches " + describe_outside(address) + " (out of bounds)";
  }
  std::string text = complaint.what + ", at " + describe(code);
  if (complaint.other != 0) text += "; the other at " + describe(complaint.other);
  fail(text);
}

std::string Grid::describe_outside(std::uintptr_t address) const {
  if (const Region* const near = memory_.beside(address)) {
    const bool before = address < near->begin();
    const std::uintptr_t distance = before ? near->begin() - address : address - near->end();
    return "memory " + std::to_string(distance) + " bytes " + (before ? "before " : "after ") +
           near->name();
  }
  const auto stacks = reinterpret_cast<std::uintptr_t>(stacks_.get());
  if (address - stacks < stacks_held_ * kStackBytes) return "another thread's local variables";
  return "what is no device memory";
}

std::string Grid::name_of(const Thread* thread) const {
  return "thread " + text_of(thread->index) + " of block " + text_of(block_index);
}

void Grid::fail(const std::string& what) {
  if (!running()) throw Fault("CUDA on the host: " + what);
  fault_ = "CUDA on the host: " + name_of(current_) + ": " + what;
  switch_to(nullptr);  // for good: the fiber's stack is used anew
}

}  // namespace strop::cuda_host
