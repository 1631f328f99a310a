#pragma once

// STROP_INLINE marks the shared arithmetic: code that host and device, and every instruction set,
// compile for themselves.
//
// Note [No shared inline code]
// A CPU family is compiled once per instruction set and linked into one library. An ordinary inline
// function would be emitted by each of those objects under one name, and the linker would keep any
// of them: the AVX-512 body could then run on a machine without AVX-512. `static` gives every
// object a body of its own, `always_inline` keeps it out of the symbol table altogether.
// STROP_MEMBER is the same for a member function.
#if defined(__CUDACC__)
#define STROP_INLINE static __forceinline__ __host__ __device__
#define STROP_MEMBER __forceinline__ __host__ __device__
#else
#define STROP_INLINE static inline __attribute__((always_inline))
#define STROP_MEMBER inline __attribute__((always_inline))
#endif
