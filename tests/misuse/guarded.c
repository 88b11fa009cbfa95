/* A block that is guarded, and what a program may do to it: guarded CASE, with TALLY_SAMPLE=2 and
 * TALLY_GUARD=1/1. guarded_test.py compares. Writes the first line to expect, and the threads that
 * it must name; then the mistake, which bad_step makes; then "finished". */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/wait.h>

#include "misuse.h"

#define STEP __attribute__((noinline, noipa))
#define ENDS_AT_GUARD(p, n) (((uintptr_t)(p) + (n)) % 65536 == 0)
#define NOT_THE_LAST_CALL __asm__ volatile("")

static tally_tag tag;

STEP static char* make_block(size_t n) {
  char* p = tally_malloc(tag, n);
  NOT_THE_LAST_CALL;
  return p;
}

STEP static void give_block(void* p) {
  free(p);
  NOT_THE_LAST_CALL;
}

/* One that ends at its guard, or one that starts at another. */
static char* block(size_t n, int at_end) {
  char* p;
  do {
    p = make_block(n);
  } while (ENDS_AT_GUARD(p, (n + 15) / 16 * 16) != at_end);
  memset(p, 1, n);
  return p;
}

static void expect(const char* what, char* at, const char* where, char* p, size_t n) {
  dprintf(1, "tally: %s%p, %s block %p (tag /x, guarded block of %zu bytes)\n", what, (void*)at,
          where, (void*)p, n);
}
static void expect_threads(int here, int allocated, int freed) {
  dprintf(1, "threads %d %d %d\n", here, allocated, freed);
}

STEP static void bad_step(volatile char* p, int write) {
  if (write) {
    *p = 5;
  } else {
    (void)*p;
  }
  NOT_THE_LAST_CALL;
}

static void overflow_write(void) {
  char* p = block(64, 1);
  expect("overflow: write to ", p + 64, "1 byte past the end of", p, 64);
  expect_threads(gettid(), gettid(), 0);
  bad_step(p + 64, 1);
}

static void overflow_read(void) {
  char* p = block(8190, 1);
  expect("overflow: read of ", p + 8192, "3 bytes past the end of", p, 8190);
  expect_threads(gettid(), gettid(), 0);
  bad_step(p + 8192, 0);
}

static void underflow(void) {
  char* p = block(100, 0);
  expect("underflow: read of ", p - 1, "1 byte before", p, 100);
  expect_threads(gettid(), gettid(), 0);
  bad_step(p - 1, 0);
}

static void use_after_free(void) {
  char* p = block(20000, 1);
  give_block(p);
  expect("use after free: write to ", p + 19999, "19999 bytes into", p, 20000);
  expect_threads(gettid(), gettid(), gettid());
  bad_step(p + 19999, 1);
}

static void* make_on_thread(void* p) {
  *(char**)p = block(48, 1);
  return (void*)(intptr_t)gettid();
}
static void* free_on_thread(void* p) {
  give_block(p);
  return (void*)(intptr_t)gettid();
}
static void other_threads(void) {
  pthread_t thread;
  void *made, *freed;
  char* p;
  CHECK(pthread_create(&thread, NULL, make_on_thread, &p) == 0);
  CHECK(pthread_join(thread, &made) == 0);
  CHECK(pthread_create(&thread, NULL, free_on_thread, p) == 0);
  CHECK(pthread_join(thread, &freed) == 0);
  expect("use after free: read of ", p + 1, "1 byte into", p, 48);
  expect_threads(gettid(), (int)(intptr_t)made, (int)(intptr_t)freed);
  bad_step(p + 1, 0);
}

static void double_free(void) {
  char* p = block(64, 1);
  give_block(p);
  dprintf(1, "tally: double free of %p (tag /x, guarded block of 64 bytes)\n", (void*)p);
  expect_threads(gettid(), gettid(), gettid());
  give_block(opaque_pointer(p));
}

static void interior_free(void) {
  char* p = block(64, 1);
  dprintf(1,
          "tally: free of %p, inside a block that starts at %p (tag /x, guarded block of 64 "
          "bytes)\n",
          (void*)(p + 16), (void*)p);
  expect_threads(gettid(), gettid(), 0);
  give_block(p + 16);
}

static void realloc_freed(void) {
  char* p = block(64, 1);
  give_block(p);
  dprintf(1, "tally: realloc of %p, which was freed (tag /x, guarded block of 64 bytes)\n",
          (void*)p);
  expect_threads(gettid(), gettid(), gettid());
  CHECK(realloc(opaque_pointer(p), 100) == NULL);
}

static void damage(void) {
  char* p = block(13, 1);
  dprintf(1,
          "tally: overflow: %p was written to, 1 byte past the end of block %p (tag /x, guarded "
          "block of 13 bytes), as is seen at its free\n",
          (void*)(p + 13), (void*)p);
  expect_threads(gettid(), gettid(), 0);
  bad_step(p + 13, 1);
  give_block(p);
}

static void small_stack(void) {
  static char stack[8192];
  stack_t alternate = {.ss_sp = stack, .ss_size = sizeof stack};
  CHECK(sigaltstack(&alternate, NULL) == 0);
  overflow_write();
}

static void in_child(void) {
  char* p = block(64, 1);
  expect("overflow: write to ", p + 64, "1 byte past the end of", p, 64);
  int parent = gettid();
  pid_t child = fork();
  CHECK(child >= 0);
  if (child != 0) {
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    if (WIFSIGNALED(status)) {
      signal(WTERMSIG(status), SIG_DFL);
      raise(WTERMSIG(status));
    }
    CHECK(status == 0);
    return;
  }
  expect_threads(gettid(), parent, 0);
  bad_step(p + 64, 1);
  _exit(0);
}

/* ---- What is not Tally's business, or not alone. */

static struct sigaction before;

static void own_handler(int number, siginfo_t* info, void* context) {
  (void)number, (void)info, (void)context;
  dprintf(1, "handled\n");
  _exit(7);
}
static void passing_handler(int number, siginfo_t* info, void* context) {
  before.sa_sigaction(number, info, context);
}
static void handle_by(void (*handler)(int, siginfo_t*, void*)) {
  struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
  CHECK(sigaction(SIGSEGV, &action, &before) == 0);
}

static void handler_of_its_own(void) {
  char* p = block(64, 1);
  handle_by(own_handler);
  bad_step(p + 64, 1);
}

static void handler_that_passes_on(void) {
  CHECK(before.sa_sigaction == NULL);
  handle_by(passing_handler);
  CHECK((before.sa_flags & SA_SIGINFO) != 0);
  overflow_write();
}

static void resetting_handler(int number, siginfo_t* info, void* context) {
  signal(number, SIG_DFL);
  before.sa_sigaction(number, info, context);
}
static void handler_that_resets_and_passes_on(void) {
  handle_by(resetting_handler);
  overflow_write();
}

/* By signal(), which knows nothing of SA_SIGINFO. */
static void put_back(void) {
  void (*handler)(int) = signal(SIGSEGV, SIG_IGN);
  CHECK(handler != SIG_DFL && handler != SIG_IGN && handler != SIG_ERR);
  CHECK(signal(SIGSEGV, handler) == SIG_IGN);
}
static void handler_put_back(void) {
  put_back();
  overflow_write();
}
static void sent_to_handler_put_back(void) {
  put_back();
  raise(SIGSEGV);
}
static void null_pointer_put_back(void) {
  put_back();
  bad_step(NULL, 0);
}

static sigjmp_buf back;
static void jumping_handler(int number) {
  (void)number;
  siglongjmp(back, 1);
}
static void sent_after_a_fault(void) {
  void (*handler)(int) = signal(SIGSEGV, jumping_handler);
  if (sigsetjmp(back, 1) == 0) bad_step(NULL, 0);
  signal(SIGSEGV, handler);
  raise(SIGSEGV);
}

static void (*before_by_number)(int);
static void passing_by_number(int number) { before_by_number(number); }
static void handler_that_passes_by_number(void) {
  char* p = block(64, 1);
  before_by_number = signal(SIGSEGV, passing_by_number);
  bad_step(p + 64, 1);
}

static void null_pointer(void) { bad_step(NULL, 0); }

static void sent_signal(void) { raise(SIGSEGV); }

int main(int argc, char** argv) {
  static const struct {
    const char* name;
    void (*run)(void);
  } kCases[] = {{"overflow_write", overflow_write},
                {"overflow_read", overflow_read},
                {"underflow", underflow},
                {"use_after_free", use_after_free},
                {"other_threads", other_threads},
                {"double_free", double_free},
                {"interior_free", interior_free},
                {"realloc_freed", realloc_freed},
                {"damage", damage},
                {"small_stack", small_stack},
                {"in_child", in_child},
                {"handler_of_its_own", handler_of_its_own},
                {"handler_that_passes_on", handler_that_passes_on},
                {"handler_that_resets_and_passes_on", handler_that_resets_and_passes_on},
                {"handler_put_back", handler_put_back},
                {"sent_to_handler_put_back", sent_to_handler_put_back},
                {"null_pointer_put_back", null_pointer_put_back},
                {"sent_after_a_fault", sent_after_a_fault},
                {"handler_that_passes_by_number", handler_that_passes_by_number},
                {"null_pointer", null_pointer},
                {"sent_signal", sent_signal}};
  tag = misuse_tag();
  for (size_t i = 0; i < sizeof kCases / sizeof *kCases; i++) {
    if (argc == 2 && strcmp(argv[1], kCases[i].name) == 0) kCases[i].run();
  }
  finish(tag);
  return 0;
}
