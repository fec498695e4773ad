// Vectors of floats and integers in the width that a file is compiled for, and the exact sums of 8-bit products.
//
// Everything here has internal linkage: each instruction set is a translation unit of its own, and the linker must
// never take one unit's copy of a function for another's.
#pragma once
#include <cstddef>
#include <cstdint>

#if defined(QUOIT_X86)
#include <immintrin.h>
#endif

#ifndef QUOIT_WIDTH
#error "QUOIT_WIDTH is the number of floats of a vector: 16, 8 or 4"
#endif

namespace {

constexpr int W = QUOIT_WIDTH;

typedef float Floats __attribute__((vector_size(W * 4)));
typedef float FloatsAt __attribute__((vector_size(W * 4), aligned(4)));
typedef int32_t Ints __attribute__((vector_size(W * 4)));
typedef int32_t IntsAt __attribute__((vector_size(W * 4), aligned(4)));
typedef uint8_t Bytes __attribute__((vector_size(W)));
typedef uint8_t BytesAt __attribute__((vector_size(W), aligned(1)));

inline Floats load(const float* from) { return *reinterpret_cast<const FloatsAt*>(from); }
inline void store(float* to, Floats values) { *reinterpret_cast<FloatsAt*>(to) = values; }
inline Floats all(float value) { return value - Floats{}; }  // value + 0 would turn -0 into 0, at a cost
#if __has_builtin(__builtin_elementwise_fma)
inline Floats fma(Floats a, Floats b, Floats c) { return __builtin_elementwise_fma(a, b, c); }
#else  // clang before 17, for the sanitizers of a distribution
inline Floats fma(Floats a, Floats b, Floats c) {
  for (int i = 0; i < W; i++) c[i] = __builtin_fmaf(a[i], b[i], c[i]);
  return c;
}
#endif
inline Floats larger(Floats a, Floats b) { return __builtin_elementwise_max(a, b); }
inline Floats smaller(Floats a, Floats b) { return __builtin_elementwise_min(a, b); }
inline Floats magnitude(Floats a) { return __builtin_elementwise_abs(a); }
inline Floats nearest(Floats a) { return __builtin_elementwise_roundeven(a); }

// Reductions in one order everywhere: halves, quarters, and so on.
template <int SIZE>
struct Reduce {
  typedef float Values __attribute__((vector_size(SIZE * 4)));
  typedef float Half __attribute__((vector_size(SIZE * 2)));
  static void halves(Values values, Half* low, Half* high) {
    __builtin_memcpy(low, &values, sizeof(Half));
    __builtin_memcpy(high, reinterpret_cast<const char*>(&values) + sizeof(Half), sizeof(Half));
  }
  static float sum(Values values) {
    Half low, high;
    halves(values, &low, &high);
    return Reduce<SIZE / 2>::sum(low + high);
  }
  static float largest(Values values) {
    Half low, high;
    halves(values, &low, &high);
    return Reduce<SIZE / 2>::largest(__builtin_elementwise_max(low, high));
  }
};
template <>
struct Reduce<2> {
  typedef float Values __attribute__((vector_size(8)));
  static float sum(Values values) { return values[0] + values[1]; }
  static float largest(Values values) { return values[0] > values[1] ? values[0] : values[1]; }
};
inline float sum_of(Floats values) { return Reduce<W>::sum(values); }
inline float largest_of(Floats values) { return Reduce<W>::largest(values); }

// Transposes W rows of W floats: log2(W) times, every row of the first half is interleaved with its own of the second.
template <int... LANES>
struct Lanes {};
template <int COUNT, int... LANES>
struct Count : Count<COUNT - 1, COUNT - 1, LANES...> {};
template <int... LANES>
struct Count<0, LANES...> {
  typedef Lanes<LANES...> Type;
};
template <int... LANES>
inline Floats interleave(Floats a, Floats b, int half, Lanes<LANES...>) {
  return half == 0 ? __builtin_shufflevector(a, b, (LANES % 2 ? W : 0) + LANES / 2 ...)
                   : __builtin_shufflevector(a, b, (LANES % 2 ? W : 0) + W / 2 + LANES / 2 ...);
}
inline __attribute__((always_inline)) void transpose(Floats (&rows)[W]) {
  typedef Count<W>::Type All;
  for (int stage = 1; stage < W; stage *= 2) {
    Floats next[W];
#pragma unroll
    for (int i = 0; i < W / 2; i++) {
      next[2 * i] = interleave(rows[i], rows[i + W / 2], 0, All());
      next[2 * i + 1] = interleave(rows[i], rows[i + W / 2], 1, All());
    }
#pragma unroll
    for (int i = 0; i < W; i++) rows[i] = next[i];
  }
}

// exp(x) for x <= 0 to about 1 ulp, 1.2e-38 below -87; Cephes' polynomial of degree 6 (netlib.org/cephes, expf.c).
inline Floats exponential(Floats x) {
  x = smaller(larger(x, all(-87.0f)), all(88.0f));
  Floats n = nearest(x * 1.44269504f);
  Floats r = fma(n, all(-0.693359375f), x);
  r = fma(n, all(2.12194440e-4f), r);
  Floats p = all(1.9875691500e-4f);
  p = fma(p, r, all(1.3981999507e-3f));
  p = fma(p, r, all(8.3334519073e-3f));
  p = fma(p, r, all(4.1665795894e-2f));
  p = fma(p, r, all(1.6666665459e-1f));
  p = fma(p, r, all(5.0000001201e-1f));
  p = fma(p * r, r, r + 1.0f);
  Ints power = (__builtin_convertvector(n, Ints) + 127) << 23;
  return p * reinterpret_cast<Floats>(power);
}

}  // namespace
