// The kernels of pack_mask and unpack_mask, compiled once per instruction set (STROP_ISA).

#include "core/simd/vector.h"
#include "prune/kernels.h"

namespace strop::prune::simd::STROP_ISA {
using namespace strop::simd::STROP_ISA;

void pack_mask(const MaskRows& rows, std::int64_t begin, std::int64_t end);
void unpack_mask(const MaskRows& rows, std::int64_t begin, std::int64_t end);

namespace {

#if defined(__SSE2__)
using Bytes = std::int8_t __attribute__((vector_size(kVectorBytes)));
constexpr std::int64_t kPacked = kVectorBytes / 8;  // bytes that a vector becomes

STROP_INLINE void pack_vector(const std::uint8_t* from, std::uint8_t* to) {
  const Bytes bytes = load_unaligned<Bytes>(from);
#if defined(__AVX512BW__)
  const auto bits = _mm512_test_epi8_mask(bit_cast<__m512i>(bytes), bit_cast<__m512i>(bytes));
#elif defined(__AVX2__)
  const auto bits = ~_mm256_movemask_epi8(bit_cast<__m256i>(Bytes(bytes == Bytes{})));
#else
  const auto bits = ~_mm_movemask_epi8(bit_cast<__m128i>(Bytes(bytes == Bytes{})));
#endif
  std::memcpy(to, &bits, kPacked);  // low bits first: x86-64 is little-endian
}
#else
constexpr std::int64_t kPacked = 1;

STROP_INLINE void pack_vector(const std::uint8_t* from, std::uint8_t* to) {
  *to = packed_byte(load_unaligned<std::uint64_t>(from));
}
#endif

void pack_run(const std::uint8_t* from, std::int64_t count, std::uint8_t* to) {
  std::int64_t i = 0;
  for (; i + 8 * kPacked <= count; i += 8 * kPacked) pack_vector(from + i, to + i / 8);
  for (; i < count; i += 8) {
    std::uint64_t bytes = 0;
    std::memcpy(&bytes, from + i, static_cast<std::size_t>(count - i < 8 ? count - i : 8));
    to[i / 8] = packed_byte(bytes);
  }
}

void unpack_run(const std::uint8_t* from, std::int64_t count, std::uint8_t* to) {
  std::int64_t i = 0;
#if defined(__AVX2__)
  const __m256i own = _mm256_set1_epi64x(static_cast<std::int64_t>(0x8040201008040201u));
  const __m256i copies = _mm256_setr_epi64x(0, kEachByte, 2 * kEachByte, 3 * kEachByte);
  for (; i + 32 <= count; i += 32) {
    const auto four = load_unaligned<std::int32_t>(from + i / 8);
    const __m256i bits =
        _mm256_and_si256(_mm256_shuffle_epi8(_mm256_set1_epi32(four), copies), own);
    const __m256i ones = _mm256_min_epu8(bits, _mm256_set1_epi8(1));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + i), ones);
  }
#endif
  for (; i + 8 <= count; i += 8) store_unaligned(to + i, unpacked_byte(from[i / 8]));
  if (i == count) return;
  const std::uint64_t bytes = unpacked_byte(from[i / 8]);
  std::memcpy(to + i, &bytes, static_cast<std::size_t>(count - i));
}

// Calls function(element, byte, count) for the pieces of rows: offsets.
template <class Function>
STROP_INLINE void for_each_piece(const MaskRows& rows, std::int64_t begin, std::int64_t end,
                                 Function function) {
  const std::int64_t pieces = (rows.count + kPrunePiece - 1) / kPrunePiece;
  for (std::int64_t number = begin; number < end; ++number) {
    const std::int64_t row = number / pieces;
    const std::int64_t first = number % pieces * kPrunePiece;
    const std::int64_t left = rows.count - first;
    function(row * rows.count + first, row * rows.bytes() + first / 8,
             left < kPrunePiece ? left : kPrunePiece);
  }
}

}  // namespace

void pack_mask(const MaskRows& rows, std::int64_t begin, std::int64_t end) {
  const auto* const from = static_cast<const std::uint8_t*>(rows.from);
  auto* const to = static_cast<std::uint8_t*>(rows.to);
  for_each_piece(rows, begin, end, [&](std::int64_t element, std::int64_t byte, std::int64_t n) {
    pack_run(from + element, n, to + byte);
  });
}

void unpack_mask(const MaskRows& rows, std::int64_t begin, std::int64_t end) {
  const auto* const from = static_cast<const std::uint8_t*>(rows.from);
  auto* const to = static_cast<std::uint8_t*>(rows.to);
  for_each_piece(rows, begin, end, [&](std::int64_t element, std::int64_t byte, std::int64_t n) {
    unpack_run(from + byte, n, to + element);
  });
}

}  // namespace strop::prune::simd::STROP_ISA
