#include <torch/csrc/stable/library.h>

// Every family adds its ops as a fragment.
STABLE_TORCH_LIBRARY(strop, m) { (void)m; }
