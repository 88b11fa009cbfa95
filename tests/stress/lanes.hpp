// What the stress programs share: places through which threads swap blocks, arguments, and that the
// backend is the one that was asked for.
#pragma once

#include <tally/tally.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <utility>

struct Block {
  void* p = nullptr;
  size_t size = 0;
  uint32_t mark = 0, tag = 0;
};

// Threads swap blocks through these, so that most blocks are freed by another thread than allocated
// them.
class Slot {
 public:
  Block swap(Block block) {
    while (busy_.test_and_set(std::memory_order_acquire)) std::this_thread::yield();
    std::swap(block_, block);
    busy_.clear(std::memory_order_release);
    return block;
  }

 private:
  std::atomic_flag busy_ = ATOMIC_FLAG_INIT;
  Block block_;
};

// The number behind `name`; `other` where it is not given.
inline uint64_t argument(int argc, char** argv, const char* name, uint64_t other) {
  for (int i = 1; i + 1 < argc; i += 2) {
    if (strcmp(argv[i], name) == 0) return strtoull(argv[i + 1], nullptr, 10);
  }
  return other;
}

// Over another backend, with which Tally goes on where one cannot be used, a test proves nothing.
inline void expect_backend() {
  const char* name = getenv("TALLY_BACKEND");
  tally_snapshot_t* snapshot = tally_snapshot();
  if (strcmp(snapshot->backend, name == nullptr ? "os" : name) != 0) {
    fprintf(stderr, "the backend is %s\n", snapshot->backend);
    abort();
  }
  tally_snapshot_free(snapshot);
}
