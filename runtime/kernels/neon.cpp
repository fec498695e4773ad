// Kernels for arm64; the products are onnxruntime's, which use the CPU's own instructions for 8-bit matrices.
#define QUOIT_WIDTH 4
#define QUOIT_HIGHEST 127
#include "attention.h"
#include "rows.h"

namespace quoit {

const Kernels* neon() {
  static const Kernels kernels = {"neon", 0, QUOIT_HIGHEST, QUERY_ROWS, nullptr, nullptr, quantize, quantize_rest,
                                  add_norm, head, attend, attend_scratch};
  return &kernels;
}

}  // namespace quoit
