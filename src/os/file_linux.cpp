// file.h for Linux.
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "base/math.h"
#include "os/file.h"
#include "os/system_call.h"

namespace tally::core::os {
namespace {

int as_int(long result) { return static_cast<int>(result); }

// One call of `call` after another, until all is done, there is no more, or it fails.
template <class Call>
long repeat(size_t bytes, Call call) {
  size_t done = 0;
  while (done < bytes) {
    long now = call(done);
    if (now == -EINTR) continue;
    if (failed(now)) return now;
    if (now == 0) break;
    done += static_cast<size_t>(now);
  }
  return static_cast<long>(done);
}

}  // namespace

int make_folder(const char* path) {
  long result = system_call(__NR_mkdirat, AT_FDCWD, as_long(path), 0700);
  return result == -EEXIST ? 0 : as_int(result);
}

int open_folder(const char* path) {
  return as_int(system_call(__NR_openat, AT_FDCWD, as_long(path),
                            O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
}

int list_folder(int folder, void (*entry)(void* arg, const char* name), void* arg) {
  struct Entry {
    uint64_t inode;
    int64_t next;
    uint16_t bytes;
    uint8_t type;
    char name[1];
  };
  alignas(Entry) char entries[1024];  // the stack may be small
  for (;;) {
    long length = system_call(__NR_getdents64, folder, as_long(entries), sizeof entries);
    if (failed(length) || length == 0) return as_int(length);
    for (long at = 0; at < length;) {
      const auto* one = reinterpret_cast<const Entry*>(entries + at);
      entry(arg, reinterpret_cast<const char*>(one) + offsetof(Entry, name));
      at += one->bytes;
    }
  }
}

int create_file(int folder, const char* name) {
  return as_int(system_call(__NR_openat, folder, as_long(name),
                            O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
}

int open_file(int folder, const char* name) {
  return as_int(system_call(__NR_openat, folder, as_long(name),
                            O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
}

int remove_file(int folder, const char* name) {
  return as_int(system_call(__NR_unlinkat, folder, as_long(name), 0));
}

int set_length(int fd, uint64_t bytes) {
  NoSignal no_signal(SIGXFSZ);
  long result = system_call(__NR_ftruncate, fd, static_cast<long>(bytes));
  if (result == -EFBIG) no_signal.consume();
  return as_int(result);
}

int lock_file(int fd) { return as_int(system_call(__NR_flock, fd, LOCK_EX | LOCK_NB)); }

int write_at(int fd, const void* from, size_t bytes, uint64_t offset) {
  NoSignal no_signal(SIGXFSZ);
  long done = repeat(bytes, [&](size_t at) {
    return system_call(__NR_pwrite64, fd, as_long(static_cast<const char*>(from) + at),
                       static_cast<long>(bytes - at), static_cast<long>(offset + at));
  });
  if (done == -EFBIG) no_signal.consume();
  if (failed(done)) return as_int(done);
  return static_cast<size_t>(done) == bytes ? 0 : -EIO;
}

size_t read_at(int fd, void* to, size_t bytes, uint64_t offset) {
  long done = repeat(bytes, [&](size_t at) {
    return system_call(__NR_pread64, fd, as_long(static_cast<char*>(to) + at),
                       static_cast<long>(bytes - at), static_cast<long>(offset + at));
  });
  return failed(done) ? 0 : static_cast<size_t>(done);
}

FileFacts file_facts(int fd) {
  struct stat found;
  if (failed(system_call(__NR_newfstatat, fd, as_long(""), as_long(&found), AT_EMPTY_PATH))) {
    return {};
  }
  return {.is_folder = S_ISDIR(found.st_mode),
          .owner = found.st_uid,
          .mode = found.st_mode & 07777,
          .changed = static_cast<uint64_t>(found.st_mtim.tv_sec) * 1000000000 +
                     static_cast<uint64_t>(found.st_mtim.tv_nsec)};
}

size_t read_link(const char* path, char* to, size_t capacity) {
  long length = system_call(__NR_readlinkat, AT_FDCWD, as_long(path), as_long(to),
                            static_cast<long>(capacity));
  return failed(length) ? 0 : static_cast<size_t>(length);
}

size_t read_whole(const char* path, char* to, size_t capacity) {
  long fd = system_call(__NR_openat, AT_FDCWD, as_long(path), O_RDONLY | O_CLOEXEC);
  if (failed(fd)) return 0;
  long length = repeat(capacity, [&](size_t at) {
    return system_call(__NR_read, fd, as_long(to + at), static_cast<long>(capacity - at));
  });
  system_call(__NR_close, fd);
  return failed(length) ? 0 : static_cast<size_t>(length);
}

namespace {

constinit const char* g_thread_name = nullptr;
using Run = void (*)();
constinit Run g_thread_run = nullptr;

void* begin_thread(void* /*unused*/) {
  constexpr int kLeast = 19;
  system_call(__NR_prctl, PR_SET_NAME, as_long(g_thread_name));
  // What is polite, and no more: filters kill for it (systemd's @resources).
  if (!is_filtered()) {
    // With folders of its own it does not keep the program from entering other namespaces.
    system_call(__NR_unshare, CLONE_FS);
    // A real-time policy would be inherited, and know no such priority.
    const sched_param none = {};
    system_call(__NR_sched_setscheduler, 0, SCHED_OTHER, as_long(&none));
    system_call(__NR_setpriority, PRIO_PROCESS, 0, kLeast);  // of Linux's threads, the running one
  }
  g_thread_run();
  return nullptr;
}

int create_thread(pthread_attr_t* attributes) {
  pthread_t thread;
  return pthread_create(&thread, attributes, begin_thread, nullptr);
}

}  // namespace

int start_thread(void (*run)(), const char* name, size_t stack) {
  g_thread_run = run;
  g_thread_name = name;
  const int error = errno;
  pthread_attr_t attributes;
  if (int failure = pthread_attr_init(&attributes)) return failure;
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  // It inherits the mask. libc's own two signals must reach every thread: setuid waits for that.
  // And a filter of system calls may answer by SIGSYS, whose handler then goes on.
  constexpr uint64_t kAll = ~(uint64_t{3} << 31 | uint64_t{1} << (SIGSYS - 1));
  uint64_t mask = 0;
  system_call(__NR_rt_sigprocmask, SIG_BLOCK, as_long(&kAll), as_long(&mask), sizeof mask);
  int failure = EINVAL;
  for (size_t bytes = stack; failure == EINVAL && bytes <= stack * 64; bytes *= 4) {
    pthread_attr_setstacksize(&attributes, bytes);
    failure = create_thread(&attributes);
  }
  system_call(__NR_rt_sigprocmask, SIG_SETMASK, as_long(&mask), 0, sizeof mask);
  pthread_attr_destroy(&attributes);
  errno = error;
  return failure;
}

bool is_last_thread() {
  // A folder has as many links as folders in it, and two. A main thread that has ended is still
  // there, but without a program. No file is opened: its number would be in the program's way.
  // Where none of it can be seen (no /proc), nobody is to wait for this thread either.
  struct stat tasks;
  if (failed(
          system_call(__NR_newfstatat, AT_FDCWD, as_long("/proc/self/task"), as_long(&tasks), 0))) {
    return true;
  }
  char path[8];
  return tasks.st_nlink <= 4 &&
         failed(system_call(__NR_readlinkat, AT_FDCWD, as_long("/proc/self/exe"), as_long(path),
                            sizeof path));
}

}  // namespace tally::core::os
