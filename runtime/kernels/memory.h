// Memory for weights and scratch, aligned for vectors, and a lock. Nothing here, as in all sources, needs the C++ runtime
// library: the compiler would take minutes to build it, and the kernels would carry it.
#pragma once
#include <cstddef>
#include <cstdint>

namespace quoit {

constexpr size_t ALIGNMENT = 64;

// Null if there is no memory.
void* allocate(size_t bytes);
void release(void* data);

// An array that may be empty, and whose memory may be refused: check it before use.
template <typename T>
class Array {
 public:
  Array() = default;
  explicit Array(size_t count) : size_(count) {
    if (count < SIZE_MAX / sizeof(T)) data_ = static_cast<T*>(allocate(count * sizeof(T)));
  }
  Array(Array&& other) noexcept : data_(other.data_), size_(other.size_) { other.data_ = nullptr; }
  Array& operator=(Array&& other) noexcept {
    T* const data = data_;
    data_ = other.data_;
    size_ = other.size_;
    other.data_ = data;
    return *this;
  }
  ~Array() { release(data_); }
  explicit operator bool() const { return data_ != nullptr; }
  T* get() const { return data_; }
  T& operator[](size_t index) const { return data_[index]; }
  size_t size() const { return size_; }
  T* begin() const { return data_; }
  T* end() const { return data_ + size_; }

 private:
  T* data_ = nullptr;
  size_t size_ = 0;
};

// Scratch of one task, which is lent again to a later one: a fresh piece of this size would be mapped page by page.
class Scratch {
 public:
  explicit Scratch(size_t floats);
  ~Scratch();
  Scratch(const Scratch&) = delete;
  explicit operator bool() const { return data_ != nullptr; }
  float* get() const { return data_; }

 private:
  float* data_;
  size_t floats_;
};

// A lock for what happens once: whoever waits sleeps in between.
class Lock {
 public:
  void take();
  void release() { __atomic_store_n(&taken_, false, __ATOMIC_RELEASE); }

 private:
  bool taken_ = false;
};

class Guard {
 public:
  explicit Guard(Lock& lock) : lock_(lock) { lock_.take(); }
  ~Guard() { lock_.release(); }
  Guard(const Guard&) = delete;

 private:
  Lock& lock_;
};

// Gives the pages of a mapped file back to the system, which reads them again where they are needed. Memory that is no
// mapped file is left alone.
void give_back(const void* data, size_t bytes);

}  // namespace quoit
