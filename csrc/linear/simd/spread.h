#pragma once

// Codes that a mask keeps, put where they lie without one. Compiled once per instruction set.

#include "core/simd/unroll.h"
#include "linear/bits.h"
#include "linear/simd/panel_rows.h"

namespace strop::linear::simd::STROP_ISA {
using namespace strop::simd::STROP_ISA;

inline constexpr std::int64_t kSpreadColumns = kDecodedColumns;

// What is left of a panel: codes, and the bits that say where they go.
struct Kept {
  const std::uint8_t* codes;
  const std::uint64_t* masks;

  STROP_MEMBER void fetch() const {
    prefetch(codes + kAhead);
    prefetch(reinterpret_cast<const std::uint8_t*>(masks) + kAhead / 2);
  }
};

#if defined(__AVX512VBMI2__)
// The bytes of a word's codes where no bit is set, as those of 64 places.
class Fill {
 public:
  STROP_MEMBER Fill(const PanelBlock& block, std::int64_t group) {
    const CodesHeader& header = block.header;
    if (header.fills == 0) {
      bytes_ = _mm512_set1_epi8(static_cast<char>(header.same_fill));
      return;
    }
    const auto of_rows = load_unaligned<__m128i>(block.numbers<std::uint8_t>(header.fills, group));
    bytes_ = header.activations == Activations::kExact ? _mm512_broadcast_i32x4(of_rows)
                                                       : by_fours(of_rows);
  }
  STROP_MEMBER __m512i bytes() const { return bytes_; }

 private:
  static STROP_MEMBER __m512i by_fours(__m128i of_rows) {
    return _mm512_mullo_epi32(_mm512_cvtepu8_epi32(of_rows), _mm512_set1_epi32(0x01010101));
  }

  __m512i bytes_;
};

// (Of memory, expanding takes an Intel twice as long as of a register.)
STROP_INLINE __m512i loaded(const std::uint8_t* from) {
  __m512i codes = _mm512_loadu_si512(from);
  keep_in_register(codes);
  return codes;
}

STROP_INLINE __m512i spread_bytes(std::uint64_t mask, __m512i codes, const Fill& fill) {
  return _mm512_mask_expand_epi8(fill.bytes(), mask, codes);
}
STROP_INLINE __m512i spread_bytes(Kept& kept, const Fill& fill) {
  const std::uint64_t mask = *kept.masks++;
  const __m512i spread = spread_bytes(mask, loaded(kept.codes), fill);
  kept.codes += count_bits(mask);
  return spread;
}
STROP_INLINE void spread_bytes(Kept& kept, const Fill& fill, std::uint8_t* to) {
  _mm512_storeu_si512(to, spread_bytes(kept, fill));
}

// In the low half of each byte; the high one holds anything.
STROP_INLINE __m512i spread_nibbles(Kept& kept, const Fill& fill) {
  const std::uint64_t mask = *kept.masks++;
  const __m512i both = _mm512_cvtepu8_epi16(load_unaligned<__m256i>(kept.codes));
  kept.codes += (count_bits(mask) + 1) / 2;
  return spread_bytes(mask, _mm512_or_si512(both, _mm512_slli_epi16(both, 4)), fill);
}
STROP_INLINE void spread_nibbles(Kept& kept, const Fill& fill, std::uint8_t* to) {
  const __m512i low = spread_nibbles(kept, fill);
  const __m512i high = _mm512_slli_epi16(spread_nibbles(kept, fill), 4);
  constexpr int kChoose = 0xca;  // the first says of which of the others
  _mm512_storeu_si512(to, _mm512_ternarylogic_epi32(_mm512_set1_epi8(15), low, high, kChoose));
}

// 32 values, by twos: of two columns, and of the next two. (Both are found by one word: the second
// does not wait for the first.)
STROP_INLINE void spread_values(Kept& kept, __m512i (&to)[2]) {
  const std::uint64_t mask = *kept.masks++;
  const auto low = static_cast<std::uint32_t>(mask);
  const __m512i first = loaded(kept.codes);
  const __m512i second = loaded(kept.codes + 2 * count_bits(low));
  kept.codes += 2 * count_bits(mask);
  to[0] = _mm512_maskz_expand_epi16(low, first);
  to[1] = _mm512_maskz_expand_epi16(static_cast<__mmask32>(mask >> 32), second);
}
STROP_INLINE void spread_values(Kept& kept, std::uint8_t* to) {
  __m512i values[2];
  spread_values(kept, values);
  _mm512_storeu_si512(to, values[0]);
  _mm512_storeu_si512(to + 64, values[1]);
}
#else
struct Fill {
  std::uint8_t bytes[kWordCodes];

  STROP_MEMBER Fill(const PanelBlock& block, std::int64_t group) {
    const CodesHeader& header = block.header;
    const bool exact = header.activations == Activations::kExact;
    for (int i = 0; i < kWordCodes; ++i) {
      bytes[i] = header.fill(block.panel, group, exact ? i % kPanelRows : i / 4);
    }
  }
};

// For each byte of a mask where the codes of its places come from; the rest is out of range.
struct SpreadTable {
  alignas(16) std::int8_t bytes[256][8];
  alignas(16) std::int8_t words[256][16];
  constexpr SpreadTable() : bytes(), words() {
    for (int byte = 0; byte < 256; ++byte) {
      int before = 0;
      for (int bit = 0; bit < 8; ++bit) {
        const bool kept = (byte >> bit & 1) != 0;
        bytes[byte][bit] = static_cast<std::int8_t>(kept ? before : -128);
        words[byte][2 * bit] = static_cast<std::int8_t>(kept ? 2 * before : -128);
        words[byte][2 * bit + 1] = static_cast<std::int8_t>(kept ? 2 * before + 1 : -128);
        before += kept ? 1 : 0;
      }
    }
  }
};
constexpr SpreadTable kSpreadTable;

// Eight codes of a byte each, and of two bytes.
STROP_INLINE void spread_eight(unsigned byte, const std::uint8_t* codes, const std::uint8_t* fill,
                               std::uint8_t* to) {
#if defined(__AVX2__)
  const auto half = [](const void* at) { return _mm_loadl_epi64(static_cast<const __m128i*>(at)); };
  const __m128i from = half(kSpreadTable.bytes[byte]);
  const __m128i spread = _mm_blendv_epi8(_mm_shuffle_epi8(half(codes), from), half(fill), from);
  _mm_storel_epi64(reinterpret_cast<__m128i*>(to), spread);
#elif defined(STROP_NEON)
  const uint8x8_t from = vreinterpret_u8_s8(vld1_s8(kSpreadTable.bytes[byte]));
  vst1_u8(to, vtbx1_u8(vld1_u8(fill), vld1_u8(codes), from));
#else
  for (int i = 0; i < 8; ++i) {
    const int from = kSpreadTable.bytes[byte][i];
    to[i] = from < 0 ? fill[i] : codes[from];
  }
#endif
}
STROP_INLINE void spread_eight_words(unsigned byte, const std::uint8_t* codes, std::uint8_t* to) {
  const std::int8_t* const from = kSpreadTable.words[byte];
#if defined(__AVX2__)
  const auto places = load_unaligned<__m128i>(from);
  store_unaligned(to, _mm_shuffle_epi8(load_unaligned<__m128i>(codes), places));
#elif defined(STROP_NEON)
  vst1q_u8(to, vqtbl1q_u8(vld1q_u8(codes), vreinterpretq_u8_s8(vld1q_s8(from))));
#else
  for (int i = 0; i < 16; ++i) to[i] = from[i] < 0 ? 0 : codes[from[i]];
#endif
}

// Calls each(byte of the mask, codes before it, place of its first) for the eight of a word.
template <class Each>
STROP_INLINE void for_bytes(std::uint64_t mask, Each each) {
  unrolled<8>([&](auto i) STROP_UNROLLED {
    const int before = count_bits(mask & ((std::uint64_t{1} << 8 * i) - 1));
    each(static_cast<unsigned>(mask >> 8 * i & 0xff), before, 8 * i);
  });
}

STROP_INLINE void spread_bytes(Kept& kept, const Fill& fill, std::uint8_t* to) {
  const std::uint64_t mask = *kept.masks++;
  for_bytes(mask, [&](unsigned byte, int before, int place) STROP_UNROLLED {
    spread_eight(byte, kept.codes + before, fill.bytes + place, to + place);
  });
  kept.codes += count_bits(mask);
}

// A byte each.
STROP_INLINE void spread_half(Kept& kept, const Fill& fill, std::uint8_t* to) {
  const std::uint64_t mask = *kept.masks++;
  std::uint8_t codes[kWordCodes + 8];
  for (int i = 0; i < kWordCodes / 2; ++i) {
    codes[2 * i] = kept.codes[i] & 15;
    codes[2 * i + 1] = kept.codes[i] >> 4;
  }
  for_bytes(mask, [&](unsigned byte, int before, int place) STROP_UNROLLED {
    spread_eight(byte, codes + before, fill.bytes + place, to + place);
  });
  kept.codes += (count_bits(mask) + 1) / 2;
}
STROP_INLINE void spread_nibbles(Kept& kept, const Fill& fill, std::uint8_t* to) {
  std::uint8_t low[kWordCodes], high[kWordCodes];
  spread_half(kept, fill, low);
  spread_half(kept, fill, high);
  for (int i = 0; i < kWordCodes; ++i) {
    to[i] = static_cast<std::uint8_t>((low[i] & 15) | high[i] << 4);
  }
}

STROP_INLINE void spread_values(Kept& kept, std::uint8_t* to) {
  const std::uint64_t mask = *kept.masks++;
  for_bytes(mask, [&](unsigned byte, int before, int place) STROP_UNROLLED {
    spread_eight_words(byte, kept.codes + 2 * before, to + 2 * place);
  });
  kept.codes += 2 * count_bits(mask);
}
#endif

STROP_INLINE Kept kept_of(const PanelBlock& block) {
  const CodesHeader& header = block.header;
  const auto* const masks = reinterpret_cast<const std::uint64_t*>(block.layout() + header.masks);
  return {block.layout() + header.codes + block.start(),
          masks + block.panel * header.panel_words()};
}

// A panel's codes, a stretch at a time from the first on: where they lie, or beside a mask as they
// are put in scratch.
class PanelCodes {
 public:
  STROP_MEMBER PanelCodes(const PanelBlock& block, std::uint8_t* scratch)
      : block_(block),
        scratch_(scratch),
        kept_(block.header.masks != 0 ? kept_of(block) : Kept{block.codes(), nullptr}) {}

  STROP_MEMBER bool masked() const { return block_.header.masks != 0; }
  // Places that may be taken at a time, where a kernel would take so many.
  STROP_MEMBER std::int64_t step(std::int64_t columns) const {
    return masked() && columns > kSpreadColumns ? kSpreadColumns : columns;
  }

  STROP_MEMBER const std::uint8_t* take(std::int64_t begin, std::int64_t end) {
    const CodesHeader& header = block_.header;
    if (!masked()) return kept_.codes + header.bytes_of(begin);
    std::uint8_t* to = scratch_;
    for (std::int64_t k = begin; k < end;) {
      const Segment segment = segment_at(header, k, end);
      const std::int64_t stop = header.fills != 0 ? segment.end : end;
      to = spread(stop - k, Fill(block_, segment.group), to);
      k = stop;
    }
    return scratch_;
  }

 private:
  STROP_MEMBER std::uint8_t* spread(std::int64_t places, const Fill& fill, std::uint8_t* to) {
    const CodesHeader& header = block_.header;
    std::uint8_t* const end = to + header.bytes_of(places);
    Kept kept = kept_;
    if (header.store == CodeStore::kBytes) {
      for (; to < end; to += kWordCodes) {
        kept.fetch();
        spread_bytes(kept, fill, to);
      }
    } else if (header.store == CodeStore::kNibbles) {
      for (; to < end; to += kWordCodes) {
        kept.fetch();
        spread_nibbles(kept, fill, to);
      }
    } else {
      for (; to < end; to += 2 * kWordCodes) {
        kept.fetch();
        prefetch(kept.codes + kAhead + 64);
        spread_values(kept, to);
      }
    }
    kept_ = kept;
    return end;
  }

  const PanelBlock& block_;
  std::uint8_t* scratch_;
  Kept kept_;
};

}  // namespace strop::linear::simd::STROP_ISA
