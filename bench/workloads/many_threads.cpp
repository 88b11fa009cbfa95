// What threads cost in memory. Modes:
//   idle    threads that allocated and freed a few hundred small blocks, and wait: RSS of each
//           beyond that of a thread that only waits
//   churn   many threads, one batch after the other, each allocating and freeing 100 blocks: RSS
//           after a tenth of them and after all, which must not be more
#include <pthread.h>

#include "report.hpp"
#include "workload.hpp"

using namespace workload;

namespace {

void use_blocks(uint64_t seed, int count) {
  Random random(seed);
  Block blocks[400];
  for (int i = 0; i < count; ++i) blocks[i] = allocate(random.skewed(16, 6));
  for (int i = 0; i < count; ++i) release(blocks[i]);
}

// ---- Idle

pthread_barrier_t ready, leave;

// The same function for both kinds, so that both use as much stack. By pthread_create, for
// std::thread frees its state in the new thread, which then has a heap.
void* wait_after(void* allocates) {
  use_blocks(1, allocates != nullptr ? 400 : 0);
  pthread_barrier_wait(&ready);
  pthread_barrier_wait(&leave);
  return nullptr;
}

// RSS that so many threads add.
double added_by(int count, bool allocate_first) {
  static pthread_t threads[10000];
  int mark = 0;
  pthread_barrier_init(&ready, nullptr, static_cast<unsigned>(count) + 1);
  pthread_barrier_init(&leave, nullptr, static_cast<unsigned>(count) + 1);
  const double before = resident();
  for (int i = 0; i < count; ++i) {
    if (pthread_create(&threads[i], nullptr, wait_after, allocate_first ? &mark : nullptr) != 0) {
      std::perror("bench: pthread_create");
      std::exit(1);
    }
  }
  pthread_barrier_wait(&ready);
  const double added = resident() - before;
  pthread_barrier_wait(&leave);
  for (int i = 0; i < count; ++i) pthread_join(threads[i], nullptr);
  return added;
}

void idle(int count) {
  added_by(count,
           false);  // what the first ones alone cost: touched pages of the loader, stacks kept
  const double silent = added_by(count, false);
  const double allocating = added_by(count, true);
  report("idle thread", "RSS if it never allocated", "KiB", silent / count / 1024);
  report("idle thread", "RSS beyond that", "KiB", (allocating - silent) / count / 1024);
}

// ---- Churn

void churn(int total) {
  const int batch = std::max(5, total / 200);
  const double before = resident();
  for (int ended = 0; ended < total;) {
    run_threads(batch, [&](int index) { use_blocks(static_cast<uint64_t>(ended + index), 100); });
    ended += batch;
    if (ended == total / 10 || ended == total) {
      const std::string point = "by " + std::to_string(ended) + " threads";
      report("RSS left behind", point.c_str(), "MiB", (resident() - before) / kMiB);
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  const Args args(argc, argv);
  if (args.mode() == "idle") {
    idle(static_cast<int>(std::max(20L, args.work(1000))));
  } else {
    churn(static_cast<int>(args.work(10000)));
  }
}
