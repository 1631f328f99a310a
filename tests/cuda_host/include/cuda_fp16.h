#pragma once

// NVIDIA's own types and conversions: they work on the host.
#include <cuda_runtime.h>

#pragma push_macro("__noinline__")
#undef __noinline__
#include_next <cuda_fp16.h>
#pragma pop_macro("__noinline__")
