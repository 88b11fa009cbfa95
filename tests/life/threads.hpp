// Threads and sizes for the life tests, with pthreads alone: std::thread allocates where a test
// must not.
#pragma once

#include <pthread.h>

#include <cstdint>
#include <cstdlib>

#include "blocks.hpp"
#include "check.h"

// A thread that runs f(arg); join() gives back nothing. Small stacks, so that thousands fit.
template <class F>
class Thread {
 public:
  explicit Thread(F f, size_t stack = 256 << 10) : f_(f) {
    pthread_attr_t attributes;
    CHECK(pthread_attr_init(&attributes) == 0);
    CHECK(pthread_attr_setstacksize(&attributes, stack) == 0);
    CHECK(pthread_create(&id_, &attributes, &Thread::run, this) == 0);
    pthread_attr_destroy(&attributes);
  }
  Thread(const Thread&) = delete;
  void join() { CHECK(pthread_join(id_, nullptr) == 0); }

 private:
  static void* run(void* self) {
    static_cast<Thread*>(self)->f_();
    return nullptr;
  }
  F f_;
  pthread_t id_;
};

// A few thousand mixed calls with checked content; leaves nothing behind.
inline void exercise(uint64_t seed, int steps = 2000) {
  Random random(seed);
  struct Block {
    void* p;
    size_t size;
  } blocks[64] = {};
  for (int i = 0; i < steps; i++) {
    Block& b = blocks[random.below(64)];
    const uint32_t mark = static_cast<uint32_t>(&b - blocks);
    if (b.p != nullptr) CHECK(is_filled(b.p, b.size, mark));
    const uint64_t kind = random.below(100);
    const size_t size = random.below(kind < 90 ? 500 : kind < 99 ? 20000 : 300000);
    if (b.p != nullptr && kind % 3 == 0) {
      void* p = realloc(b.p, size + 1);
      CHECK(p != nullptr);
      CHECK(is_filled(p, b.size, mark, size + 1));
      b = {p, size + 1};
    } else {
      free(b.p);
      b = {kind % 3 == 1 ? malloc(size) : calloc(1, size), size};
      CHECK(b.p != nullptr);
    }
    fill(b.p, b.size, mark);
  }
  for (uint32_t i = 0; i < 64; i++) {
    if (blocks[i].p != nullptr) CHECK(is_filled(blocks[i].p, blocks[i].size, i));
    free(blocks[i].p);
  }
}
