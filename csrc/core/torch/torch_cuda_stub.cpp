// What _ops_cuda.so needs of libtorch_cuda.so, so that it links where torch is a CPU build. The
// loader finds torch's own library by its name; this one is never installed.

#include <cstdint>

extern "C" [[gnu::visibility("default")]] std::int32_t aoti_torch_get_current_cuda_stream(
    std::int32_t, void**) {
  return 1;
}
