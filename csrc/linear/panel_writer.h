#pragma once

#include <algorithm>
#include <cstring>
#include <vector>

#include "linear/bits.h"
#include "linear/codes.h"

namespace strop::linear {

// Panels of codes as they are written, and read again by plain loops: see Note [Layouts of codes].

inline constexpr std::int64_t kCacheLine = 64;

// Where the parts of a layout come to lie, one after another.
class Places {
 public:
  std::int64_t take(std::int64_t bytes) {
    const std::int64_t place = (end_ + kCacheLine - 1) / kCacheLine * kCacheLine;
    end_ = place + bytes;
    return place;
  }
  std::int64_t end() const { return end_; }

 private:
  std::int64_t end_ = sizeof(CodesHeader);
};

// A panel's codes, one after another, as they lie without a mask.
class PanelCodes {
 public:
  PanelCodes(CodeStore store, std::uint8_t* codes) : store_(store), codes_(codes) {}

  // Of the code `number`; of a nibble it is alone in its byte.
  std::uint8_t* byte(std::int64_t number) const {
    if (store_ == CodeStore::kBytes) return codes_ + number;
    if (store_ == CodeStore::kBFloat16) return codes_ + 2 * number;
    return codes_ + number / kWordCodes / 2 * kWordCodes + number % kWordCodes;
  }
  int shift(std::int64_t number) const {
    return store_ == CodeStore::kNibbles && number / kWordCodes % 2 != 0 ? 4 : 0;
  }

  // Copies code `number` to or from the one at `index` of what is kept of a word.
  void keep(std::int64_t number, std::int64_t index, std::uint8_t* kept) const {
    const std::uint8_t* const from = byte(number);
    if (store_ == CodeStore::kNibbles) {
      const int code = *from >> shift(number) & 15;
      kept[index / 2] |= static_cast<std::uint8_t>(code << index % 2 * 4);
    } else {
      const auto item = static_cast<std::size_t>(kept_bytes(store_, 1));
      std::memcpy(kept + index * kept_bytes(store_, 1), from, item);
    }
  }
  void spread(std::int64_t number, std::int64_t index, const std::uint8_t* kept) const {
    std::uint8_t* const to = byte(number);
    if (store_ == CodeStore::kNibbles) {
      const int code = kept[index / 2] >> index % 2 * 4 & 15;
      *to = static_cast<std::uint8_t>((*to & ~(15 << shift(number))) | code << shift(number));
    } else {
      const auto item = static_cast<std::size_t>(kept_bytes(store_, 1));
      std::memcpy(to, kept + index * kept_bytes(store_, 1), item);
    }
  }

 private:
  CodeStore store_;
  std::uint8_t* codes_;
};

// Puts codes where they lie; beside a mask those that it keeps, a panel after the other.
class PanelWriter {
 public:
  PanelWriter(const CodesHeader& header, bool masked)
      : header_(header),
        masked_(masked),
        panel_(static_cast<std::size_t>(header.panel_bytes())),
        words_(masked ? static_cast<std::size_t>(header.panel_words()) : 0) {}

  void put(std::int64_t n, std::int64_t place, std::int64_t stored) {
    const CodePlace at = place_of(header_, place, n % kPanelRows);
    panel_[static_cast<std::size_t>(at.byte)] |=
        static_cast<std::uint8_t>((stored & 0xff) << at.shift);
    if (header_.store == CodeStore::kBFloat16) {
      panel_[static_cast<std::size_t>(at.byte) + 1] = static_cast<std::uint8_t>(stored >> 8);
    }
  }
  void keep(std::int64_t n, std::int64_t place) {
    const std::int64_t number = number_of(header_.store, place_of(header_, place, n % kPanelRows));
    words_[static_cast<std::size_t>(number / kWordCodes)] |= std::uint64_t{1}
                                                             << number % kWordCodes;
  }

  void end_panel() {
    if (!masked_) {
      codes_.insert(codes_.end(), panel_.begin(), panel_.end());
    } else {
      starts_.push_back(static_cast<std::int64_t>(codes_.size()));
      keep_words();
      masks_.insert(masks_.end(), words_.begin(), words_.end());
    }
    std::fill(panel_.begin(), panel_.end(), std::uint8_t{0});
    std::fill(words_.begin(), words_.end(), std::uint64_t{0});
  }

  // Adds what was written to a layout's end.
  void write(CodesHeader& header, Places& places, std::vector<std::uint8_t>& bytes) {
    const auto add = [&](const auto& items) {
      const std::size_t size = items.size() * sizeof(items[0]);
      const std::int64_t place = places.take(static_cast<std::int64_t>(size));
      bytes.resize(static_cast<std::size_t>(places.end()));
      if (size > 0) std::memcpy(bytes.data() + place, items.data(), size);
      return place;
    };
    if (masked_) {
      starts_.push_back(static_cast<std::int64_t>(codes_.size()));
      header.starts = add(starts_);
      header.masks = add(masks_);
    }
    header.codes = add(codes_);
    header.bytes = places.end() + kLayoutSlack;
    bytes.resize(static_cast<std::size_t>(header.bytes));
    std::memcpy(bytes.data(), &header, sizeof header);
  }

 private:
  void keep_words() {
    const PanelCodes panel(header_.store, panel_.data());
    for (std::size_t i = 0; i < words_.size(); ++i) {
      const std::size_t first = codes_.size();
      codes_.resize(first +
                    static_cast<std::size_t>(kept_bytes(header_.store, count_bits(words_[i]))));
      std::int64_t index = 0;
      for_each_bit(words_[i], [&](int bit) {
        panel.keep(static_cast<std::int64_t>(i) * kWordCodes + bit, index++, codes_.data() + first);
      });
    }
  }

  const CodesHeader& header_;
  bool masked_;
  std::vector<std::uint8_t> panel_;
  std::vector<std::uint64_t> words_;
  std::vector<std::uint8_t> codes_;
  std::vector<std::uint64_t> masks_;
  std::vector<std::int64_t> starts_;
};

}  // namespace strop::linear
