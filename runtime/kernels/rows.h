// Rounding of activations, row by row, and the norms and rotary positions of heads.
#pragma once
#include "vectors.h"

namespace {

constexpr float SMALLEST_ROW_MAXIMUM = 1e-20f;

inline void store_bytes(uint8_t* to, Floats values, float zero_point) {
  const Floats integers = smaller(larger(nearest(values) + zero_point, all(0.0f)), all(255.0f));
  const Bytes bytes = __builtin_convertvector(__builtin_convertvector(integers, Ints), Bytes);
  *reinterpret_cast<BytesAt*>(to) = bytes;
}

// sizes are multiples of W
float quantize(const float* row, int64_t size, float threshold, uint8_t* out, bool* uneven) {
  Floats most{}, squares{};
  for (int64_t i = 0; i < size; i += W) {
    const Floats values = load(row + i);
    most = larger(most, magnitude(values));
    squares = fma(values, values, squares);
  }
  const float most_of_row = largest_of(most);
  const float largest = most_of_row > SMALLEST_ROW_MAXIMUM ? most_of_row : SMALLEST_ROW_MAXIMUM;
  const float square = sum_of(squares);
  *uneven = threshold == 0 || (threshold > 0 && largest > __builtin_sqrtf(square) * threshold);
  // A value that is no number must show in the results, and maxima pass it over.
  const float scale = square == square ? largest * (1.0f / QUOIT_HIGHEST) : square;
  for (int64_t i = 0; i < size; i += W) store_bytes(out + i, load(row + i) / scale, QUOIT_HIGHEST + 1);
  return scale;
}

void quantize_rest(const float* row, int64_t size, float scale, const uint8_t* first, uint8_t* out) {
  const float finer = scale * (1.0f / (2 * QUOIT_HIGHEST));
  for (int64_t i = 0; i < size; i += W) {
    const Bytes bytes = *reinterpret_cast<const BytesAt*>(first + i);
    const Floats integers = __builtin_convertvector(bytes, Floats) - float(QUOIT_HIGHEST + 1);
    const Floats rest = load(row + i) - integers * scale;
    store_bytes(out + i, rest / finer, QUOIT_HIGHEST + 1);
  }
}

void add_norm(const float* __restrict x, const float* __restrict residual, const float* __restrict weight, float epsilon,
              int64_t size, float* __restrict total, float* __restrict normed) {
  Floats squares{};
  for (int64_t i = 0; i < size; i += W) {
    const Floats values = load(x + i) + load(residual + i);
    store(total + i, values);
    squares = fma(values, values, squares);
  }
  const float inverse = 1 / __builtin_sqrtf(sum_of(squares) / size + epsilon);
  for (int64_t i = 0; i < size; i += W) store(normed + i, load(total + i) * inverse * load(weight + i));
}

// size is a multiple of 16
void head(const float* __restrict in, const float* __restrict norm, float epsilon, int64_t size,
          const float* __restrict cos, const float* __restrict sin, float factor, float* __restrict out,
          float* __restrict plain) {
  float inverse = 1;
  if (norm != nullptr) {
    Floats squares{};
    for (int64_t i = 0; i < size; i += W) {
      const Floats values = load(in + i);
      squares = fma(values, values, squares);
    }
    inverse = 1 / __builtin_sqrtf(sum_of(squares) / size + epsilon);
  }
  const int64_t half = size / 2;
  int64_t i = 0;
  for (; i + W <= half; i += W) {
    Floats a = load(in + i), b = load(in + i + half);
    if (norm != nullptr) {
      a *= load(norm + i) * inverse;
      b *= load(norm + i + half) * inverse;
    }
    if (plain != nullptr) {
      store(plain + i, a);
      store(plain + i + half, b);
    }
    const Floats c = load(cos + i), s = load(sin + i);
    store(out + i, (a * c - b * s) * factor);
    store(out + i + half, (b * c + a * s) * factor);
  }
  for (; i < half; i++) {
    float a = in[i], b = in[i + half];
    if (norm != nullptr) {
      a *= norm[i] * inverse;
      b *= norm[i + half] * inverse;
    }
    if (plain != nullptr) {
      plain[i] = a;
      plain[i + half] = b;
    }
    out[i] = (a * cos[i] - b * sin[i]) * factor;
    out[i + half] = (b * cos[i] + a * sin[i]) * factor;
  }
}

}  // namespace
