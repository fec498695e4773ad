// What the operators (operators.cpp) ask of the kernels, which are compiled once for each instruction set.
#pragma once
#include <cstddef>
#include <cstdint>

namespace quoit {

// Weights [inputs, outputs] int8 in panels of columns; within a panel, four inputs of one column lie side by side.
// With two matrices (gate and up), one half of each panel's columns is of each.
struct Panels {
  int64_t inputs = 0, outputs = 0;  // of one matrix
  int64_t count = 0;                // panels
  int8_t* values = nullptr;         // [count][inputs / 4][columns][4]
  int32_t* starts = nullptr;        // [count * columns], minus the zero point times the column's sum
  float* scales = nullptr;          // [count * columns]
  bool gated = false;
};

// A row of the activations, and its row among the remainders; -1 if it has no second pass.
struct Row {
  int32_t row, rest;
};

// out = values * weights, row by row; gated: out = silu(values * gate) * (values * up).
struct Product {
  const Panels* weights;
  const uint8_t* values;  // [T, inputs]
  const uint8_t* rest;    // [M, inputs]
  const float* scales;    // [T]
  const Row* rows;        // those without a second pass first
  int64_t count, once;    // rows, and those of them without a second pass
  float* out;             // [T, outputs]
};

struct Attention {
  int64_t heads, kv_heads, head_dim;
  float epsilon, scale;
  const float* query;       // [T, heads * head_dim]
  const float* query_norm;  // [head_dim], or null without norms
  const float* keys;        // [P + T, kv_heads * head_dim], normalised and turned
  const float* past_value;  // [P, kv_heads * head_dim]
  const float* value;       // [T, kv_heads * head_dim]
  const float* cos;         // [positions, head_dim / 2]
  const float* sin;
  const int64_t* index;  // [R, S], counting the past first
  int64_t past, width;   // P, S
  float* out;            // [N, heads * head_dim]
};

// Queries of one row of the rectangle, by rising positions: slot = row * S + position, and its place in the output.
struct Slot {
  int64_t slot;
  int32_t place;
};

struct Kernels {
  const char* name;
  int columns;     // of a panel; 0 if the products are onnxruntime's
  int highest;     // largest magnitude of an integer activation
  int query_rows;  // queries of one call of attend times the query heads of a key head, at most

  void (*pack)(Panels&, int64_t panel, int matrix, const int8_t* weight, const float* scales);
  void (*product)(const Product&, int64_t panel, int64_t from, int64_t to, bool prefetch);

  // Rounds a row to integers around highest + 1; returns the scale, and says whether the row is uneven.
  float (*quantize)(const float* row, int64_t size, float threshold, uint8_t* out, bool* uneven);
  // Rounds what the first rounding left, in units 2 * highest times smaller.
  void (*quantize_rest)(const float* row, int64_t size, float scale, const uint8_t* first, uint8_t* out);

  // total = x + residual; normed = total / rms(total) * weight
  void (*add_norm)(const float* x, const float* residual, const float* weight, float epsilon, int64_t size,
                   float* total, float* normed);
  // Norm of one head (norm may be null), and RoPE; plain (may be null) gets the head before RoPE.
  void (*head)(const float* in, const float* norm, float epsilon, int64_t size, const float* cos, const float* sin,
               float factor, float* out, float* plain);
  // Attention of some queries of one row of the rectangle, for the query heads of one key head.
  void (*attend)(const Attention&, const Slot* slots, int64_t count, int64_t kv_head, float* scratch);
  size_t (*attend_scratch)(const Attention&);  // floats
};

// Kernels of each instruction set that this library was built with; null where it was not.
const Kernels* avx512_vnni();
const Kernels* avx_vnni();
const Kernels* avx2();
const Kernels* neon();

}  // namespace quoit
