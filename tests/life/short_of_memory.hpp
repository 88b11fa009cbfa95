// A workload that may be refused anything: what it is given keeps its content, what it is refused
// is NULL with ENOMEM, success and free leave errno alone, and its own count is Tally's.
#pragma once

#include <sys/wait.h>

#include "threads.hpp"

class ShortOfMemory {
 public:
  // Half of what it holds is under this tag.
  explicit ShortOfMemory(const char* path) : path_(path) {}

  // About all that asks the system for something. With `threads`, threads and a fork as well.
  void run(bool threads) {
    const tally_tag tag = tally_tag_create(path_);
    if (tag == TALLY_TAG_NONE) CHECK(errno == ENOMEM);
    for (size_t n : {24ul, 500ul, 5000ul, 40000ul, 200000ul}) {
      for (int i = 0; i < 3; i++) {
        keep(TALLY_TAG_NONE, ask([&] { return malloc(n); }), n);
        if (tag != TALLY_TAG_NONE) keep(tag, ask([&] { return tally_malloc(tag, n); }), n);
      }
      void* zeroed = ask([&] { return calloc(1, n); });
      for (size_t i = 0; zeroed != nullptr && i < n; i++) {
        CHECK(static_cast<char*>(zeroed)[i] == 0);
      }
      keep(TALLY_TAG_NONE, zeroed, n);
    }
    for (size_t n : {100ul, 100000ul, 1100000ul}) {
      void* aligned = ask([&] { return aligned_alloc(1 << 17, n); });
      CHECK(reinterpret_cast<uintptr_t>(aligned) % (1 << 17) == 0);
      keep(TALLY_TAG_NONE, aligned, n);
      keep(TALLY_TAG_NONE, ask([&] { return malloc(n * 2); }), n * 2);
    }
    if (threads) run_threads();
    for (int i = 0; i < count_; i += 2) resize(held_[i], held_[i].n * (i % 3 == 0 ? 3 : 1) / 2 + 1);
    if (count_ > 0) resize(held_[0], 3 << 20);
    for (int i = 0; i < count_; i += 3) release(i);
    errno = 7777;
    malloc_trim(0);
    CHECK(errno == 7777);
    tally_snapshot_json(nullptr, 0);
    if (tally_tag_create("/short/for/a/while") != TALLY_TAG_NONE) {
      tally_tag_retire(tally_tag_find("/short/for/a/while"));
    }
    check();
  }

  void check() const {
    uint64_t tagged = 0;
    for (int i = 0; i < count_; i++) {
      CHECK(is_filled(held_[i].p, held_[i].n, held_[i].mark));
      if (held_[i].tag == TALLY_TAG_NONE) continue;
      CHECK(tally_tag_of(held_[i].p) == held_[i].tag);
      tagged++;
    }
    const tally_tag tag = tally_tag_find(path_);
    if (tag != TALLY_TAG_NONE) CHECK_OP(stats_of(tag).own.live_blocks, ==, tagged);
  }

  void free_all() {
    check();
    while (count_ > 0) release(count_ - 1);
    check();
  }

 private:
  struct Held {
    void* p;
    size_t n;
    uint32_t mark;
    tally_tag tag;  // none: whatever malloc gives
  };

  template <class Call>
  static void* ask(Call call) {
    errno = 7777;
    void* p = call();
    CHECK(errno == (p == nullptr ? ENOMEM : 7777));
    return p;
  }
  void keep(tally_tag tag, void* p, size_t n) {
    if (p == nullptr) return;
    const Held held = {p, n, static_cast<uint32_t>(n + static_cast<size_t>(count_)), tag};
    fill(p, n, held.mark);
    held_[count_++] = held;
  }
  static void resize(Held& held, size_t n) {
    void* p = ask([&] { return realloc(held.p, n); });
    if (p == nullptr) {
      CHECK(is_filled(held.p, held.n, held.mark));
      return;
    }
    CHECK(is_filled(p, held.n, held.mark, n));
    held.p = p;
    held.n = n;
    fill(p, n, held.mark);
  }
  void release(int index) {
    errno = 7777;
    free(held_[index].p);
    CHECK(errno == 7777);
    held_[index] = held_[--count_];
  }
  static void* in_thread(void*) {
    static_cast<void>(tally_tag_push(TALLY_TAG_ROOT));
    void* blocks[200] = {};
    for (size_t i = 0; i < 200; i++) blocks[i] = ask([&] { return malloc(i * 37); });
    for (void* p : blocks) free(p);
    return nullptr;
  }
  static void run_threads() {
    pthread_t ids[3];
    bool made[3];
    for (int i = 0; i < 3; i++) made[i] = pthread_create(&ids[i], nullptr, in_thread, nullptr) == 0;
    const pid_t pid = fork();
    if (pid == 0) {
      alarm(20);
      in_thread(nullptr);
      _exit(0);
    }
    int status;
    CHECK(pid > 0 && waitpid(pid, &status, 0) == pid);
    CHECK_OP(status, ==, 0);
    for (int i = 0; i < 3; i++) {
      if (made[i]) CHECK(pthread_join(ids[i], nullptr) == 0);
    }
  }

  const char* path_;
  Held held_[300];
  int count_ = 0;
};
