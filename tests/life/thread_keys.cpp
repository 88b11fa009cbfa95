// All thread-specific keys are the program's while it has one thread. If it takes them all, threads
// do without one of Tally's, and what they leave is used by the next.
#include <errno.h>
#include <limits.h>

#include "threads.hpp"

int main() {
  CHECK_LIVE();
  free(malloc(100));
  // Nobody has made a key yet.
  CHECK(pthread_setspecific(0, "") == EINVAL);
  static pthread_key_t keys[PTHREAD_KEYS_MAX];
  for (pthread_key_t& key : keys) CHECK(pthread_key_create(&key, nullptr) == 0);
  for (const pthread_key_t& key : keys) CHECK(pthread_setspecific(key, &key) == 0);

  size_t rss = 0;
  void* left = nullptr;
  for (int i = 0; i < 3000; i++) {
    Thread thread([&] {
      for (const pthread_key_t& key : keys) CHECK(pthread_getspecific(key) == nullptr);
      free(left);
      void* blocks[40];
      for (int k = 0; k < 40; k++) blocks[k] = malloc(20 + k * 100);
      for (void* p : blocks) free(p);
      left = malloc(300);
      CHECK(left != nullptr);
    });
    thread.join();
    if (i == 200) rss = rss_bytes();
  }
  CHECK_OP(rss_bytes(), <, rss + (4 << 20));
  free(left);
  for (const pthread_key_t& key : keys) CHECK(pthread_getspecific(key) == &key);

  // Given back, they are to be had again, by Tally too: the next thread's scopes hold.
  for (const pthread_key_t& key : keys) CHECK(pthread_key_delete(key) == 0);
  const tally_tag tag = tally_tag_create("/threads");
  Thread thread([&] {
    CHECK(tally_tag_push(tag) == 0);
    left = malloc(1000);
    CHECK(tally_tag_pop() == 0);
  });
  thread.join();
  CHECK_OP(stats_of(tag).own.live_blocks, ==, 1);
  free(left);
  return 0;
}
