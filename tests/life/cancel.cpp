// Threads that are cancelled: malloc, free and the statistics are no places for that, whatever
// system calls they make; what handlers free on the way out is counted; and an exception that
// unwinds through frames that hold blocks leaves none behind.
#include <memory>
#include <stdexcept>
#include <vector>

#include "threads.hpp"

namespace {

tally_tag tag;
int ended, reached;

struct Holder {
  void* block = tally_malloc(tag, 700);
  ~Holder() {
    free(block);
    exercise(2, 50);
    __atomic_fetch_add(&ended, 1, __ATOMIC_RELAXED);
  }
};

void on_cancel(void* block) {
  free(block);
  void* more = tally_malloc(tag, 100000);
  free(more);
}

// The request is there from the first step on, and is followed at the one place that is for it.
void* cancelled(void*) {
  Holder holder;
  void* block = tally_malloc(tag, 3000);
  pthread_cleanup_push(on_cancel, block);
  pthread_cancel(pthread_self());
  exercise(1, 300);
  free(malloc(10 << 20));
  malloc_trim(0);
  tally_snapshot_free(tally_snapshot());
  tally_tag_push(tag);
  free(malloc(50));
  __atomic_fetch_add(&reached, 1, __ATOMIC_RELAXED);
  pthread_testcancel();
  CHECK(!"the thread was cancelled");
  pthread_cleanup_pop(0);
  return nullptr;
}

void throw_from(int depth) {
  Holder holder;
  std::vector<std::unique_ptr<int[]>> blocks;
  for (int i = 0; i < 20; i++) blocks.push_back(std::make_unique<int[]>(100));
  if (depth == 0) throw std::runtime_error(std::string(1000, 'x'));
  throw_from(depth - 1);
}

}  // namespace

int main() {
  CHECK_LIVE();
  tag = tally_tag_create("/cancelled");
  constexpr int kThreads = 200;
  for (int i = 0; i < kThreads; i += 4) {
    pthread_t ids[4];
    for (pthread_t& id : ids) CHECK(pthread_create(&id, nullptr, cancelled, nullptr) == 0);
    for (pthread_t& id : ids) {
      void* result;
      CHECK(pthread_join(id, &result) == 0 && result == PTHREAD_CANCELED);
    }
  }
  CHECK_OP(reached, ==, kThreads);
  CHECK_OP(ended, ==, kThreads);
  CHECK_OP(stats_of(tag).own.live_blocks, ==, 0);

  auto work = [] {
    for (int i = 0; i < 100; i++) {
      bool caught = false;
      try {
        throw_from(10);
      } catch (const std::runtime_error& error) {
        caught = strlen(error.what()) == 1000;
      }
      CHECK(caught);
    }
  };
  Thread a(work), b(work);
  a.join(), b.join();
  CHECK_OP(ended, ==, kThreads + 2 * 100 * 11);
  CHECK_OP(stats_of(tag).own.live_blocks, ==, 0);
  return 0;
}
