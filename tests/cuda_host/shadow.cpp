#include "cuda_host/shadow.h"

#include <algorithm>
#include <cstring>

namespace strop::cuda_host {
namespace {

const char* verb(Kind kind) {
  if (kind == Kind::kRead) return "reads";
  return kind == Kind::kWrite ? "writes" : "updates";
}

const char* participle(Kind kind) {
  if (kind == Kind::kRead) return "read";
  return kind == Kind::kWrite ? "wrote" : "updated";
}

std::string who(const Access& access, const Actor& actor) {
  if (access.warp == Access::kSeveralBlocks) return "several blocks";
  std::string text = access.block == actor.block ? "" : "another block's ";
  if (access.warp == Access::kSeveralWarps) return text + "several warps";
  const int lane = __builtin_ctz(access.lanes);
  return text + "thread " + std::to_string(access.warp * kWarp + lane);
}

}  // namespace

Region::Region(std::string name, std::uintptr_t begin, std::size_t bytes, bool shared)
    : name_(std::move(name)), begin_(begin), shared_(shared), state_(bytes) {
  cells_.resize((bytes >> shift_) + 1);
}

void Region::allow(std::uintptr_t at, std::size_t bytes, bool initialised, bool writable) {
  const int flags = kThere | (initialised ? kInitialised : 0) | (writable ? kWritable : 0);
  for (std::size_t i = 0; i < bytes; ++i) {
    state_[at - begin_ + i] |= static_cast<std::uint8_t>(flags);
  }
}

bool Region::fill(std::uintptr_t at, std::size_t bytes) {
  for (std::size_t i = 0; i < bytes; ++i) {
    std::uint8_t& state = state_[at - begin_ + i];
    if ((state & kThere) == 0 || (state & kWritable) == 0) return false;
    state |= kInitialised | kWritten;
  }
  return true;
}

void Region::forget() {
  std::memset(state_.data(), kThere | kWritable, state_.size());
  used_since_forgotten = false;
}

bool Region::check_bytes(std::size_t offset, std::size_t bytes, Kind kind, Complaint& complaint) {
  int all = 0xff;
  for (std::size_t i = 0; i < bytes; ++i) all &= state_[offset + i];
  const char* trouble = nullptr;
  if ((all & kThere) == 0) {
    trouble = "where no element is (out of bounds)";
  } else if (kind != Kind::kRead && (all & kWritable) == 0) {
    trouble = "what is an input";
  } else if (kind != Kind::kWrite && (all & kInitialised) == 0) {
    trouble = "what nothing was written to (uninitialised)";
  }
  if (trouble != nullptr) {
    complaint.what = std::string(verb(kind)) + " " + trouble;
    return false;
  }
  if (kind != Kind::kRead) {
    for (std::size_t i = 0; i < bytes; ++i) state_[offset + i] |= kInitialised | kWritten;
  }
  return true;
}

void Region::refine(int shift) {
  std::vector<Cell> finer(((state_.size()) >> shift) + 1);
  for (std::size_t i = 0; i < finer.size(); ++i) finer[i] = cells_[i >> (shift_ - shift)];
  cells_ = std::move(finer);
  shift_ = shift;
}

bool Region::ordered(const Access& before, const Actor& actor) const {
  if (before.block < actor.first_block) return true;
  if (before.warp == Access::kSeveralBlocks) return false;
  if (before.block != actor.block) return shared_;  // every block has shared memory of its own
  if (before.epoch < actor.epoch) return true;
  if (before.warp != actor.warp) return false;
  std::uint32_t others = before.lanes & ~(1u << actor.lane);
  for (; others != 0; others &= others - 1) {
    if (actor.seen[__builtin_ctz(others)] <= before.tick) return false;
  }
  return true;
}

void Region::note(Access& access, const Actor& actor, CodeAddress code) const {
  if (ordered(access, actor)) {
    access = {.block = actor.block,
              .epoch = actor.epoch,
              .tick = actor.tick,
              .lanes = 1u << actor.lane,
              .warp = actor.warp,
              .code = code};
    return;
  }
  if (access.block != actor.block) {
    access.warp = Access::kSeveralBlocks;
  } else if (access.warp != actor.warp && access.warp != Access::kSeveralBlocks) {
    access.warp = Access::kSeveralWarps;
  }
  access.block = actor.block;
  access.epoch = actor.epoch;
  access.lanes |= 1u << actor.lane;
  access.tick = std::max(access.tick, actor.tick);
}

bool Region::check_order(Cell& cell, Kind kind, const Actor& actor, CodeAddress code,
                         Complaint& complaint) const {
  for (const Kind other : {Kind::kWrite, Kind::kAtomic, Kind::kRead}) {
    if (other == kind && kind != Kind::kWrite) continue;
    const Access& before = cell.of[static_cast<int>(other)];
    if (ordered(before, actor)) continue;
    complaint.what = std::string(verb(kind)) + " what " + who(before, actor) + " " +
                     participle(other) + " (race)";
    complaint.other = before.code;
    return false;
  }
  note(cell.of[static_cast<int>(kind)], actor, code);
  return true;
}

bool Region::access(std::uintptr_t at, std::size_t bytes, Kind kind, const Actor& actor,
                    CodeAddress code, Complaint& complaint) {
  const std::size_t offset = at - begin_;
  if (offset + bytes > state_.size()) {
    complaint.what = std::string(verb(kind)) + " beyond its end (out of bounds)";
    return false;
  }
  if (!check_bytes(offset, bytes, kind, complaint)) return false;
  while (shift_ > 0 && ((offset | bytes) & ((std::size_t{1} << shift_) - 1)) != 0) {
    refine(shift_ - 1);
  }
  for (std::size_t i = offset >> shift_; i < (offset + bytes) >> shift_; ++i) {
    if (!check_order(cells_[i], kind, actor, code, complaint)) return false;
  }
  return true;
}

Region& Memory::allocate(const std::string& name, std::size_t bytes, std::size_t phase) {
  auto storage = std::make_unique<std::byte[]>(bytes + 3 * kGap);
  const auto start = reinterpret_cast<std::uintptr_t>(storage.get());
  const std::uintptr_t begin = (start + 2 * kGap - 1) / kGap * kGap + phase % kGap;
  std::memset(storage.get(), 0xa5, bytes + 3 * kGap);
  const std::uintptr_t end = begin + bytes;
  const auto made = regions_.emplace(end, Owned{std::move(storage), {name, begin, bytes, false}});
  return made.first->second.region;
}

void Memory::release(Region& region) {
  last_[0] = last_[1] = nullptr;
  regions_.erase(region.end());
}

Region& Memory::add(const std::string& name, std::uintptr_t begin, std::size_t bytes, bool shared) {
  const auto made = regions_.emplace(begin + bytes, Owned{nullptr, {name, begin, bytes, shared}});
  return made.first->second.region;
}

void Memory::add_shared(const std::string& name, std::uintptr_t begin, std::size_t bytes) {
  Region& region = add(name, begin, bytes, true);
  region.forget();
  shared_.push_back(&region);
}

Region* Memory::find(std::uintptr_t address) {
  for (Region* region : last_) {
    if (region != nullptr && address >= region->begin() && address < region->end()) return region;
  }
  auto found = regions_.upper_bound(address);
  if (found == regions_.end() || address < found->second.region.begin()) {
    const Object object = object_at(address);
    if (object.bytes == 0 || !object.writable) return nullptr;
    if (object.name.rfind("strop_cuda_host_", 0) == 0) {  // threadIdx and the like
      add(object.name, object.begin, object.bytes, false)
          .allow(object.begin, object.bytes, true, false);
    } else if (object.local) {
      add_shared(object.name, object.begin, object.bytes);
    } else {
      return nullptr;  // the host's
    }
    found = regions_.upper_bound(address);
  }
  last_[1] = last_[0];
  return last_[0] = &found->second.region;
}

std::byte* Memory::dynamic_shared(std::size_t bytes) {
  constexpr std::size_t kMost = std::size_t{256} << 10;
  if (dynamic_ == nullptr) dynamic_ = std::make_unique<std::byte[]>(kMost + 2 * kGap);
  if (dynamic_end_ != 0) {
    last_[0] = last_[1] = nullptr;
    shared_.erase(std::find(shared_.begin(), shared_.end(), &regions_.at(dynamic_end_).region));
    regions_.erase(dynamic_end_);
    dynamic_end_ = 0;
  }
  const auto start = reinterpret_cast<std::uintptr_t>(dynamic_.get());
  const std::uintptr_t begin = (start + 2 * kGap - 1) / kGap * kGap;
  if (bytes > 0) {
    add_shared("dynamic shared memory", begin, bytes);
    dynamic_end_ = begin + bytes;
  }
  return reinterpret_cast<std::byte*>(begin);
}

const Region* Memory::beside(std::uintptr_t address) const {
  for (const auto& [end, owned] : regions_) {
    if (address + kGap >= owned.region.begin() && address < end + kGap) return &owned.region;
  }
  return nullptr;
}

void Memory::begin_block() {
  for (Region* region : shared_) {
    if (region->used_since_forgotten) region->forget();
  }
}

}  // namespace strop::cuda_host
