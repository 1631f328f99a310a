#pragma once

// The families, for whoever has to know them all: STROP_FAMILIES(X) is X(quantize) X(prune)...
// Beside this file csrc/CMakeLists.txt names each of them, once.
#define STROP_FAMILIES(X) X(quantize) X(prune) X(linear) X(augment)
