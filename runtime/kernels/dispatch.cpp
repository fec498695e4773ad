// Chooses the kernels for this CPU.
#include "dispatch.h"

#include <cstdlib>
#include <cstring>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace quoit {
namespace {

#if defined(__x86_64__)
struct Features {
  bool avx2, avx512_vnni, avx_vnni;
};

Features features() {
  unsigned a, b, c, d;
  if (!__get_cpuid(1, &a, &b, &c, &d)) return {};
  const bool fma = c >> 12 & 1, saves = c >> 27 & 1;
  unsigned low = 0, high;
  if (saves) __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  // The system has to save the registers: bits 1 and 2 for 256 bits, 5 to 7 for 512 as well.
  const bool wide = (low & 0x06) == 0x06, widest = (low & 0xe6) == 0xe6;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return {};
  const bool avx2 = fma && wide && (b >> 5 & 1);
  // avx512f, dq, bw, vl, vnni
  const bool avx512 = avx2 && widest && (b >> 16 & 1) && (b >> 17 & 1) && (b >> 30 & 1) && (b >> 31 & 1);
  const bool avx512_vnni = avx512 && (c >> 11 & 1);
  unsigned e = 0;
  const bool avx_vnni = __get_cpuid_count(7, 1, &e, &b, &c, &d) && avx2 && (e >> 4 & 1);
  return {avx2, avx512_vnni, avx_vnni};
}
#endif

const Kernels* choose() {
#if defined(__x86_64__)
  const Features has = features();
  const struct {
    bool here;
    const Kernels* kernels;
  } sets[] = {{has.avx512_vnni, avx512_vnni()}, {has.avx_vnni, avx_vnni()}, {has.avx2, avx2()}};
  // A slower set that the CPU has too can be asked for, so that tests reach each of them.
  const char* wanted = std::getenv("QUOIT_KERNELS");
  for (const auto& set : sets)
    if (set.here && wanted != nullptr && std::strcmp(wanted, set.kernels->name) == 0) return set.kernels;
  for (const auto& set : sets)
    if (set.here) return set.kernels;
  return nullptr;
#elif defined(__aarch64__)
  return neon();
#else
  return nullptr;
#endif
}

}  // namespace

const Kernels* kernels() {
  // Chosen once, so that the environment cannot change it between two operators; all threads choose alike.
  static const Kernels* chosen = nullptr;
  static bool made = false;
  if (!__atomic_load_n(&made, __ATOMIC_ACQUIRE)) {
    __atomic_store_n(&chosen, choose(), __ATOMIC_RELAXED);
    __atomic_store_n(&made, true, __ATOMIC_RELEASE);
  }
  return __atomic_load_n(&chosen, __ATOMIC_RELAXED);
}

}  // namespace quoit
