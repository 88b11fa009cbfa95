// Each system call that Tally makes fails with ENOMEM: the n-th, for every n from the program's
// first instructions to its end, all from the n-th on, and many by chance. The program goes on
// without what was refused, says nothing, and when the calls work again all is as ever.
//
// A seccomp filter sends the calls from Tally's code to a handler, which makes them or does not. It
// is in place before any constructor runs, as the plan is an argument: calls_fail FIRST COUNT
// ONE_IN SEED.
#include <errno.h>
#include <link.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <ucontext.h>

#include <atomic>

#include "short_of_memory.hpp"

#ifdef __x86_64__

namespace {

struct Plan {
  uint64_t first = UINT64_MAX, count = 0, one_in = 0, seed = 0;
} plan;
std::atomic<bool> is_on{false};
std::atomic<uint64_t> calls{0}, calls_for_time{0};

bool fails() {
  if (!is_on.load()) return false;
  const uint64_t n = calls.fetch_add(1);
  if (plan.one_in != 0) return Random(plan.seed * 1000003 + n).below(plan.one_in) == 0;
  return n >= plan.first && n - plan.first < plan.count;
}

// libc's code makes the call, which the filter lets pass.
void on_system_call(int, siginfo_t* info, void* context) {
  auto& regs = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
  const int error = errno;
  if (info->si_syscall == SYS_clock_gettime && regs[REG_RDI] == CLOCK_MONOTONIC_COARSE) {
    calls_for_time.fetch_add(1);
  }
  long result = -ENOMEM;
  if (!fails()) {
    result = syscall(info->si_syscall, regs[REG_RDI], regs[REG_RSI], regs[REG_RDX], regs[REG_R10],
                     regs[REG_R8], regs[REG_R9]);
    if (result == -1) result = -errno;
  }
  regs[REG_RAX] = result;
  errno = error;
}

struct Code {
  uintptr_t start, end;
};

// Of the module that Tally is in.
int find_code(dl_phdr_info* info, size_t, void* found) {
  const auto inside = reinterpret_cast<uintptr_t>(&tally_version);
  for (int i = 0; i < info->dlpi_phnum; i++) {
    const ElfW(Phdr)& segment = info->dlpi_phdr[i];
    const uintptr_t start = info->dlpi_addr + segment.p_vaddr, end = start + segment.p_memsz;
    if (segment.p_type != PT_LOAD || inside < start || inside >= end) continue;
    *static_cast<Code*>(found) = {start, end};
    return 1;
  }
  return 0;
}

// Where the kernel has put it, no call is made for the time, which then cannot fail.
void hide_the_vdso(char** environment) {
  while (*environment != nullptr) environment++;
  auto* entry = reinterpret_cast<ElfW(auxv_t)*>(environment + 1);
  for (; entry->a_type != AT_NULL; entry++) {
    if (entry->a_type == AT_SYSINFO_EHDR) entry->a_type = AT_IGNORE;
  }
}

// Those that cannot fail, and those that must be made where they stand, are left alone; the many
// questions for the time fail by chance alone.
void trap_calls() {
  Code code = {};
  CHECK(tally_version != nullptr && dl_iterate_phdr(find_code, &code) == 1);
  // Where the code lies across 4 GiB, both halves of its addresses are allowed: the distance is
  // exact then, but for what is 4 GiB away, where none of ours is.
  const auto low = static_cast<uint32_t>(code.start);
  const auto size = static_cast<uint32_t>(code.end - code.start);
  const auto upper = static_cast<uint32_t>(code.start >> 32);
  const auto last_upper = static_cast<uint32_t>((code.end - 1) >> 32);
  const auto to_clock = static_cast<uint8_t>(plan.one_in == 0 ? 8 : 0);
  constexpr auto kAt = offsetof(seccomp_data, instruction_pointer);
  sock_filter steps[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, kAt + 4),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, upper, 1, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, last_upper, 0, 13),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, kAt),
      BPF_STMT(BPF_ALU | BPF_SUB | BPF_K, low),
      BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, size, 10, 0),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clock_gettime, to_clock, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_futex, 7, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getpid, 6, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_gettid, 5, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_geteuid, 4, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_exit_group, 3, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_rt_sigprocmask, 2, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_tgkill, 1, 0),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  struct sigaction action = {};
  action.sa_sigaction = on_system_call;
  action.sa_flags = SA_SIGINFO;
  CHECK(sigaction(SIGSYS, &action, nullptr) == 0);
  const sock_fprog program = {sizeof steps / sizeof *steps, steps};
  CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
  if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) {
    dprintf(1, "no seccomp filters here\n");
    _exit(SKIPPED);
  }
}

void before_all(int argc, char** argv, char** environment) {
  if (argc != 5) return;
  hide_the_vdso(environment);
  plan = {strtoull(argv[1], nullptr, 10), strtoull(argv[2], nullptr, 10),
          strtoull(argv[3], nullptr, 10), strtoull(argv[4], nullptr, 10)};
  trap_calls();
  is_on.store(true);
}
__attribute__((section(".preinit_array"), used)) void (*preinit_entry)(int, char**,
                                                                       char**) = before_all;

constexpr int kNotReached = 3;

int body() {
  const char* given = getenv("CALLS_FAIL_ROUNDS");
  const int rounds = given == nullptr ? 1 : atoi(given);
  alarm(60 + 20 * static_cast<unsigned>(rounds));
  static ShortOfMemory work("/work"), again("/again");
  for (int i = rounds; i > 0; i--) {
    work.run(false);
    work.free_all();
  }
  work.run(plan.one_in != 0 || plan.first % 8 == 0);
  is_on.store(false);
  work.free_all();
  if (plan.first % 8 == 0) again.run(true);
  again.free_all();
  CHECK_LIVE();
  if (plan.one_in != 0) CHECK_OP(calls_for_time.load(), >, 10);
  return plan.one_in == 0 && calls.load() <= plan.first ? kNotReached : 0;
}

// What Tally is asked for besides. With nothing asked, it may not say a word.
const struct {
  const char *name, *conf;
} surroundings[] = {
    {"nothing asked", ""},
    {"samples guarded, nothing kept", "purge_ms:0,sample:4K,guard:1/1,record:0,thp:always"},
    {"a record and its thread", "record:1,record_ms:20,sample:4K"},
};

// The status of the program under this plan.
int run(const char* self, const Plan& with) {
  char numbers[4][24];
  const uint64_t values[4] = {with.first, with.count, with.one_in, with.seed};
  for (int i = 0; i < 4; i++) snprintf(numbers[i], sizeof numbers[i], "%lu", values[i]);
  int ends[2];
  CHECK(pipe(ends) == 0);
  const pid_t pid = vfork();
  if (pid == 0) {
    dup2(ends[1], 2);
    execl("/proc/self/exe", self, numbers[0], numbers[1], numbers[2], numbers[3], nullptr);
    _exit(127);
  }
  close(ends[1]);
  char said[2000] = "";
  const ssize_t length = read(ends[0], said, sizeof said - 1);
  close(ends[0]);
  int status;
  CHECK(pid > 0 && waitpid(pid, &status, 0) == pid);
  const int exited = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  const char* conf = getenv("TALLY_CONF");
  const bool is_quiet = length == 0 || (*conf != 0 && strncmp(said, "tally: ", 7) == 0);
  if (is_quiet && (exited == 0 || exited == kNotReached || exited == SKIPPED)) return exited;
  dprintf(2, "calls %s to +%s fail, one in %s, seed %s, TALLY_CONF=%s: status %x, said: %s\n",
          numbers[0], numbers[1], numbers[2], numbers[3], conf, status, said);
  _exit(1);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 5) return body();
  CHECK_LIVE();
  for (const auto& each : surroundings) {
    setenv("TALLY_CONF", each.conf, 1);
    uint64_t n = 0;
    for (int status = 0; n < 1000 && status != kNotReached; n++) {
      status = run(argv[0], {.first = n, .count = 1});
      if (status == SKIPPED) return SKIPPED;
      if (n < 20 || n % 7 == 0) run(argv[0], {.first = n, .count = UINT64_MAX});
    }
    dprintf(1, "%s: %lu calls\n", each.name, n);
    CHECK_OP(n, >, 30);
    for (uint64_t seed = 1; seed <= 4; seed++) {
      for (uint64_t one_in : {2, 5, 20}) run(argv[0], {.one_in = one_in, .seed = seed});
    }
  }
  return 0;
}

#else

int main() {
  dprintf(1, "for x86-64\n");
  return SKIPPED;
}

#endif
