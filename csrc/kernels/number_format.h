#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace strop {

// An integer number format: its codes are the whole numbers min..max.
struct NumberFormat {
  const char* name;
  int bits;    // of a stored code; 0 where codes are not stored
  double min;  // smallest and largest code; -Inf and Inf for `integer`
  double max;
  bool is_signed;  // the symmetric zero point is 0, else the middle of the range

  bool bounded() const { return bits != 0; }
};

// Every format, in the order in which documentation lists them.
const std::vector<NumberFormat>& number_formats();

// nullptr for an unknown name.
const NumberFormat* find_number_format(const std::string& name);

}  // namespace strop
