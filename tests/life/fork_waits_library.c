/* A library that has its thread end before a fork, as OpenBLAS does. It registers for that before
 * anything has allocated: it depends on libc alone, and libraries are initialised after what they
 * depend on, the preloaded ones last. */
#include <pthread.h>

#include "check.h"

void start_worker(void);

static pthread_t worker;
static int is_running;
static volatile int stop;

/* Small blocks and large ones, more than a thread has at hand. */
static void* work(void* unused) {
  static void* blocks[3000];
  do {
    for (int i = 0; i < 3000; i++) blocks[i] = malloc((size_t)i * 20);
    for (int i = 0; i < 3000; i++) free(blocks[i]);
    free(malloc(3 << 20));
  } while (!stop);
  return unused;
}

static void prepare(void) {
  if (!is_running) return;
  stop = 1;
  CHECK(pthread_join(worker, NULL) == 0);
  is_running = 0;
}

void start_worker(void) {
  if (is_running) return;
  stop = 0;
  CHECK(pthread_create(&worker, NULL, work, NULL) == 0);
  is_running = 1;
}

__attribute__((constructor)) static void on_load(void) {
  CHECK(pthread_atfork(prepare, start_worker, start_worker) == 0);
}
