/* No message at the end, and no other end: where exit is called by a signal handler, in the middle
 * of malloc; beside threads that run on; by the child of a vfork; and where nobody could be told.
 */
#include <pthread.h>
#include <signal.h>
#include <sys/time.h>
#include <sys/wait.h>

#include "misuse.h"

enum { kHandlers = 40, kBlocks = 64 };

static void churn(unsigned seed) {
  static void* blocks[kBlocks];
  for (;;) {
    seed = seed * 1103515245 + 12345;
    void** block = &blocks[seed >> 16 & (kBlocks - 1)];
    free(*block);
    *block = malloc(seed >> 22);
  }
}

static void* churn_thread(void* blocks_of_main) {
  void** blocks = blocks_of_main;
  for (unsigned i = 0;; i++) {
    /* Some go back to the slabs of the thread that ends. */
    free(i < kBlocks ? blocks[i] : NULL);
    free(malloc(i % 2000));
  }
  return NULL;
}

static void end(int number) {
  (void)number;
  exit(7);
}

static void end_in_handler(unsigned seed) {
  CHECK(signal(SIGALRM, end) != SIG_ERR);
  struct itimerval timer = {.it_value = {.tv_usec = 200 + seed * 17 % 2000}};
  CHECK(setitimer(ITIMER_REAL, &timer, NULL) == 0);
  churn(seed);
}

static void end_beside_threads(unsigned seed) {
  static void* blocks[2][kBlocks];
  for (int i = 0; i < 2 * kBlocks; i++) blocks[i / kBlocks][i % kBlocks] = malloc(100);
  for (int i = 0; i < 2; i++) {
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, churn_thread, blocks[i]) == 0);
  }
  usleep(seed * 50);
  exit(7);
}

static void free_twice(void) {
  char* p = malloc(48);
  char* q = malloc(48);
  free(p);
  free(q);
  free(opaque_pointer(p));
}

static void end_without_stderr(unsigned seed) {
  (void)seed;
  free_twice();
  close(2);
  exit(7);
}

/* The child ends as it should not; its parent's memory is not for it to look at. */
static void end_in_vfork(unsigned seed) {
  (void)seed;
  free_twice();
  pid_t child = vfork();
  if (child == 0) exit(7);
  int status;
  CHECK(waitpid(child, &status, 0) == child);
  _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
}

static void run(void (*body)(unsigned), unsigned seed) {
  pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) body(seed);
  int status;
  CHECK(waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status));
  CHECK_OP(WEXITSTATUS(status), ==, 7);
}

int main(void) {
  CHECK_LIVE();
  for (unsigned i = 0; i < kHandlers; i++) run(end_in_handler, i);
  for (unsigned i = 0; i < 5; i++) run(end_beside_threads, i);
  if (!tally_is_hardened()) {
    run(end_without_stderr, 0);
    run(end_in_vfork, 0);
  }
  dprintf(1, "finished\n");
  return 0;
}
