// For sampled_test.py: allocates what is known, in functions and under tags that are known.
//   sampled        says what it holds, then waits for its standard input to say how to end:
//                  "exit", or "fork": then its child frees a half, says "child PID", and waits too
#include <sys/wait.h>

#include "threads.hpp"

namespace {

constexpr int kCached = 1000, kStored = 300, kLarge = 5;
void* cached[kCached];
void* stored[kStored];
void* large[kLarge];

__attribute__((noinline)) void fill_cache(tally_tag tag) {
  for (void*& block : cached) CHECK((block = tally_malloc(tag, 100)) != nullptr);
}
__attribute__((noinline)) void fill_store(tally_tag tag) {
  for (void*& block : stored) CHECK((block = tally_malloc(tag, 5000)) != nullptr);
}
__attribute__((noinline)) void fill_large() {
  for (void*& block : large) CHECK((block = malloc(1000000)) != nullptr);
}

void wait_for(char* word, size_t size) {
  const ssize_t got = read(0, word, size - 1);
  CHECK(got >= 0);
  word[got] = 0;
}

}  // namespace

int main() {
  CHECK(tally_is_live());
  const tally_tag cache = tally_tag_create("/cache"), store = tally_tag_create("/store");
  fill_cache(cache);
  fill_cache(cache);  // the first ones leak
  auto on_a_thread = [&] { fill_store(store); };
  Thread<decltype(on_a_thread)> thread(on_a_thread);
  thread.join();
  fill_large();
  for (int i = 0; i < kStored; i += 3) tally_free(stored[i]);
  dprintf(1, "ready %p\n", reinterpret_cast<void*>(fill_cache));
  char how[16];
  wait_for(how, sizeof how);
  if (strncmp(how, "fork", 4) != 0) return 0;
  const pid_t child = fork();
  if (child == 0) {
    for (int i = 0; i < kCached; i += 2) tally_free(cached[i]);
    usleep(1100000);  // it has a record when it is as old as the time between publications
    for (int i = 0; i < 100; ++i) free(malloc(200000));  // passes the slow path
    dprintf(1, "child %d\n", getpid());
    wait_for(how, sizeof how);
    return 0;
  }
  CHECK(waitpid(child, nullptr, 0) == child);
}
