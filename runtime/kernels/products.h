// Products of uint8 activations and int8 weights with one scale for each column, in blocks of rows and panels of columns.
#pragma once
#include "kernels.h"
#include "vectors.h"

namespace {

using quoit::Panels;
using quoit::Product;
using quoit::Row;

constexpr int VECTORS = QUOIT_PANEL_VECTORS;
constexpr int COLUMNS = VECTORS * W;
constexpr int ROWS = 6;  // with a panel of four vectors 24 sums, of 32 registers; of two vectors 12, of 16
constexpr int HIGHEST = QUOIT_HIGHEST;

// sums += four products each of unsigned and signed bytes.
inline Ints dot(Ints sums, Ints values, Ints weights) {
#if defined(__AVX512VNNI__)
  return reinterpret_cast<Ints>(_mm512_dpbusd_epi32(reinterpret_cast<__m512i>(sums), reinterpret_cast<__m512i>(values),
                                                    reinterpret_cast<__m512i>(weights)));
#elif defined(__AVXVNNI__)
  return reinterpret_cast<Ints>(_mm256_dpbusd_avx_epi32(reinterpret_cast<__m256i>(sums),
                                                        reinterpret_cast<__m256i>(values),
                                                        reinterpret_cast<__m256i>(weights)));
#else
  // Pairs are added in 16 bits: 2 * 127 * 127 is the largest that activations of 7 bits give.
  static_assert(QUOIT_HIGHEST == 63, "pairs of products of 8 bits do not fit into 16");
  const __m256i pairs =
      _mm256_maddubs_epi16(reinterpret_cast<__m256i>(values), reinterpret_cast<__m256i>(weights));
  const __m256i fours = _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
  return sums + reinterpret_cast<Ints>(fours);
#endif
}

template <int M>
inline __attribute__((always_inline)) void sum_block(const uint8_t* const (&rows)[M], const int8_t* weights,
                                                     int64_t groups, const int32_t* starts, const char* next,
                                                     const char* end, Ints (&sums)[M][VECTORS]) {
  for (int m = 0; m < M; m++)
    for (int v = 0; v < VECTORS; v++) sums[m][v] = *reinterpret_cast<const IntsAt*>(starts + v * W);
  for (int64_t k = 0; k < groups; k++) {
    Ints panel[VECTORS];
    for (int v = 0; v < VECTORS; v++) panel[v] = *reinterpret_cast<const IntsAt*>(weights + v * W * 4);
    weights += COLUMNS * 4;
    for (int line = 0; line < 2; line++) {
      if (next < end) {
        __builtin_prefetch(next, 0, 2);
        next += 64;
      }
    }
#pragma unroll
    for (int m = 0; m < M; m++) {
      int32_t four;
      __builtin_memcpy(&four, rows[m] + k * 4, 4);
      const Ints values = Ints{} + four;
#pragma unroll
      for (int v = 0; v < VECTORS; v++) sums[m][v] = dot(sums[m][v], values, panel[v]);
    }
  }
}

inline Floats silu(Floats x) { return x / (exponential(-x) + 1.0f); }

// Stores the columns of a block's row that the matrix has; the last panel may have fewer than its width.
inline void store_columns(float* to, const Floats* from, int vectors, int64_t columns) {
  if (columns >= vectors * W) {
    for (int v = 0; v < vectors; v++) store(to + v * W, from[v]);
    return;
  }
  float all_columns[COLUMNS];
  for (int v = 0; v < vectors; v++) store(all_columns + v * W, from[v]);
  for (int64_t c = 0; c < columns; c++) to[c] = all_columns[c];
}

template <int M>
__attribute__((noinline)) void product_block(const Product& p, int64_t panel, const Row* rows, bool twice,
                                             const char* next, size_t bytes) {
  const Panels& w = *p.weights;
  const int64_t groups = w.inputs / 4;
  const int8_t* weights = w.values + panel * w.inputs * COLUMNS;
  const int32_t* starts = w.starts + panel * COLUMNS;
  const uint8_t* from[M];
  Ints sums[M][VECTORS];
  Floats totals[M][VECTORS];
  for (int m = 0; m < M; m++) from[m] = p.values + rows[m].row * w.inputs;
  sum_block<M>(from, weights, groups, starts, next, next + bytes, sums);
  for (int m = 0; m < M; m++)
    for (int v = 0; v < VECTORS; v++) totals[m][v] = __builtin_convertvector(sums[m][v], Floats);
  if (twice) {
    for (int m = 0; m < M; m++) from[m] = p.rest + rows[m].rest * w.inputs;
    sum_block<M>(from, weights, groups, starts, nullptr, nullptr, sums);
    const Floats unit = all(1.0f / (2 * HIGHEST));
    for (int m = 0; m < M; m++)
      for (int v = 0; v < VECTORS; v++)
        totals[m][v] = fma(__builtin_convertvector(sums[m][v], Floats), unit, totals[m][v]);
  }
  const int width = w.gated ? COLUMNS / 2 : COLUMNS;
  const int64_t first = panel * width, columns = w.outputs - first;
  for (int m = 0; m < M; m++) {
    const Floats scale = all(p.scales[rows[m].row]);
    for (int v = 0; v < VECTORS; v++) totals[m][v] *= load(w.scales + panel * COLUMNS + v * W) * scale;
    if (w.gated)
      for (int v = 0; v < VECTORS / 2; v++) totals[m][v] = silu(totals[m][v]) * totals[m][v + VECTORS / 2];
    store_columns(p.out + rows[m].row * w.outputs + first, totals[m], width / W, columns);
  }
}

void product_rows(const Product& p, int64_t panel, const Row* rows, int64_t count, bool twice, bool prefetch) {
  if (count <= 0) return;
  const int64_t blocks = (count + ROWS - 1) / ROWS;
  const size_t bytes = static_cast<size_t>(p.weights->inputs) * COLUMNS;
  const bool more = prefetch && panel + 1 < p.weights->count;
  const size_t each = more ? (bytes / blocks + 63) / 64 * 64 : 0;
  const char* next = reinterpret_cast<const char*>(p.weights->values) + (panel + 1) * bytes;
  for (int64_t i = 0; i < blocks; i++) {
    const int64_t from = count * i / blocks, size = count * (i + 1) / blocks - from;
    const char* ahead = more ? next + i * each : nullptr;
    switch (size) {
      case 1: product_block<1>(p, panel, rows + from, twice, ahead, each); break;
      case 2: product_block<2>(p, panel, rows + from, twice, ahead, each); break;
      case 3: product_block<3>(p, panel, rows + from, twice, ahead, each); break;
      case 4: product_block<4>(p, panel, rows + from, twice, ahead, each); break;
      case 5: product_block<5>(p, panel, rows + from, twice, ahead, each); break;
      default: product_block<6>(p, panel, rows + from, twice, ahead, each); break;
    }
  }
}

// Rows from..to of p.rows times one panel.
void product(const Product& p, int64_t panel, int64_t from, int64_t to, bool prefetch) {
  const int64_t middle = from > p.once ? from : to < p.once ? to : p.once;
  product_rows(p, panel, p.rows + from, middle - from, false, prefetch);
  product_rows(p, panel, p.rows + middle, to - middle, true, prefetch && middle == from);
}

// Lays one panel of a matrix [inputs, outputs] out; matrix 1 is the second of two that share the panels.
void pack(Panels& w, int64_t panel, int matrix, const int8_t* weight, const float* scales) {
  const int width = w.gated ? COLUMNS / 2 : COLUMNS, lane = matrix * width;
  const int64_t first = panel * width;
  int8_t* to = w.values + panel * w.inputs * COLUMNS;
  for (int at = 0; at < width; at += W) {
    const int64_t column = first + at, left = w.outputs - column;
    Ints sums{};
    for (int64_t k = 0; k < w.inputs; k += 4) {
      Ints four{};
      for (int i = 3; i >= 0; i--) {
        const int8_t* row = weight + (k + i) * w.outputs + column;
        int8_t some[W] = {};
        if (left >= W)
          __builtin_memcpy(some, row, W);
        else
          for (int64_t c = 0; c < left; c++) some[c] = row[c];
        typedef int8_t Signed __attribute__((vector_size(W)));
        Signed values;
        __builtin_memcpy(&values, some, W);
        sums += __builtin_convertvector(values, Ints);
        four = (four << 8) | __builtin_convertvector(reinterpret_cast<Bytes>(values), Ints);
      }
      *reinterpret_cast<IntsAt*>(to + (k * COLUMNS) + (lane + at) * 4) = four;
    }
    for (int i = 0; i < W; i++) {
      w.starts[panel * COLUMNS + lane + at + i] = -(HIGHEST + 1) * sums[i];
      w.scales[panel * COLUMNS + lane + at + i] = i < left ? scales[column + i] : 0;
    }
  }
}

}  // namespace
