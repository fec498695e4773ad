#include "memory.h"

#include <unistd.h>

#include <cstdio>
#include <cstdlib>

#if defined(_WIN32)
#include <malloc.h>
#endif

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace quoit {

void* allocate(size_t bytes) {
  if (bytes > SIZE_MAX - ALIGNMENT) return nullptr;
  bytes = (bytes / ALIGNMENT + 1) * ALIGNMENT;
#if defined(_WIN32)
  return _aligned_malloc(bytes, ALIGNMENT);
#else
  void* found = nullptr;
  return posix_memalign(&found, ALIGNMENT, bytes) == 0 ? found : nullptr;
#endif
}

void release(void* data) {
#if defined(_WIN32)
  _aligned_free(data);
#else
  std::free(data);
#endif
}

void Lock::take() {
  constexpr useconds_t PAUSE = 50;
  constexpr int SPINS = 1000;
  for (int spins = 0; __atomic_exchange_n(&taken_, true, __ATOMIC_ACQUIRE); spins++)
    if (spins > SPINS) usleep(PAUSE);
}

namespace {

// Pieces that no task holds. They are never freed: a thread may still compute when the process ends.
constexpr int KEPT = 64;
struct Piece {
  float* data;
  size_t floats;
} kept[KEPT];
Lock kept_lock;

}  // namespace

Scratch::Scratch(size_t floats) : floats_(floats) {
  {
    const Guard guard(kept_lock);
    for (Piece& piece : kept)
      if (piece.data != nullptr && piece.floats >= floats) {
        data_ = piece.data;
        floats_ = piece.floats;
        piece.data = nullptr;
        return;
      }
  }
  data_ = static_cast<float*>(allocate(floats * sizeof(float)));
}

Scratch::~Scratch() {
  {
    const Guard guard(kept_lock);
    for (Piece& piece : kept)
      if (piece.data == nullptr) {
        piece = {data_, floats_};
        return;
      }
  }
  release(data_);
}

#if defined(__linux__)
namespace {

// Whether one mapping of a file, private to this process and not written to, holds all of a range.
bool is_mapped_file(uintptr_t from, uintptr_t to) {
  std::FILE* maps = std::fopen("/proc/self/maps", "re");
  if (maps == nullptr) return false;
  char line[512];
  bool found = false;
  while (!found && std::fgets(line, sizeof line, maps) != nullptr) {
    unsigned long start, end, inode;
    char kind[5];
    if (std::sscanf(line, "%lx-%lx %4s %*x %*x:%*x %lu", &start, &end, kind, &inode) == 4)
      found = inode != 0 && kind[3] == 'p' && start <= from && to <= end;
  }
  std::fclose(maps);
  return found;
}

}  // namespace

void give_back(const void* data, size_t bytes) {
  const uintptr_t page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const uintptr_t from = (reinterpret_cast<uintptr_t>(data) + page - 1) / page * page;
  const uintptr_t to = (reinterpret_cast<uintptr_t>(data) + bytes) / page * page;
  if (from < to && is_mapped_file(from, to)) madvise(reinterpret_cast<void*>(from), to - from, MADV_DONTNEED);
}
#else
void give_back(const void*, size_t) {}
#endif

}  // namespace quoit
