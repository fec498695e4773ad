// Kernels for x86-64 with avx2; see vectors.h for why each set has a file of its own.
#define QUOIT_X86
#define QUOIT_WIDTH 8
#define QUOIT_PANEL_VECTORS 2
#define QUOIT_HIGHEST 63
#include "attention.h"
#include "products.h"
#include "rows.h"

namespace quoit {

const Kernels* avx2() {
  static const Kernels kernels = {"avx2", COLUMNS, HIGHEST, QUERY_ROWS, pack, product, quantize, quantize_rest,
                                  add_norm, head, attend, attend_scratch};
  return &kernels;
}

}  // namespace quoit
