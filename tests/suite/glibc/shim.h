// What glibc's tests expect of their support/ folder, written anew for tests outside glibc's tree:
// each header of that folder is this one (tests/suite/glibc.py). Only what the tests that run here
// use.
#pragma once

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

// Shared with the test's children, as their failures count. Set by a constructor.
static volatile int* support_failures __attribute__((unused));
__attribute__((constructor)) static void support_share_failures(void) {
  support_failures = (volatile int*)mmap(NULL, sizeof(int), PROT_READ | PROT_WRITE,
                                         MAP_SHARED | MAP_ANONYMOUS, -1, 0);
}

#define SUPPORT_MAYBE_UNUSED static __attribute__((unused))

SUPPORT_MAYBE_UNUSED void support_record_failure(void) {
  __atomic_fetch_add(support_failures, 1, __ATOMIC_RELAXED);
}

// ---- support/check.h ----

__attribute__((format(printf, 3, 4))) SUPPORT_MAYBE_UNUSED int support_print_failure(
    const char* file, int line, const char* format, ...) {
  support_record_failure();
  va_list arguments;
  va_start(arguments, format);
  printf("%s:%d: ", file, line);
  vprintf(format, arguments);
  printf("\n");
  va_end(arguments);
  return 1;
}

#define FAIL(...) support_print_failure(__FILE__, __LINE__, __VA_ARGS__)
#define FAIL_RET(...) return FAIL(__VA_ARGS__)
#define FAIL_EXIT(status, ...) (FAIL(__VA_ARGS__), exit(status))
#define FAIL_EXIT1(...) FAIL_EXIT(1, __VA_ARGS__)
#define FAIL_UNSUPPORTED(...) (printf(__VA_ARGS__), printf("\n"), exit(EXIT_UNSUPPORTED))
#define TEST_VERIFY(expr) ((expr) ? (void)0 : (void)FAIL("not true: %s", #expr))
#define TEST_VERIFY_EXIT(expr) ((expr) ? (void)0 : FAIL_EXIT1("not true: %s", #expr))
#define TEST_COMPARE(left, right)                                                      \
  ({                                                                                   \
    __typeof__(+(left)) left_ = (left);                                                \
    __typeof__(+(right)) right_ = (right);                                             \
    if (left_ != right_ || (left_ > 0) != (right_ > 0))                                \
      FAIL("%s is %lld, %s %lld", #left, (long long)left_, #right, (long long)right_); \
  })
#define TEST_COMPARE_BLOB(left, left_length, right, right_length) \
  TEST_VERIFY((size_t)(left_length) == (size_t)(right_length) &&  \
              memcmp(left, right, left_length) == 0)
#define TEST_COMPARE_STRING(left, right) TEST_VERIFY(strcmp(left, right) == 0)
#define support_static_assert _Static_assert

// ---- libc-diag.h, array_length.h, libc-pointer-arith.h, malloc-size.h and the like ----

#define DIAG_PUSH_NEEDS_COMMENT _Pragma("GCC diagnostic push")
#define DIAG_POP_NEEDS_COMMENT _Pragma("GCC diagnostic pop")
#define DIAG_IGNORE_NEEDS_COMMENT(version, option) _Pragma("GCC diagnostic ignored \"-Wpragmas\"")
#define DIAG_IGNORE_Os_NEEDS_COMMENT(version, option) DIAG_IGNORE_NEEDS_COMMENT(version, option)
#define ignore_value(x) ((void)!(x))
#define array_length(array) (sizeof(array) / sizeof((array)[0]))
#define array_end(array) (&(array)[array_length(array)])
#define ALIGN_UP(base, size) (((base) + (size)-1) / (size) * (size))
#define MALLOC_ALIGNMENT _Alignof(max_align_t)
#define MALLOC_ALIGN_MASK (MALLOC_ALIGNMENT - 1)
#define TIMESPEC_HZ 1000000000

// ---- support/test-driver.h ----

enum { EXIT_UNSUPPORTED = 77, DEFAULT_TIMEOUT = 20, OPT_DIRECT = 1000, OPT_TESTDIR };
SUPPORT_MAYBE_UNUSED const char* test_dir = "/tmp";
SUPPORT_MAYBE_UNUSED unsigned int test_verbose;
#define verbose_printf(...) (test_verbose ? (void)printf(__VA_ARGS__) : (void)0)

// ---- support/support.h, support/x*.h: calls that end the test if they fail ----

// By an error that is returned, that is -1, that is NULL.
#define SUPPORT_ZERO(call)                                          \
  ({                                                                \
    int error_ = (call);                                            \
    if (error_ != 0) FAIL_EXIT1("%s: %s", #call, strerror(error_)); \
  })
#define SUPPORT_NOT_MINUS(call)                                       \
  ({                                                                  \
    __typeof__(call) result_ = (call);                                \
    if (result_ == (__typeof__(call))-1) FAIL_EXIT1("%s: %m", #call); \
    result_;                                                          \
  })
#define SUPPORT_NOT_NULL(call)                        \
  ({                                                  \
    __typeof__(call) result_ = (call);                \
    if (result_ == NULL) FAIL_EXIT1("%s: %m", #call); \
    result_;                                          \
  })

#define xmalloc(size) SUPPORT_NOT_NULL(malloc(size))
#define xcalloc(count, size) SUPPORT_NOT_NULL(calloc(count, size))
#define xrealloc(block, size) SUPPORT_NOT_NULL(realloc(block, size))
#define xstrdup(text) SUPPORT_NOT_NULL(strdup(text))
#define xposix_memalign(alignment, size)                    \
  ({                                                        \
    void* block_;                                           \
    SUPPORT_ZERO(posix_memalign(&block_, alignment, size)); \
    block_;                                                 \
  })
#define xasprintf(...)                                \
  ({                                                  \
    char* text_;                                      \
    SUPPORT_NOT_MINUS(asprintf(&text_, __VA_ARGS__)); \
    text_;                                            \
  })
#define xsetenv(name, value, over) SUPPORT_NOT_MINUS(setenv(name, value, over))
#define xclose(fd) SUPPORT_NOT_MINUS(close(fd))
#define xdup(fd) SUPPORT_NOT_MINUS(dup(fd))
#define xdup2(from, to) SUPPORT_NOT_MINUS(dup2(from, to))
#define xfork() SUPPORT_NOT_MINUS(fork())
#define xftruncate(fd, size) SUPPORT_NOT_MINUS(ftruncate(fd, size))
#define xlseek(fd, offset, whence) SUPPORT_NOT_MINUS(lseek64(fd, offset, whence))
#define xmkdir(path, mode) SUPPORT_NOT_MINUS(mkdir(path, mode))
#define xmkfifo(path, mode) SUPPORT_NOT_MINUS(mkfifo(path, mode))
#define xmmap(address, length, protection, flags, fd) \
  SUPPORT_NOT_MINUS(mmap(address, length, protection, flags, fd, 0))
#define xmprotect(address, length, protection) \
  SUPPORT_NOT_MINUS(mprotect(address, length, protection))
#define xmunmap(address, length) SUPPORT_NOT_MINUS(munmap(address, length))
#define xopen(path, flags, mode) SUPPORT_NOT_MINUS(open64(path, flags, mode))
#define xpipe(fds) SUPPORT_NOT_MINUS(pipe(fds))
#define xread(fd, buffer, length) SUPPORT_NOT_MINUS(read(fd, buffer, length))
#define xwrite(fd, buffer, length) SUPPORT_NOT_MINUS(write(fd, buffer, length))
#define xsysconf(name) SUPPORT_NOT_MINUS(sysconf(name))
#define xunlink(path) SUPPORT_NOT_MINUS(unlink(path))
#define xwaitpid(pid, status, flags) SUPPORT_NOT_MINUS(waitpid(pid, status, flags))
#define xchroot(path) SUPPORT_NOT_MINUS(chroot(path))
#define xfopen(path, mode) SUPPORT_NOT_NULL(fopen(path, mode))
#define xfclose(file) SUPPORT_NOT_MINUS(fclose(file))
#define xdlopen(path, flags) SUPPORT_NOT_NULL(dlopen(path, flags))
#define xdlmopen(space, path, flags) SUPPORT_NOT_NULL(dlmopen(space, path, flags))
#define xdlsym(handle, name) SUPPORT_NOT_NULL(dlsym(handle, name))
#define xdlclose(handle) SUPPORT_NOT_MINUS(dlclose(handle))
#define xsignal(number, handler) SUPPORT_NOT_MINUS(signal(number, handler))
#define xsigaction(number, action, old) SUPPORT_NOT_MINUS(sigaction(number, action, old))
#define xraise(number) SUPPORT_NOT_MINUS(raise(number))
#define xkill(pid, number) SUPPORT_NOT_MINUS(kill(pid, number))
#define xclock_gettime(clock, time) SUPPORT_NOT_MINUS(clock_gettime(clock, time))
#define xsystem(command) SUPPORT_NOT_MINUS(system(command))
#define xpthread_sigmask(how, set, old) SUPPORT_ZERO(pthread_sigmask(how, set, old))

#define xclock_now(clock)         \
  ({                              \
    struct timespec now_;         \
    xclock_gettime(clock, &now_); \
    now_;                         \
  })
#define make_timespec(seconds, nanoseconds) \
  ((struct timespec){.tv_sec = (seconds), .tv_nsec = (nanoseconds)})
SUPPORT_MAYBE_UNUSED struct timespec timespec_add(struct timespec a, struct timespec b) {
  struct timespec sum = {.tv_sec = a.tv_sec + b.tv_sec, .tv_nsec = a.tv_nsec + b.tv_nsec};
  if (sum.tv_nsec >= 1000000000) {
    sum.tv_sec++;
    sum.tv_nsec -= 1000000000;
  }
  return sum;
}
SUPPORT_MAYBE_UNUSED bool support_is_before(struct timespec a, struct timespec b) {
  return a.tv_sec < b.tv_sec || (a.tv_sec == b.tv_sec && a.tv_nsec < b.tv_nsec);
}
#define TEST_TIMESPEC_BEFORE(left, right) TEST_VERIFY(support_is_before(left, right))
#define TEST_TIMESPEC_EQUAL_OR_AFTER(left, right) TEST_VERIFY(!support_is_before(left, right))
#define TEST_TIMESPEC_BEFORE_NOW(time, clock) TEST_TIMESPEC_BEFORE(time, xclock_now(clock))
#define TEST_TIMESPEC_NOW_OR_AFTER(clock, time) \
  TEST_VERIFY(!support_is_before(xclock_now(clock), time))

#define xpthread_attr_init(...) SUPPORT_ZERO(pthread_attr_init(__VA_ARGS__))
#define xpthread_attr_destroy(...) SUPPORT_ZERO(pthread_attr_destroy(__VA_ARGS__))
#define xpthread_attr_setaffinity_np(...) SUPPORT_ZERO(pthread_attr_setaffinity_np(__VA_ARGS__))
#define xpthread_attr_setdetachstate(...) SUPPORT_ZERO(pthread_attr_setdetachstate(__VA_ARGS__))
#define xpthread_attr_setguardsize(...) SUPPORT_ZERO(pthread_attr_setguardsize(__VA_ARGS__))
#define xpthread_attr_setstack(...) SUPPORT_ZERO(pthread_attr_setstack(__VA_ARGS__))
#define xpthread_attr_setstacksize(...) SUPPORT_ZERO(pthread_attr_setstacksize(__VA_ARGS__))
#define xpthread_barrier_init(...) SUPPORT_ZERO(pthread_barrier_init(__VA_ARGS__))
#define xpthread_barrier_destroy(...) SUPPORT_ZERO(pthread_barrier_destroy(__VA_ARGS__))
#define xpthread_barrierattr_init(...) SUPPORT_ZERO(pthread_barrierattr_init(__VA_ARGS__))
#define xpthread_barrierattr_destroy(...) SUPPORT_ZERO(pthread_barrierattr_destroy(__VA_ARGS__))
#define xpthread_barrierattr_setpshared(...) \
  SUPPORT_ZERO(pthread_barrierattr_setpshared(__VA_ARGS__))
#define xpthread_cancel(...) SUPPORT_ZERO(pthread_cancel(__VA_ARGS__))
#define xpthread_cond_signal(...) SUPPORT_ZERO(pthread_cond_signal(__VA_ARGS__))
#define xpthread_cond_wait(...) SUPPORT_ZERO(pthread_cond_wait(__VA_ARGS__))
#define xpthread_detach(...) SUPPORT_ZERO(pthread_detach(__VA_ARGS__))
#define xpthread_key_delete(...) SUPPORT_ZERO(pthread_key_delete(__VA_ARGS__))
#define xpthread_kill(...) SUPPORT_ZERO(pthread_kill(__VA_ARGS__))
#define xpthread_mutex_consistent(...) SUPPORT_ZERO(pthread_mutex_consistent(__VA_ARGS__))
#define xpthread_mutex_destroy(...) SUPPORT_ZERO(pthread_mutex_destroy(__VA_ARGS__))
#define xpthread_mutex_init(...) SUPPORT_ZERO(pthread_mutex_init(__VA_ARGS__))
#define xpthread_mutex_lock(...) SUPPORT_ZERO(pthread_mutex_lock(__VA_ARGS__))
#define xpthread_mutex_unlock(...) SUPPORT_ZERO(pthread_mutex_unlock(__VA_ARGS__))
#define xpthread_mutexattr_destroy(...) SUPPORT_ZERO(pthread_mutexattr_destroy(__VA_ARGS__))
#define xpthread_mutexattr_init(...) SUPPORT_ZERO(pthread_mutexattr_init(__VA_ARGS__))
#define xpthread_mutexattr_setprotocol(...) SUPPORT_ZERO(pthread_mutexattr_setprotocol(__VA_ARGS__))
#define xpthread_mutexattr_setpshared(...) SUPPORT_ZERO(pthread_mutexattr_setpshared(__VA_ARGS__))
#define xpthread_mutexattr_setrobust(...) SUPPORT_ZERO(pthread_mutexattr_setrobust(__VA_ARGS__))
#define xpthread_mutexattr_settype(...) SUPPORT_ZERO(pthread_mutexattr_settype(__VA_ARGS__))
#define xpthread_once(...) SUPPORT_ZERO(pthread_once(__VA_ARGS__))
#define xpthread_rwlock_destroy(...) SUPPORT_ZERO(pthread_rwlock_destroy(__VA_ARGS__))
#define xpthread_rwlock_init(...) SUPPORT_ZERO(pthread_rwlock_init(__VA_ARGS__))
#define xpthread_rwlock_rdlock(...) SUPPORT_ZERO(pthread_rwlock_rdlock(__VA_ARGS__))
#define xpthread_rwlock_unlock(...) SUPPORT_ZERO(pthread_rwlock_unlock(__VA_ARGS__))
#define xpthread_rwlock_wrlock(...) SUPPORT_ZERO(pthread_rwlock_wrlock(__VA_ARGS__))
#define xpthread_rwlockattr_init(...) SUPPORT_ZERO(pthread_rwlockattr_init(__VA_ARGS__))
#define xpthread_rwlockattr_setkind_np(...) SUPPORT_ZERO(pthread_rwlockattr_setkind_np(__VA_ARGS__))
#define xpthread_spin_lock(...) SUPPORT_ZERO(pthread_spin_lock(__VA_ARGS__))
#define xpthread_spin_unlock(...) SUPPORT_ZERO(pthread_spin_unlock(__VA_ARGS__))

SUPPORT_MAYBE_UNUSED pthread_t xpthread_create(pthread_attr_t* attributes, void* (*function)(void*),
                                               void* argument) {
  pthread_t thread;
  SUPPORT_ZERO(pthread_create(&thread, attributes, function, argument));
  return thread;
}
SUPPORT_MAYBE_UNUSED void* xpthread_join(pthread_t thread) {
  void* result;
  SUPPORT_ZERO(pthread_join(thread, &result));
  return result;
}
SUPPORT_MAYBE_UNUSED int xpthread_barrier_wait(pthread_barrier_t* barrier) {
  int result = pthread_barrier_wait(barrier);
  if (result != 0 && result != PTHREAD_BARRIER_SERIAL_THREAD)
    FAIL_EXIT1("pthread_barrier_wait: %s", strerror(result));
  return result == PTHREAD_BARRIER_SERIAL_THREAD;
}
SUPPORT_MAYBE_UNUSED pthread_key_t xpthread_key_create(void (*destructor)(void*)) {
  pthread_key_t key;
  SUPPORT_ZERO(pthread_key_create(&key, destructor));
  return key;
}
SUPPORT_MAYBE_UNUSED size_t support_small_thread_stack_size(void) {
  size_t least = (size_t)sysconf(_SC_THREAD_STACK_MIN) + 16384;
  return least < 65536 ? 65536 : least;
}
SUPPORT_MAYBE_UNUSED void support_set_small_thread_stack_size(pthread_attr_t* attributes) {
  xpthread_attr_setstacksize(attributes, support_small_thread_stack_size());
}
SUPPORT_MAYBE_UNUSED pthread_attr_t* support_small_stack_thread_attribute(void) {
  static pthread_attr_t attributes;
  xpthread_attr_init(&attributes);
  support_set_small_thread_stack_size(&attributes);
  return &attributes;
}
SUPPORT_MAYBE_UNUSED void* support_sleep_and_exit(void* seconds) {
  sleep((unsigned)(uintptr_t)seconds);
  exit(0);
}
SUPPORT_MAYBE_UNUSED void delayed_exit(int seconds) {
  xpthread_detach(xpthread_create(NULL, support_sleep_and_exit, (void*)(uintptr_t)seconds));
}

SUPPORT_MAYBE_UNUSED void write_message(const char* text) {
  ignore_value(write(STDOUT_FILENO, text, strlen(text)));
}
SUPPORT_MAYBE_UNUSED void ignore_stderr(void) {
  xdup2(xopen("/dev/null", O_WRONLY, 0), STDERR_FILENO);
}
SUPPORT_MAYBE_UNUSED void* support_shared_allocate(size_t size) {
  size_t* block =
      (size_t*)xmmap(NULL, size + 16, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1);
  *block = size + 16;
  return block + 2;
}
SUPPORT_MAYBE_UNUSED void support_shared_free(void* block) {
  munmap((size_t*)block - 2, ((size_t*)block)[-2]);
}
SUPPORT_MAYBE_UNUSED void support_isolate_in_subprocess(void (*call)(void*), void* argument) {
  pid_t child = xfork();
  if (child == 0) {
    call(argument);
    _exit(0);
  }
  int status;
  xwaitpid(child, &status, 0);
  if (status != 0) FAIL_EXIT1("the child ended with status %d", status);
}

// ---- support/temp_file.h ----

SUPPORT_MAYBE_UNUSED char* support_files[100];
SUPPORT_MAYBE_UNUSED size_t support_file_count;
SUPPORT_MAYBE_UNUSED pid_t support_files_of;
SUPPORT_MAYBE_UNUSED void support_delete_files(void) {
  if (getpid() != support_files_of) return;
  while (support_file_count) remove(support_files[--support_file_count]);
}
SUPPORT_MAYBE_UNUSED void add_temp_file(const char* name) {
  if (support_files_of != getpid()) {
    support_files_of = getpid();
    support_file_count = 0;
    atexit(support_delete_files);
  }
  if (support_file_count < array_length(support_files))
    support_files[support_file_count++] = xstrdup(name);
}
SUPPORT_MAYBE_UNUSED int create_temp_file_in_dir(const char* base, const char* folder,
                                                 char** name) {
  char* path = xasprintf("%s/%sXXXXXX", folder, base);
  int fd = mkstemp(path);
  if (fd < 0) return -1;
  add_temp_file(path);
  if (name) {
    *name = path;
  } else {
    free(path);
  }
  return fd;
}
SUPPORT_MAYBE_UNUSED int create_temp_file(const char* base, char** name) {
  return create_temp_file_in_dir(base, test_dir, name);
}
SUPPORT_MAYBE_UNUSED char* support_create_temp_directory(const char* base) {
  char* path = xasprintf("%s/%sXXXXXX", test_dir, base);
  SUPPORT_NOT_NULL(mkdtemp(path));
  add_temp_file(path);
  return path;
}

// ---- support/capture_subprocess.h ----

struct xmemstream {
  FILE* out;
  char* buffer;
  size_t length;
};
struct support_capture_subprocess {
  struct xmemstream out, err;
  int status;
};
enum support_capture_allow { sc_allow_none = 1, sc_allow_stdout = 2, sc_allow_stderr = 4 };

SUPPORT_MAYBE_UNUSED void support_slurp(int fd, struct xmemstream* into) {
  into->buffer = (char*)xcalloc(1, 1 << 20);
  xlseek(fd, 0, SEEK_SET);
  into->length = (size_t)xread(fd, into->buffer, (1 << 20) - 1);
  close(fd);
}
// Through files, so that nobody needs to read while the child writes.
SUPPORT_MAYBE_UNUSED struct support_capture_subprocess support_capture_subprocess(
    void (*call)(void*), void* argument) {
  struct support_capture_subprocess result = {.status = 0};
  int out = create_temp_file("out-", NULL), err = create_temp_file("err-", NULL);
  fflush(stdout);
  pid_t child = xfork();
  if (child == 0) {
    xdup2(out, STDOUT_FILENO);
    xdup2(err, STDERR_FILENO);
    call(argument);
    exit(0);
  }
  xwaitpid(child, &result.status, 0);
  support_slurp(out, &result.out);
  support_slurp(err, &result.err);
  return result;
}
SUPPORT_MAYBE_UNUSED void support_capture_subprocess_free(
    struct support_capture_subprocess* captured) {
  free(captured->out.buffer);
  free(captured->err.buffer);
}
// The status is an exit status, or a signal's number below zero.
SUPPORT_MAYBE_UNUSED void support_capture_subprocess_check(
    struct support_capture_subprocess* captured, const char* context, int status, int allowed) {
  int ended = captured->status;
  int found = WIFSIGNALED(ended) ? -WTERMSIG(ended) : WEXITSTATUS(ended);
  if (found != status) FAIL("%s: status %d, not %d", context, found, status);
  if (captured->out.length && !(allowed & sc_allow_stdout))
    FAIL("%s: stdout: %s", context, captured->out.buffer);
  if (captured->err.length && !(allowed & sc_allow_stderr))
    FAIL("%s: stderr: %s", context, captured->err.buffer);
}
