// Dumps by signal in the midst of forks: who writes one must wait for no lock, as the thread that
// was interrupted may hold it.
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <thread>

#include "check.h"
#include "tally_test.h"

namespace {

constexpr int kForks = 400;
std::atomic<bool> stop{false};

// Of all kinds: small, large, and mappings of their own.
void allocate_for_a_while(unsigned seed, int rounds) {
  for (int i = 0; i < rounds && !stop; i++) {
    seed = seed * 1664525 + 1013904223;
    const size_t size = (seed >> 8) % ((seed & 64) != 0    ? 200
                                       : (seed & 128) != 0 ? 300000
                                                           : 6000000);
    auto* p = static_cast<char*>(malloc(size + 1));
    CHECK(p != nullptr);
    p[size] = 1;
    p = static_cast<char*>(realloc(p, 2 * size + 1));
    CHECK(p != nullptr && p[size] == 1);
    free(p);
  }
}

}  // namespace

int main() {
  CHECK(tally_is_live());
  alarm(60);
  std::thread worker(allocate_for_a_while, 1, 1 << 30);
  const pthread_t forker = pthread_self();
  std::thread dumper([&] {
    while (!stop) {
      pthread_kill(forker, SIGUSR2);
      usleep(1000);
    }
  });
  for (int i = 0; i < kForks; i++) {
    const pid_t child = fork();
    if (child == 0) {
      alarm(30);
      allocate_for_a_while(static_cast<unsigned>(i), 5);
      _exit(0);
    }
    CHECK(child > 0);
    int status = -1;
    while (waitpid(child, &status, 0) < 0) {
    }
    CHECK(status == 0);
  }
  stop = true;
  worker.join();
  dumper.join();
  return 0;
}
