#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "cuda_host/symbols.h"

namespace strop::cuda_host {

inline constexpr int kWarp = 32;

// The thread that accesses, and what it is ordered after.
//
// Note [Order of accesses]
// Two accesses to a place, of which one writes and not both are atomic, are a race unless one is
// ordered before the other: by the order of a thread's own code; by the end of a launch; within a
// block, by a barrier (`epoch` counts them); within a warp, by a __syncwarp of both. The latter is
// kept as in a vector clock: `tick` counts a warp's __syncwarps, and seen[i] is the count at which
// lane i was last heard of, itself or through others. Shuffles and votes order no memory.
struct Actor {
  std::uint32_t block;        // 1 and up, over all launches
  std::uint32_t first_block;  // of this launch
  std::uint32_t epoch;
  std::uint32_t tick;
  std::uint16_t warp;
  std::uint16_t lane;
  const std::uint32_t* seen;  // of each lane of the warp
};

// Who accessed a place, as far as another access may still be in conflict with it.
struct Access {
  std::uint32_t block = 0;
  std::uint32_t epoch = 0;
  std::uint32_t tick = 0;
  std::uint32_t lanes = 0;
  std::uint16_t warp = 0;  // or one of the following
  CodeAddress code = 0;

  static constexpr std::uint16_t kSeveralWarps = 0xfffe;
  static constexpr std::uint16_t kSeveralBlocks = 0xffff;
};

enum class Kind { kRead, kWrite, kAtomic };

// The accesses of each kind to some neighbouring bytes that are always accessed together.
struct Cell {
  Access of[3];
};

// What was wrong with an access, but for who and where: that is the caller's to add. `other` is
// the other access's code, 0 where there is none.
struct Complaint {
  std::string what;
  CodeAddress other = 0;
};

// A piece of device memory, and what is known of each of its bytes.
class Region {
 public:
  Region(std::string name, std::uintptr_t begin, std::size_t bytes, bool shared);

  const std::string& name() const { return name_; }
  std::uintptr_t begin() const { return begin_; }
  std::uintptr_t end() const { return begin_ + state_.size(); }

  // Bytes that elements lie at; the rest of a region is gaps.
  void allow(std::uintptr_t at, std::size_t bytes, bool initialised, bool writable);
  // As if the host had written to them.
  bool fill(std::uintptr_t at, std::size_t bytes);
  bool written(std::uintptr_t at) const { return (state_[at - begin_] & kWritten) != 0; }
  // Of a new block: nothing is in shared memory yet.
  void forget();
  bool used_since_forgotten = false;

  // False, and a complaint, where the access is not in order.
  bool access(std::uintptr_t at, std::size_t bytes, Kind kind, const Actor& actor, CodeAddress code,
              Complaint& complaint);

 private:
  static constexpr std::uint8_t kThere = 1, kInitialised = 2, kWritable = 4, kWritten = 8;

  bool check_bytes(std::size_t offset, std::size_t bytes, Kind kind, Complaint& complaint);
  bool check_order(Cell& cell, Kind kind, const Actor& actor, CodeAddress code,
                   Complaint& complaint) const;
  bool ordered(const Access& before, const Actor& actor) const;
  void note(Access& access, const Actor& actor, CodeAddress code) const;
  void refine(int shift);

  std::string name_;
  std::uintptr_t begin_;
  bool shared_;
  std::vector<std::uint8_t> state_;
  std::vector<Cell> cells_;
  int shift_ = 4;  // a cell is 16 bytes until a narrower access comes
};

// All device memory. Between regions lie gaps, so that an overrun meets nothing else.
class Memory {
 public:
  static constexpr std::size_t kGap = 256;

  // Device memory whose address is `phase` modulo 256.
  Region& allocate(const std::string& name, std::size_t bytes, std::size_t phase);
  void release(Region& region);

  // The region at an address, one of static shared memory made where there is such an object;
  // nullptr where none is.
  Region* find(std::uintptr_t address);
  // The launch's dynamic shared memory, of so many bytes.
  std::byte* dynamic_shared(std::size_t bytes);
  // The region whose gap an address is in, nullptr where it is anywhere else.
  const Region* beside(std::uintptr_t address) const;
  void begin_block();

 private:
  struct Owned {
    std::unique_ptr<std::byte[]> storage;
    Region region;
  };
  Region& add(const std::string& name, std::uintptr_t begin, std::size_t bytes, bool shared);
  void add_shared(const std::string& name, std::uintptr_t begin, std::size_t bytes);

  std::map<std::uintptr_t, Owned> regions_;  // by their ends
  std::vector<Region*> shared_;
  std::unique_ptr<std::byte[]> dynamic_;
  std::uintptr_t dynamic_end_ = 0;
  Region* last_[2] = {};
};

}  // namespace strop::cuda_host
