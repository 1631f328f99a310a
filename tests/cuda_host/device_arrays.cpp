#include "cuda_host/device_arrays.h"

#include <algorithm>
#include <cstring>

#include "cuda_host/grid.h"

namespace strop::cuda_host {
namespace {

Memory& memory() { return Grid::instance().memory(); }

bool is_empty(const Array& array) {
  return array.data == nullptr || std::any_of(array.dims.begin(), array.dims.end(),
                                              [](const ArrayDim& dim) { return dim.size == 0; });
}

// Calls visit(address, index) for each element, row-major.
template <class Visit>
void for_each_element(const Array& array, Visit visit) {
  std::vector<std::int64_t> index(array.dims.size(), 0);
  std::int64_t offset = 0;
  const auto base = reinterpret_cast<std::uintptr_t>(array.data);
  for (;;) {
    visit(base + static_cast<std::uintptr_t>(offset) * array.item_bytes, index);
    std::size_t d = array.dims.size();
    for (; d > 0; --d) {
      const ArrayDim& dim = array.dims[d - 1];
      offset += dim.step;
      if (++index[d - 1] < dim.size) break;
      offset -= dim.step * dim.size;
      index[d - 1] = 0;
    }
    if (d == 0) return;
  }
}

std::string text_of(const std::vector<std::int64_t>& index) {
  std::string text = "[";
  for (const std::int64_t i : index) {
    if (text.size() > 1) text += ", ";
    text += std::to_string(i);
  }
  return text + "]";
}

}  // namespace

DeviceArrays::~DeviceArrays() {
  for (const Range& range : ranges_) {
    if (range.region != nullptr) memory().release(*range.region);
  }
  for (Region* region : scratch_) memory().release(*region);
}

void DeviceArrays::add(Array array) {
  if (is_empty(array)) {
    empty_.push_back(array.data);
    return;
  }
  std::int64_t low = 0, high = 0;
  for (const ArrayDim& dim : array.dims) {
    const std::int64_t reach = dim.step * (dim.size - 1);
    (reach < 0 ? low : high) += reach;
  }
  const auto item = static_cast<std::int64_t>(array.item_bytes);
  const auto base = reinterpret_cast<std::uintptr_t>(array.data);
  Range range = {base + static_cast<std::uintptr_t>(low * item),
                 base + static_cast<std::uintptr_t>((high + 1) * item), array.name, nullptr};
  for (auto other = ranges_.begin(); other != ranges_.end();) {
    if (other->end <= range.begin || range.end <= other->begin) {
      ++other;
      continue;
    }
    range = {std::min(range.begin, other->begin), std::max(range.end, other->end),
             other->name + " and " + range.name, nullptr};
    other = ranges_.erase(other);
  }
  ranges_.push_back(range);
  arrays_.push_back(std::move(array));
}

void* DeviceArrays::scratch(const std::string& name, std::size_t bytes) {
  if (bytes == 0) return nullptr;
  Region& region = memory().allocate(name, bytes, 0);
  region.allow(region.begin(), bytes, false, true);
  scratch_.push_back(&region);
  return reinterpret_cast<void*>(region.begin());
}

void DeviceArrays::upload() {
  for (Range& range : ranges_) {
    range.region = &memory().allocate(range.name, range.end - range.begin, range.begin);
  }
  for (const Array& array : arrays_) {
    const Range& range = range_of(reinterpret_cast<std::uintptr_t>(array.data));
    const bool filled = array.use == Use::kInput || array.use == Use::kUpdate;
    for_each_element(array, [&](std::uintptr_t host, const auto&) {
      const std::uintptr_t device = range.region->begin() + (host - range.begin);
      range.region->allow(device, array.item_bytes, filled, array.use != Use::kInput);
      if (!filled) return;
      std::memcpy(reinterpret_cast<void*>(device), reinterpret_cast<const void*>(host),
                  array.item_bytes);
    });
  }
}

const DeviceArrays::Range& DeviceArrays::range_of(std::uintptr_t host) const {
  const auto found = std::find_if(ranges_.begin(), ranges_.end(), [&](const Range& range) {
    return host >= range.begin && host < range.end;
  });
  if (found == ranges_.end()) throw Fault("CUDA on the host: a call uses an array unannounced");
  return *found;
}

const void* DeviceArrays::place(const void* host) const {
  if (host == nullptr || std::count(empty_.begin(), empty_.end(), host) != 0) return nullptr;
  const auto address = reinterpret_cast<std::uintptr_t>(host);
  const Range& range = range_of(address);
  return reinterpret_cast<const void*>(range.region->begin() + (address - range.begin));
}

void DeviceArrays::download() {
  Grid::instance().throw_pending();
  for (const Array& array : arrays_) {
    if (array.use == Use::kInput) continue;
    const Range& range = range_of(reinterpret_cast<std::uintptr_t>(array.data));
    for_each_element(array, [&](std::uintptr_t host, const auto& index) {
      const std::uintptr_t device = range.region->begin() + (host - range.begin);
      for (std::size_t i = 0; i < array.item_bytes; ++i) {
        if (!kChecked || range.region->written(device + i)) {
          *reinterpret_cast<std::byte*>(host + i) = *reinterpret_cast<std::byte*>(device + i);
        } else if (array.use == Use::kOutput) {
          throw Fault("CUDA on the host: nothing was written to " + array.name + text_of(index) +
                      " (unwritten)");
        }
      }
    });
  }
}

}  // namespace strop::cuda_host
