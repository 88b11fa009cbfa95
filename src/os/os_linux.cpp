// os.h for Linux. Memory, time and files go by raw system calls: other preload libraries
// interpose libc's wrappers and may allocate in them, and a raw call leaves errno alone.
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "base/math.h"
#include "base/options.h"
#include "base/text.h"
#include "os/lock.h"
#include "os/os.h"
#include "os/system_call.h"
#include "os/vdso.h"

namespace tally::core {
constinit thread_local uint8_t locks_held = 0;
}

namespace tally::core::os {
namespace {

constexpr int kReadWrite = PROT_READ | PROT_WRITE;
constexpr int kPrivate = MAP_PRIVATE | MAP_ANONYMOUS;

// <linux/futex.h>, which a C library need not bring: operations on words of one process.
constexpr int kFutexWait = 0 | 128, kFutexWake = 1 | 128;

void* map_anywhere(size_t bytes, int protection) {
  int flags = kPrivate | (protection == PROT_NONE ? MAP_NORESERVE : 0);
  if constexpr (kThreadSanitizer) {
    void* p = mmap(nullptr, bytes, protection, flags, -1, 0);
    return p == MAP_FAILED ? nullptr : p;
  }
  long result = system_call(__NR_mmap, 0, static_cast<long>(bytes), protection, flags, -1, 0);
  return failed(result) ? nullptr : reinterpret_cast<void*>(result);
}

void* map_with(size_t bytes, size_t alignment, int protection) {
  // The kernel places mappings side by side, so the plain request is most often aligned already.
  void* p = map_anywhere(bytes, protection);
  if (p == nullptr || (address(p) & (alignment - 1)) == 0) return p;
  unmap(p, bytes);
  if (bytes + alignment < bytes) return nullptr;
  char* wide = static_cast<char*>(map_anywhere(bytes + alignment, protection));
  if (wide == nullptr) return nullptr;
  size_t before = round_up(address(wide), alignment) - address(wide);
  if (before != 0) unmap(wide, before);
  unmap(wide + before + bytes, alignment - before);
  return wide + before;
}

long open_file(const char* path, int flags, int mode = 0) {
  return system_call(__NR_openat, AT_FDCWD, as_long(path), flags | O_CLOEXEC, mode);
}
void close_file(long fd) { system_call(__NR_close, fd); }

// No longer than it must be: what is a thread's is to be 64 bytes, in gcc's order and in clang's.
constinit thread_local int16_t t_last_error = 0;

bool fail(long result) {
  t_last_error = static_cast<int16_t>(-result);
  return false;
}

bool look_at(int folder, const char* path, int flags, struct stat* found) {
  return !failed(system_call(__NR_newfstatat, folder, as_long(path), as_long(found), flags));
}

// A link of somebody else's may lead us to a third one's file.
bool is_trusted_link(const struct stat& link) {
  return link.st_uid == 0 || link.st_uid == static_cast<uid_t>(system_call(__NR_geteuid));
}

// How to open what stands at `path` to write into it; 0 if it is to be replaced, as a regular file
// is, and a link that is not to be trusted.
TALLY_NOINLINE int flags_to_write_into(const char* path) {
  struct stat there;
  if (!look_at(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, &there) || S_ISREG(there.st_mode)) return 0;
  constexpr int kFlags = O_WRONLY | O_NOCTTY | O_NONBLOCK;  // a FIFO without a reader: an error
  if (!S_ISLNK(there.st_mode)) return kFlags | O_NOFOLLOW;
  if (!is_trusted_link(there)) return 0;
  // /dev/stderr and its like lead to what the program writes too.
  bool is_shared = strncmp(path, "/dev/", 5) == 0 || strncmp(path, "/proc/", 6) == 0;
  return kFlags | (is_shared ? O_APPEND : O_CREAT | O_TRUNC);
}

bool write_into(const char* path, int flags, bool (*write)(int fd, void* arg), void* arg) {
  long fd = open_file(path, flags, 0600);
  if (failed(fd)) return fail(fd);
  system_call(__NR_fcntl, fd, F_SETFL, flags & O_APPEND);  // from here on it may wait
  bool ok = write(static_cast<int>(fd), arg);
  close_file(fd);
  return ok;
}

}  // namespace

size_t page_size() {
  static std::atomic<size_t> known{0};
  size_t bytes = known.load(std::memory_order_relaxed);
  if (bytes == 0) {
    bytes = getauxval(AT_PAGESZ);
    if (bytes == 0) bytes = 4096;
    known.store(bytes, std::memory_order_relaxed);
  }
  return bytes;
}

void* map(size_t bytes, size_t alignment) { return map_with(bytes, alignment, kReadWrite); }

bool map_at(void* p, size_t bytes) {
  void* got;
  if constexpr (kThreadSanitizer) {
    got = mmap(p, bytes, kReadWrite, kPrivate | MAP_FIXED_NOREPLACE, -1, 0);
    if (got == MAP_FAILED) return false;
  } else {
    long result = system_call(__NR_mmap, as_long(p), static_cast<long>(bytes), kReadWrite,
                              kPrivate | MAP_FIXED_NOREPLACE, -1, 0);
    if (failed(result)) return false;
    got = reinterpret_cast<void*>(result);
  }
  if (got == p) return true;
  unmap(got, bytes);  // a kernel before 4.17 takes the address for a hint
  return false;
}

bool unmap(void* p, size_t bytes) {
  if constexpr (kThreadSanitizer) return munmap(p, bytes) == 0;
  return !failed(system_call(__NR_munmap, as_long(p), static_cast<long>(bytes)));
}

bool purge(void* p, size_t bytes) {
  return !failed(system_call(__NR_madvise, as_long(p), static_cast<long>(bytes), MADV_DONTNEED));
}

bool forbid(void* p, size_t bytes) {
  return !failed(system_call(__NR_mmap, as_long(p), static_cast<long>(bytes), PROT_NONE,
                             kPrivate | MAP_NORESERVE | MAP_FIXED, -1, 0));
}

bool protect(void* p, size_t bytes) {
  return !failed(system_call(__NR_mprotect, as_long(p), static_cast<long>(bytes), PROT_NONE));
}

namespace {

bool map_again(void* p, size_t bytes) {
  return !failed(system_call(__NR_mmap, as_long(p), static_cast<long>(bytes), kReadWrite,
                             kPrivate | MAP_FIXED, -1, 0));
}
bool permit(void* p, size_t bytes) {
  return !failed(system_call(__NR_mprotect, as_long(p), static_cast<long>(bytes), kReadWrite));
}

}  // namespace

// A sandbox may refuse mprotect, and let mmap forbid it before.
bool allow(void* p, size_t bytes) { return permit(p, bytes) || map_again(p, bytes); }

bool renew(void* p, size_t bytes) { return map_again(p, bytes) || permit(p, bytes); }

void prefer_huge_pages(void* p, size_t bytes, bool yes) {
  system_call(__NR_madvise, as_long(p), static_cast<long>(bytes),
              yes ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
}

void* remap(void* p, size_t bytes, size_t new_bytes, size_t alignment) {
  long result = system_call(__NR_mremap, as_long(p), static_cast<long>(bytes),
                            static_cast<long>(new_bytes), 0);
  if (!failed(result)) return p;
  // Two mappings side by side, of different pasts, are not resized as one.
  if (result == -EFAULT) return nullptr;
  void* target = map_with(new_bytes, alignment, PROT_NONE);
  if (target == nullptr) return nullptr;
  result =
      system_call(__NR_mremap, as_long(p), static_cast<long>(bytes), static_cast<long>(new_bytes),
                  MREMAP_MAYMOVE | MREMAP_FIXED, as_long(target));
  if (!failed(result)) return target;
  // The kernel may have unmapped the target before it failed, and another thread may have mapped
  // something there: the reservation is left, which costs addresses only.
  return nullptr;
}

bool read_memory(const void* from, void* to, size_t bytes) {
  iovec local = {to, bytes};
  iovec remote = {const_cast<void*>(from), bytes};
  return system_call(__NR_process_vm_readv, process_id(), as_long(&local), 1, as_long(&remote), 1,
                     0) == static_cast<long>(bytes);
}

bool is_readable(const void* p) {
  // The set of signals is copied before what to do with it is found to make no sense.
  constexpr long kNonsense = ~0;
  return system_call(__NR_rt_sigprocmask, kNonsense, as_long(p), 0, 8) == -EINVAL;
}

bool is_writable(void* p) { return system_call(__NR_rt_sigprocmask, 0, 0, as_long(p), 8) == 0; }

bool is_filtered() {
  constexpr long kFilter = 2;
  return system_call(__NR_prctl, PR_GET_SECCOMP) == kFilter;
}

// The last byte shows whether there was more.
long read_file(const char* path, char* text, size_t capacity) {
  long fd = open_file(path, O_RDONLY | O_NONBLOCK);
  if (failed(fd)) return fd;
  size_t used = 0;
  long got = 1;
  while ((got > 0 || got == -EINTR) && used < capacity) {
    got = system_call(__NR_read, fd, as_long(text + used), static_cast<long>(capacity - used));
    if (got > 0) used += static_cast<size_t>(got);
  }
  close_file(fd);
  text[min_of(used, capacity - 1)] = 0;
  if (failed(got)) return got;
  return used == capacity ? -EFBIG : static_cast<long>(used);
}

namespace {

// The least limit of a cgroup and those above it. `path` is changed.
uint64_t least_limit(const char* mount, const char* file, char* path, uint64_t least) {
  for (;;) {
    char name[kOptionPathMax], text[32];
    TextWriter out(name, sizeof name - 1);
    out.put(mount).put(path).put(file);
    name[out.used()] = 0;
    uint64_t limit = 0;
    if (out.used() == out.length() && read_file(name, text, sizeof text) > 0 && text[0] >= '0' &&
        text[0] <= '9') {
      for (const char* at = text; *at >= '0' && *at <= '9'; ++at) {
        limit = limit * 10 + static_cast<uint64_t>(*at - '0');
      }
      least = min_of(least, limit);
    }
    char* slash = strrchr(path, '/');
    if (slash == nullptr) return least;
    *slash = 0;
  }
}

}  // namespace

uint64_t memory_bytes(bool* of_cgroup) {
  struct sysinfo info = {};
  system_call(__NR_sysinfo, as_long(&info));
  const uint64_t machine = uint64_t{info.totalram} * info.mem_unit;
  uint64_t least = machine;
  char groups[4096];
  long length = read_file("/proc/self/cgroup", groups, sizeof groups);
  if (length < 0 && length != -EFBIG) groups[0] = 0;
  // Lines are "0::/path", or of version 1 "7:memory:/path".
  for (char* line = groups; *line != 0;) {
    char* end = line + strcspn(line, "\n");
    bool is_last = *end == 0;
    *end = 0;
    if (char* path = strchr(line, '/')) {
      if (strncmp(line, "0::", 3) == 0) {
        least = least_limit("/sys/fs/cgroup", "/memory.max", path, least);
      } else if (strstr(line, ":memory:") != nullptr) {
        least = least_limit("/sys/fs/cgroup/memory", "/memory.limit_in_bytes", path, least);
      }
    }
    line = is_last ? end : end + 1;
  }
  *of_cgroup = least < machine;
  return least;
}

int64_t process_id() { return system_call(__NR_getpid); }
uint32_t thread_id() { return static_cast<uint32_t>(system_call(__NR_gettid)); }
uint32_t user_id() { return static_cast<uint32_t>(system_call(__NR_geteuid)); }

uint64_t now_ns(Clock clock) {
  timespec now = {};
  int id = clock == Clock::kWall     ? CLOCK_REALTIME
           : clock == Clock::kUptime ? CLOCK_MONOTONIC
                                     : CLOCK_THREAD_CPUTIME_ID;
  system_call(__NR_clock_gettime, id, as_long(&now));
  return static_cast<uint64_t>(now.tv_sec) * 1000000000 + static_cast<uint64_t>(now.tv_nsec);
}

uint64_t now_ms() {
  // Of all clocks the one that the vDSO tells without a look at the processor's counter, which a
  // program may have forbidden itself (PR_SET_TSC), and without a system call, which costs more
  // than many a caller's work, and a program in strict seccomp mode its life.
  timespec now = {};
  const ClockReader read = clock_reader();
  if (read == nullptr || read(CLOCK_MONOTONIC_COARSE, &now) != 0) {
    system_call(__NR_clock_gettime, CLOCK_MONOTONIC_COARSE, as_long(&now));
  }
  return static_cast<uint64_t>(now.tv_sec) * 1000 + static_cast<uint64_t>(now.tv_nsec) / 1000000;
}

void program_path(char* path, size_t capacity) {
  const long length = system_call(__NR_readlinkat, AT_FDCWD, as_long("/proc/self/exe"),
                                  as_long(path), static_cast<long>(capacity - 1));
  path[failed(length) ? 0 : length] = 0;
  constexpr size_t kGone = sizeof " (deleted)" - 1;
  char* gone = path + strlen(path) - min_of(kGone, strlen(path));
  if (strcmp(gone, " (deleted)") == 0) *gone = 0;
}

void program_name(char* name, size_t capacity) {
  // As it was started, which may be a link: Debian's redis-server is one to redis-check-rdb. But of
  // a script that is the script's name.
  const char* started = reinterpret_cast<const char*>(getauxval(AT_EXECFN));
  struct stat as_started, as_mapped;
  bool is_program = started != nullptr && look_at(AT_FDCWD, started, 0, &as_started) &&
                    look_at(AT_FDCWD, "/proc/self/exe", 0, &as_mapped) &&
                    as_started.st_dev == as_mapped.st_dev && as_started.st_ino == as_mapped.st_ino;
  char path[4096];
  program_path(path, sizeof path);
  const char* whole = path;
  if (is_program || *path == 0) whole = started == nullptr ? "" : started;
  const char* slash = strrchr(whole, '/');
  TextWriter out(name, capacity - 1);
  out.put(slash == nullptr ? whole : slash + 1);
  name[out.used()] = 0;
}

uint64_t random_word() {
  uint64_t word = 0;
  constexpr long kNoWait = 1;  // GRND_NONBLOCK
  if (system_call(__NR_getrandom, as_long(&word), sizeof word, kNoWait) == sizeof word) return word;
  // What the kernel drew for libc as the program began, of which that makes nothing but guards.
  const auto* drawn = reinterpret_cast<const char*>(getauxval(AT_RANDOM));
  static constinit std::atomic<uint64_t> count{0};
  if (drawn != nullptr) memcpy(&word, drawn + 8, sizeof word);
  word ^= address(&word) ^ now_ns(Clock::kUptime);
  word += count.fetch_add(1, std::memory_order_relaxed) * 0x9e3779b97f4a7c15;
  word = (word ^ word >> 30) * 0xbf58476d1ce4e5b9;
  return (word ^ word >> 27) * 0x94d049bb133111eb;
}

bool is_secure() { return getauxval(AT_SECURE) != 0; }
const char* const* environment() { return environ; }

void abort_process() {
  // libc's abort runs the program's SIGABRT handler and leaves a core; the trap is for a handler
  // that comes back.
  abort();
  __builtin_trap();
}

void exit_process(int status) { _exit(status); }

int parse_signal(const char* name) {
  static constexpr struct {
    const char* name;
    int number;
  } kNames[] = {{"HUP", SIGHUP},   {"USR1", SIGUSR1},   {"USR2", SIGUSR2},    {"ALRM", SIGALRM},
                {"QUIT", SIGQUIT}, {"WINCH", SIGWINCH}, {"URG", SIGURG},      {"IO", SIGIO},
                {"PWR", SIGPWR},   {"PROF", SIGPROF},   {"VTALRM", SIGVTALRM}};
  if (strncmp(name, "SIG", 3) == 0) name += 3;
  for (const auto& known : kNames) {
    if (strcmp(name, known.name) == 0) return known.number;
  }
  int number = 0;
  const char* at = name;
  while (*at >= '0' && *at <= '9' && number < 1000) number = number * 10 + (*at++ - '0');
  bool catchable = number >= 1 && number <= 64 && number != SIGKILL && number != SIGSTOP &&
                   number != 32 && number != 33;  // libc's own
  return *name != 0 && *at == 0 && catchable ? number : 0;
}

bool on_signal(int signal, void (*handler)(int)) {
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_handler = handler;
  action.sa_flags = SA_RESTART;
  int error = errno;
  bool ok = sigaction(signal, &action, nullptr) == 0 || fail(-errno);
  errno = error;
  return ok;
}

bool write_all(int fd, const char* text, size_t length) {
  NoSignal no_signal(SIGPIPE);
  while (length != 0) {
    long written = system_call(__NR_write, fd, as_long(text), static_cast<long>(length));
    if (written == -EINTR) continue;
    if (written == -EPIPE) no_signal.consume();
    if (written <= 0) return fail(written == 0 ? -EIO : written);
    text += written;
    length -= static_cast<size_t>(written);
  }
  return true;
}

bool replace_file(const char* path, bool (*write)(int fd, void* arg), void* arg) {
  if (int flags = flags_to_write_into(path)) return write_into(path, flags, write, arg);
  // Two threads may do this at once, and on the smallest of stacks, in a signal handler.
  static constinit std::atomic<uint32_t> serial{0};
  char beside[2 * kOptionPathMax + 64];
  TextWriter name(beside, sizeof beside - 1);
  name.put(path).put(".tmp.").number(static_cast<uint64_t>(process_id()));
  name.put('.').number(serial.fetch_add(1, std::memory_order_relaxed));
  if (name.used() != name.length()) return fail(-ENAMETOOLONG);
  beside[name.used()] = 0;
  // What a killed process of the same number left here is in the way of O_EXCL, which keeps us off
  // others' links.
  system_call(__NR_unlinkat, AT_FDCWD, as_long(beside), 0);
  long fd = open_file(beside, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
  if (failed(fd)) return fail(fd);
  bool ok = write(static_cast<int>(fd), arg);
  close_file(fd);
  if (ok) {
    long result =
        system_call(__NR_renameat2, AT_FDCWD, as_long(beside), AT_FDCWD, as_long(path), 0);
    if (failed(result)) ok = fail(result);
  }
  if (!ok) system_call(__NR_unlinkat, AT_FDCWD, as_long(beside), 0);
  return ok;
}

int keep_descriptor(int fd) {
  constexpr int kOutOfTheWay = 200;
  long copy = system_call(__NR_fcntl, fd, F_DUPFD_CLOEXEC, kOutOfTheWay);
  return failed(copy) ? -1 : static_cast<int>(copy);
}

void drop_descriptor(int fd) { close_file(fd); }

FileId file_id(int fd) {
  struct stat found;
  if (!look_at(fd, "", AT_EMPTY_PATH, &found)) return {};
  return {true, found.st_dev, found.st_ino};
}

int last_error() { return t_last_error; }

bool append_file(const char* path, const char* text, size_t length) {
  constexpr int kFlags = O_WRONLY | O_CREAT | O_APPEND | O_NONBLOCK;
  long fd = open_file(path, kFlags | O_NOFOLLOW, 0600);
  struct stat there;
  if (fd == -ELOOP && look_at(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, &there) &&
      is_trusted_link(there)) {
    fd = open_file(path, kFlags, 0600);
  }
  if (failed(fd)) return fail(fd);
  bool ok = write_all(static_cast<int>(fd), text, length);
  close_file(fd);
  return ok;
}

void futex_wait(std::atomic<uint32_t>* word, uint32_t expected) {
  system_call(__NR_futex, as_long(word), kFutexWait, expected, 0);
}
void futex_wake_one(std::atomic<uint32_t>* word) {
  system_call(__NR_futex, as_long(word), kFutexWake, 1);
}
void futex_wait_ms(std::atomic<uint32_t>* word, uint32_t expected, uint32_t ms) {
  timespec time = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L};
  system_call(__NR_futex, as_long(word), kFutexWait, expected, as_long(&time));
}
void futex_wake_all(std::atomic<uint32_t>* word) {
  system_call(__NR_futex, as_long(word), kFutexWake, INT32_MAX);
}
void sleep_ms(uint32_t ms) {
  std::atomic<uint32_t> nothing{0};
  futex_wait_ms(&nothing, 0, ms);
}

void thread_name(char (&name)[kThreadNameBytes]) {
  memset(name, 0, sizeof name);
  system_call(__NR_prctl, PR_GET_NAME, as_long(name));
  size_t length = strnlen(name, sizeof name - 1);
  memset(name + length, 0, sizeof name - length);
}

namespace {
constexpr uint64_t kNoKey = ~uint64_t{0};
constinit std::atomic<uint64_t> g_exit_key{kNoKey};
void (*g_exit_hook)();

// Keys are destroyed in rounds for as long as destructors set them anew. Ours waits for the second
// of four, so that most keys' destructors still find the thread's heaps, and a thread that
// allocates for the first time in one of them still has a round to come.
void on_thread_exit(void* round) {
  uintptr_t next = address(round) + 1;
  const auto key = static_cast<pthread_key_t>(g_exit_key.load(std::memory_order_relaxed));
  if (next < PTHREAD_DESTRUCTOR_ITERATIONS &&
      pthread_setspecific(key, reinterpret_cast<void*>(next)) == 0) {
    return;
  }
  g_exit_hook();
}

// The key is made when a thread first needs it, as others may number theirs from 0 and use all that
// there are. Of two threads at once one key holds.
uint64_t exit_key() {
  uint64_t known = g_exit_key.load(std::memory_order_acquire);
  pthread_key_t key;
  if (known != kNoKey || pthread_key_create(&key, on_thread_exit) != 0) return known;
  if (g_exit_key.compare_exchange_strong(known, key, std::memory_order_acq_rel)) return key;
  pthread_key_delete(key);
  return known;
}
}  // namespace

void set_thread_exit_hook(void (*hook)()) { g_exit_hook = hook; }
int forbid_cancellation() {
  int state = PTHREAD_CANCEL_ENABLE;
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
  return state;
}
void allow_cancellation(int as_it_was) { pthread_setcancelstate(as_it_was, nullptr); }

bool may_arm_thread_exit() { return g_exit_key.load(std::memory_order_relaxed) != kNoKey; }

Armed arm_thread_exit() {
  if (!may_arm_thread_exit() && thread_id() == process_id()) return Armed::kLater;
  const uint64_t key = exit_key();
  if (key == kNoKey) return Armed::kNo;
  // For a key beyond the first 32 libc allocates, by our malloc.
  const int error = errno;
  const bool ok =
      pthread_setspecific(static_cast<pthread_key_t>(key), reinterpret_cast<void*>(2)) == 0;
  errno = error;
  return ok ? Armed::kYes : Armed::kNo;
}

void set_fork_hooks(void (*prepare)(), void (*parent)(), void (*child)()) {
  pthread_atfork(prepare, parent, child);
}

}  // namespace tally::core::os
