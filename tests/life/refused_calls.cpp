// A sandbox that refuses what an allocator can do without: madvise, mremap, membarrier, getcpu,
// openat, getrandom, mprotect, munmap. Memory may stay, but the program goes on, and free keeps
// errno. In the end it refuses mmap: what there is goes on, and more is NULL and ENOMEM. One that
// refuses the handler of the dump signal is told of. And one that refuses mprotect does so before
// the program has its first instruction, as the hardened build closes pages from then on. Those
// that kill for what is refused leave a program alone that does nothing unusual, a recorded one
// too. The strictest leaves read and write, and takes the processor's counter away, as a program
// may do by itself: what has been allocated and freed before is enough for more of the same.
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <iterator>

#include "short_of_memory.hpp"

namespace {

void refuse(int number, uint32_t instead = SECCOMP_RET_ERRNO | EPERM) {
  sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<uint32_t>(number), 0, 1),
      BPF_STMT(BPF_RET | BPF_K, instead),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog program = {4, code};
  if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) {
    dprintf(2, "no seccomp filters here\n");
    _exit(SKIPPED);
  }
}

// Blocks of no bytes and of many, and callocs, take turns with the same memory.
void zero_where_others_were() {
  constexpr size_t kBytes = 90 << 10;
  char* blocks[40];
  auto work = [&blocks](auto allocate) {
    for (char*& each : blocks) each = static_cast<char*>(allocate());
    for (char* each : blocks) free(each);
  };
  for (int round = 0; round < 3; round++) {
    work([] { return memset(malloc(kBytes), 1, kBytes); });
    work([] { return malloc(0); });
    work([] {
      auto* p = static_cast<char*>(calloc(1, kBytes));
      CHECK(p != nullptr && is_zero(p, p + kBytes));
      return p;
    });
  }
}

void work(bool threads) {
  errno = 7777;
  exercise(1);
  void* p = malloc(10 << 20);
  CHECK(p != nullptr);
  fill(p, 10 << 20, 1);
  p = realloc(p, 50 << 20);
  CHECK(p != nullptr && is_filled(p, 10 << 20, 1));
  p = realloc(p, 1 << 20);
  CHECK(p != nullptr && is_filled(p, 10 << 20, 1, 1 << 20));
  free(p);
  void* blocks[2000];
  for (void*& each : blocks) each = malloc(5000);
  for (void* each : blocks) free(each);
  zero_where_others_were();
  malloc_trim(0);
  CHECK(errno == 7777);
  if (!threads) return;
  auto thread_work = [] { exercise(2); };
  Thread thread(thread_work);
  thread.join();
}

// What a child ended with that has a filter, if filters can be had.
int ended_with(pid_t pid) {
  int status;
  CHECK(waitpid(pid, &status, 0) == pid);
  if (WIFEXITED(status) && WEXITSTATUS(status) == SKIPPED) _exit(SKIPPED);
  return status;
}

// It kills for mprotect, which libc's malloc of a program of one thread never calls. (The hardened
// library opens pages by it.)
void live_where_mprotect_kills() {
  if (getenv("TEST_HARDENED") != nullptr) return;
  const pid_t pid = fork();
  if (pid == 0) {
    refuse(SYS_mprotect, SECCOMP_RET_KILL_PROCESS);
    for (size_t i = 0; i < 2000; i++) fill(malloc(i * 3 + 1), i * 3 + 1, 1);
    work(false);
    _exit(0);
  }
  CHECK(ended_with(pid) == 0);
}

// Nor does a block of no bytes need anything of the system, once there were some.
void have_nothing_where_all_of_memory_kills() {
  const pid_t pid = fork();
  if (pid == 0) {
    malloc_trim(0);
    for (int i = 0; i < 1000; i++) free(malloc(0));
    for (int number : {SYS_mprotect, SYS_madvise, SYS_mmap, SYS_munmap}) {
      refuse(number, SECCOMP_RET_KILL_PROCESS);
    }
    for (int i = 0; i < 1000; i++) free(malloc(0));
    _exit(0);
  }
  CHECK(ended_with(pid) == 0);
}

// What a record needs of the system beyond what programs do, as systemd's @system-service without
// @resources kills for.
void be_recorded_where_that_kills(char* self) {
  const pid_t pid = fork();
  if (pid == 0) {
    setenv("TALLY_RECORD", "1", 1);
    setenv("TALLY_RECORD_MS", "10", 1);
    for (int number : {SYS_mincore, SYS_sched_setscheduler, SYS_setpriority, SYS_unshare}) {
      refuse(number, SECCOMP_RET_KILL_PROCESS);
    }
    execl("/proc/self/exe", self, "record", nullptr);
    _exit(1);
  }
  CHECK(ended_with(pid) == 0);
}

int work_recorded() {
  static void* blocks[2000];
  for (int round = 0; round < 20; round++) {
    for (size_t i = 0; i < 2000; i++) blocks[i] = malloc(i * 40);
    usleep(10'000);
    for (void* each : blocks) free(each);
  }
  return 0;
}

void refuse_the_dump_signal(char* self) {
  int ends[2];
  CHECK(pipe(ends) == 0);
  const pid_t pid = fork();
  if (pid == 0) {
    setenv("TALLY_DUMP_SIGNAL", "USR2", 1);
    dup2(ends[1], 2);
    refuse(SYS_rt_sigaction);
    execl("/proc/self/exe", self, "nothing", nullptr);
    _exit(1);
  }
  int status;
  CHECK(waitpid(pid, &status, 0) == pid);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  char said[200] = "";
  close(ends[1]);
  CHECK(read(ends[0], said, sizeof said - 1) >= 0);
  close(ends[0]);
  CHECK(strcmp(said,
               "tally: TALLY_DUMP_SIGNAL: cannot catch the signal: Operation not permitted\n") ==
        0);
}

// A thread that reads the processor's counter gets a SIGSEGV.
void live_without_the_counter() {
  const pid_t pid = fork();
  if (pid == 0) {
    if (prctl(PR_SET_TSC, PR_TSC_SIGSEGV, 0, 0, 0) == 0) {
      work(true);
    } else {
      dprintf(1, "the processor's counter cannot be forbidden here\n");
    }
    _exit(0);
  }
  int status;
  CHECK(waitpid(pid, &status, 0) == pid);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

// It kills for all but read, write and the end of the thread. What is free cannot be given back, so
// that the time for that must not come.
void live_where_all_kills(char* self) {
  if (getauxval(AT_SYSINFO_EHDR) == 0) {
    dprintf(1, "the kernel tells the time by a system call alone\n");
    return;
  }
  const pid_t pid = fork();
  if (pid == 0) {
    setenv("TALLY_PURGE_MS", "3600000", 1);
    execl("/proc/self/exe", self, "strict", nullptr);
    _exit(1);
  }
  int status;
  CHECK(waitpid(pid, &status, 0) == pid);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

int work_where_all_kills() {
  static void* blocks[2000];
  const auto use = [](size_t count) {
    for (size_t i = 0; i < count; i++) blocks[i] = malloc(16 + i % 500);
    for (size_t i = 0; i < count; i++) {
      CHECK(blocks[i] != nullptr);
      fill(blocks[i], 16 + i % 500, 1);
    }
    for (size_t i = 0; i < count; i++) free(blocks[i]);
  };
  for (int round = 0; round < 3; round++) use(2000);
  if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) != 0) {
    dprintf(1, "no strict mode here\n");
    return 0;
  }
  for (size_t count : {10, 200, 1000}) {
    for (int round = 0; round < 100; round++) use(count);
  }
  // As libc's _exit ends all threads, which is not allowed.
  syscall(SYS_exit, 0);
  return 1;
}

// It kills for all that a program does not call which allocates, writes and ends.
void end_where_the_rest_kills() {
  const pid_t pid = fork();
  if (pid == 0) {
    constexpr uint32_t kAllowed[] = {SYS_read,       SYS_write,  SYS_close,      SYS_fstat,
                                     SYS_newfstatat, SYS_lseek,  SYS_brk,        SYS_mmap,
                                     SYS_munmap,     SYS_mremap, SYS_mprotect,   SYS_madvise,
                                     SYS_futex,      SYS_exit,   SYS_exit_group, SYS_rt_sigreturn};
    constexpr size_t kCount = std::size(kAllowed);
    sock_filter code[kCount + 3] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr))};
    for (size_t i = 0; i < kCount; i++) {
      code[1 + i] =
          BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, kAllowed[i], static_cast<uint8_t>(kCount - i), 0);
    }
    code[kCount + 1] = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
    code[kCount + 2] = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    const sock_fprog program = {kCount + 3, code};
    CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
    // (The hardened library asks more of the system at the free of a large block.)
    getenv("TEST_HARDENED") == nullptr ? work(false) : free(malloc(1000));
    exit(0);
  }
  int status;
  CHECK(waitpid(pid, &status, 0) == pid);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

// All but what the dynamic linker needs, without which no program starts.
void refuse_mprotect() {
  sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mprotect, 0, 3),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, args[2])),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, PROT_READ, 1, 0),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog program = {6, code};
  CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
}

void start_without_mprotect(char* self) {
  const pid_t pid = fork();
  if (pid == 0) {
    refuse_mprotect();
    execl("/proc/self/exe", self, "work", nullptr);
    _exit(1);
  }
  int status;
  CHECK(waitpid(pid, &status, 0) == pid);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

// Where it cannot be closed that way, it is by another.
void expect_nothing_to_be_closed() {
  const pid_t pid = fork();
  if (pid == 0) {
    volatile char* p = static_cast<char*>(malloc(0));
    free(const_cast<char*>(p));
    p[0] = 1;
    _exit(0);
  }
  const int status = ended_with(pid);
  CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
}

int work_without_mprotect() {
  const long page = sysconf(_SC_PAGESIZE);
  void* p = mmap(nullptr, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(p != MAP_FAILED && mprotect(p, page, PROT_NONE) != 0 && errno == EPERM);
  if (getenv("TEST_HARDENED") != nullptr) expect_nothing_to_be_closed();
  static ShortOfMemory blocks("/blocks");
  work(false);
  blocks.run(false);
  blocks.free_all();
  work(false);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  CHECK_LIVE();
  if (argc > 1 && strcmp(argv[1], "work") == 0) return work_without_mprotect();
  if (argc > 1 && strcmp(argv[1], "record") == 0) return work_recorded();
  if (argc > 1 && strcmp(argv[1], "strict") == 0) return work_where_all_kills();
  if (argc > 1) return 0;
  CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
  live_where_mprotect_kills();
  have_nothing_where_all_of_memory_kills();
  live_without_the_counter();
  live_where_all_kills(argv[0]);
  end_where_the_rest_kills();
  be_recorded_where_that_kills(argv[0]);
  refuse_the_dump_signal(argv[0]);
  start_without_mprotect(argv[0]);
  for (int number : {SYS_madvise, SYS_mremap, SYS_membarrier, SYS_getcpu, SYS_openat,
                     SYS_sched_getaffinity, SYS_getrandom}) {
    refuse(number);
    work(true);
  }
  // From here on libc makes no threads.
  static ShortOfMemory before("/before"), after("/after");
  for (int number : {SYS_mprotect, SYS_munmap}) {
    refuse(number);
    work(false);
  }
  before.run(false);
  refuse(SYS_mmap);
  after.run(false);
  void* more[64];
  int n = 0;
  for (errno = 0; n < 64 && (more[n] = malloc(100 << 20)) != nullptr;) n++;
  CHECK(n < 64 && errno == ENOMEM);
  while (n > 0) free(more[--n]);
  before.free_all();
  after.free_all();
  // The hardened build's closed pages stay so: nothing is left by which they could be opened.
  if (getenv("TEST_HARDENED") == nullptr) exercise(3);
  return 0;
}
