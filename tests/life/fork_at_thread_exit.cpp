// Forks while threads end with blocks of other threads' slabs in hand; in the child threads end
// likewise.
#include <pthread.h>
#include <sys/wait.h>

#include <atomic>

#include "threads.hpp"

namespace {

constexpr int kBlocks = 64;

void* free_all(void* blocks) {
  for (int i = 0; i < kBlocks; i++) free(static_cast<void**>(blocks)[i]);
  return nullptr;
}

void end_a_thread() {
  void* blocks[kBlocks];
  for (int i = 0; i < kBlocks; i++) blocks[i] = malloc(16 + static_cast<size_t>(i % 40) * 100);
  pthread_t thread;
  CHECK(pthread_create(&thread, nullptr, free_all, blocks) == 0);
  CHECK(pthread_join(thread, nullptr) == 0);
}

std::atomic<bool> done{false};

void* churn(void*) {
  while (!done.load()) end_a_thread();
  return nullptr;
}

}  // namespace

int main() {
  CHECK_LIVE();
  pthread_t threads[2];
  for (pthread_t& thread : threads) CHECK(pthread_create(&thread, nullptr, churn, nullptr) == 0);
  for (int i = 0; i < 400; i++) {
    const pid_t pid = fork();
    if (pid == 0) {
      alarm(20);
      end_a_thread();
      _exit(0);
    }
    int status;
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK_OP(status, ==, 0);
  }
  done.store(true);
  for (pthread_t thread : threads) CHECK(pthread_join(thread, nullptr) == 0);
  return 0;
}
