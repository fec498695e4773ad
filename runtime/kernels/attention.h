// Causal attention over a packed stream: softmax(q k^T / sqrt(head_dim)) v, tile of keys by tile of keys.
//
// A row's sums are rescaled whenever a tile has a larger score (Milakov and Gimelshein 2018, the online softmax). Tiles
// begin at the same positions whatever a text's batch is, and a tile behind a query's own position leaves its sums as
// they were, bit for bit. So a text does not see its batch, and no scores are kept beyond a tile.
#pragma once
#include "kernels.h"
#include "rows.h"
#include "vectors.h"

namespace {

using quoit::Attention;
using quoit::Slot;

constexpr int KEY_VECTORS = 4;
constexpr int KEYS = KEY_VECTORS * W;  // of a tile
constexpr int QUERY_ROWS = 96;         // of one call: queries times the query heads of a key head
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int BLOCK_ROWS = 6;  // 24 vectors of scores, of 32 registers
#else
constexpr int BLOCK_ROWS = 3;  // 12 of 16
#endif

// scores of M queries with the first V vectors of the transposed keys [size, KEYS]
template <int M, int V>
inline __attribute__((always_inline)) void score_block(const float* queries, const float* keys, int64_t size,
                                                       Floats (&scores)[M][V]) {
  for (int m = 0; m < M; m++)
    for (int v = 0; v < V; v++) scores[m][v] = Floats{};
  for (int64_t d = 0; d < size; d++) {
    Floats column[V];
    for (int v = 0; v < V; v++) column[v] = load(keys + d * KEYS + v * W);
#pragma unroll
    for (int m = 0; m < M; m++) {
      const Floats value = all(queries[m * size + d]);
#pragma unroll
      for (int v = 0; v < V; v++) scores[m][v] = fma(value, column[v], scores[m][v]);
    }
  }
}

// sums[m][offset ...] = sums * factors[m] + weights[m] * values
template <int M, int N>
inline __attribute__((always_inline)) void value_block(const float* weights, const float* const* values, int count,
                                                       const float* factors, float* sums, int64_t size,
                                                       int64_t offset) {
  Floats totals[M][N];
  for (int m = 0; m < M; m++)
    for (int n = 0; n < N; n++) totals[m][n] = load(sums + m * size + offset + n * W) * factors[m];
  for (int k = 0; k < count; k++) {
    Floats some[N];
    for (int n = 0; n < N; n++) some[n] = load(values[k] + offset + n * W);
#pragma unroll
    for (int m = 0; m < M; m++) {
      const Floats weight = all(weights[m * KEYS + k]);
#pragma unroll
      for (int n = 0; n < N; n++) totals[m][n] = fma(weight, some[n], totals[m][n]);
    }
  }
  for (int m = 0; m < M; m++)
    for (int n = 0; n < N; n++) store(sums + m * size + offset + n * W, totals[m][n]);
}

inline Ints lanes() {
  Ints found{};
  for (int i = 0; i < W; i++) found[i] = i;
  return found;
}

// One tile for M rows, of whose keys they see the first V vectors at most.
struct TileOf {
  const float* queries;      // [M, size]
  const int64_t* positions;  // the rows' own
  const float* keys;         // transposed
  const float* const* values;
  int64_t first;  // position of the first key
  int64_t size;
  float *most, *totals, *sums;
};

template <int M, int V>
__attribute__((noinline)) void tile_block(const TileOf& tile) {
  Floats scores[M][V];
  score_block<M, V>(tile.queries, tile.keys, tile.size, scores);
  alignas(64) float weights[M * KEYS];
  float factors[M];
  int count = 0;
  for (int m = 0; m < M; m++) {
    const int64_t left = tile.positions[m] - tile.first + 1;  // keys of this tile that the row sees
    const int own = left > V * W ? V * W : left < 0 ? 0 : static_cast<int>(left);
    count = own > count ? own : count;
    Floats largest = all(tile.most[m]);
    for (int v = 0; v < V; v++) {
      if (own < (v + 1) * W) scores[m][v] = lanes() + v * W < own ? scores[m][v] : all(-__builtin_inff());
      largest = larger(largest, scores[m][v]);
    }
    const float top = largest_of(largest);
    Floats sum{};
    for (int v = 0; v < V; v++) {
      // The difference is zero, or no number if the score is none, which the exponential passes over.
      Floats weight = exponential(scores[m][v] - top) + (scores[m][v] - scores[m][v]);
      if (own < (v + 1) * W) weight = lanes() + v * W < own ? weight : Floats{};
      sum += weight;
      store(weights + m * KEYS + v * W, weight);
    }
    factors[m] = top == tile.most[m] ? 1.0f : exponential(all(tile.most[m] - top))[0];
    tile.totals[m] = tile.totals[m] * factors[m] + sum_of(sum);
    tile.most[m] = top;
  }
  int64_t offset = 0;
  for (; offset + 4 * W <= tile.size && BLOCK_ROWS > 3; offset += 4 * W)
    value_block<M, 4>(weights, tile.values, count, factors, tile.sums, tile.size, offset);
  for (; offset + 2 * W <= tile.size; offset += 2 * W)
    value_block<M, 2>(weights, tile.values, count, factors, tile.sums, tile.size, offset);
  for (; offset + W <= tile.size; offset += W)
    value_block<M, 1>(weights, tile.values, count, factors, tile.sums, tile.size, offset);
}

template <int M>
void tile_rows(const TileOf& tile, int vectors) {
  switch (vectors) {
    case 1: return tile_block<M, 1>(tile);
    case 2: return tile_block<M, 2>(tile);
    case 3: return tile_block<M, 3>(tile);
    default: return tile_block<M, KEY_VECTORS>(tile);
  }
}

size_t attend_scratch(const Attention& a) {
  const size_t size = a.head_dim;
  return QUERY_ROWS * size * 2 + KEYS * size + QUERY_ROWS * 2 + W;
}

// The keys of one tile, transposed to [size, KEYS], W keys at a time; what fills up the last W is zero.
inline void transpose_keys(const float* const* keys, int count, int64_t size, float* to) {
  for (int first = 0; first < count; first += W)
    for (int64_t from = 0; from < size; from += W) {
      Floats rows[W];
#pragma unroll
      for (int k = 0; k < W; k++) rows[k] = first + k < count ? load(keys[first + k] + from) : Floats{};
      transpose(rows);
#pragma unroll
      for (int i = 0; i < W; i++) store(to + (from + i) * KEYS + first, rows[i]);
    }
}

void attend(const Attention& a, const Slot* slots, int64_t count, int64_t kv_head, float* scratch) {
  const int64_t size = a.head_dim, group = a.heads / a.kv_heads, rows = count * group;
  const int64_t row = slots[0].slot / a.width, width = a.kv_heads * size;
  const int64_t* index = a.index + row * a.width;
  float* queries = scratch;
  float* sums = queries + QUERY_ROWS * size;
  float* keys = sums + QUERY_ROWS * size;
  float* most = keys + KEYS * size;
  float* totals = most + QUERY_ROWS;
  int64_t positions[QUERY_ROWS];
  for (int64_t i = 0; i < count; i++) {
    const int64_t position = slots[i].slot % a.width, token = index[position] - a.past;
    for (int64_t h = 0; h < group; h++) {
      const int64_t at = i * group + h;
      positions[at] = position;
      head(a.query + (token * a.heads + kv_head * group + h) * size, a.query_norm, a.epsilon, size,
           a.cos + position * (size / 2), a.sin + position * (size / 2), a.scale, queries + at * size, nullptr);
      most[at] = -__builtin_inff();
      totals[at] = 0;
    }
  }
  for (int64_t i = 0; i < rows * size; i++) sums[i] = 0;
  const int64_t last = positions[rows - 1];
  for (int64_t first = 0; first <= last; first += KEYS) {
    const int tile = last - first + 1 < KEYS ? static_cast<int>(last - first + 1) : KEYS;
    const float *key[KEYS], *value[KEYS];
    for (int k = 0; k < tile; k++) {
      const int64_t at = index[first + k];
      key[k] = a.keys + at * width + kv_head * size;
      value[k] = (at < a.past ? a.past_value + at * width : a.value + (at - a.past) * width) + kv_head * size;
    }
    transpose_keys(key, tile, size, keys);
    for (int64_t from = 0; from < rows; from += BLOCK_ROWS) {
      const int64_t block = rows - from < BLOCK_ROWS ? rows - from : BLOCK_ROWS;
      const int64_t seen = positions[from + block - 1] - first + 1;
      if (seen <= 0) continue;
      const int vectors = seen >= KEYS ? KEY_VECTORS : static_cast<int>((seen + W - 1) / W);
      const TileOf one = {queries + from * size, positions + from, keys, value, first, size,
                          most + from, totals + from, sums + from * size};
      switch (block) {
        case 1: tile_rows<1>(one, vectors); break;
        case 2: tile_rows<2>(one, vectors); break;
        case 3: tile_rows<3>(one, vectors); break;
#if defined(__AVX512F__) || defined(__aarch64__)
        case 4: tile_rows<4>(one, vectors); break;
        case 5: tile_rows<5>(one, vectors); break;
        case 6: tile_rows<6>(one, vectors); break;
#endif
      }
    }
  }
  for (int64_t at = 0; at < rows; at++) {
    float* to = a.out + (slots[at / group].place * a.heads + kv_head * group + at % group) * size;
    for (int64_t i = 0; i < size; i += W) store(to + i, load(sums + at * size + i) / totals[at]);
  }
}

}  // namespace
