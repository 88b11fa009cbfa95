#include "supervise.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <fstream>

#include "executable.h"
#include "failure.h"
#include "last_record.h"

namespace tally::tool {
namespace {

sigset_t all_signals() {
  sigset_t all;
  sigfillset(&all);
  return all;
}

sigset_t set_of(int signal) {
  sigset_t one;
  sigemptyset(&one);
  sigaddset(&one, signal);
  return one;
}

// What this process was started with, and the program is to be.
struct Inherited {
  sigset_t mask;
  struct sigaction on_child;
};

// No handler is ever set, as all signals are waited for. A parent that ignores SIGCHLD leaves that
// to its children: then there would be nothing to wait for.
Inherited take_signals() {
  Inherited inherited;
  const sigset_t all = all_signals();
  sigprocmask(SIG_SETMASK, &all, &inherited.mask);
  struct sigaction usual = {};
  usual.sa_handler = SIG_DFL;
  sigaction(SIGCHLD, &usual, &inherited.on_child);
  return inherited;
}

// The variable's text in the environment, into which the child writes, who alone knows its id.
char g_report_pid[sizeof kReportPid + 10];

void put_report_pid(pid_t pid) {
  char* at = g_report_pid + sizeof g_report_pid - 2;
  for (; pid != 0; pid /= 10) *at-- = static_cast<char>('0' + pid % 10);
}

void prepare_report_pid() {
  unsetenv(kReportPid);
  snprintf(g_report_pid, sizeof g_report_pid, "%s=%09d", kReportPid, 0);
  putenv(g_report_pid);
}

// In the child. Returns errno if the program cannot be run.
int become(const std::string& program, char** arguments, pid_t parent, const Inherited& inherited) {
  // Who kills this process by SIGKILL knows no other to kill.
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) return ESRCH;  // it was killed before that
  put_report_pid(getpid());
  keep_last_record();
  sigaction(SIGCHLD, &inherited.on_child, nullptr);
  sigprocmask(SIG_SETMASK, &inherited.mask, nullptr);
  execvp(program.c_str(), arguments);
  return errno;
}

pid_t start(const std::string& program, char** arguments, const Inherited& inherited) {
  const pid_t self = getpid();
  // The child runs in this process's memory until it is the program, so that it can tell an error.
  volatile int error = 0;
  const pid_t pid = vfork();
  if (pid == 0) {
    error = become(program, arguments, self, inherited);
    _exit(kNotFound);
  }
  if (pid < 0) throw Failure(kCannotRun, std::string("no process to be had: ") + strerror(errno));
  if (error == 0) return pid;
  waitpid(pid, nullptr, 0);
  fail_to_run(*arguments, error);
}

// A shell waits for this process and for nothing else on the terminal.
bool is_in_foreground() {
  int terminal = open("/dev/tty", O_RDONLY | O_CLOEXEC | O_NOCTTY);
  if (terminal < 0) return false;
  const bool is = tcgetpgrp(terminal) == getpgrp();
  close(terminal);
  return is;
}

int64_t now() {
  timespec time;
  clock_gettime(CLOCK_REALTIME, &time);
  return int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

class Watch {
 public:
  explicit Watch(pid_t program) : program_(program) {}

  // Returns the program's status when it has ended.
  int until_end() {
    const sigset_t all = all_signals();
    for (look(); !ended_; look()) {
      siginfo_t info;
      if (sigwaitinfo(&all, &info) > 0) handle(info);
    }
    return status_;
  }

 private:
  // Takes what there is to know of children. As process 1 of a container one has others too.
  void look() {
    int status;
    for (pid_t pid; (pid = waitpid(-1, &status, WUNTRACED | WCONTINUED | WNOHANG)) > 0;) {
      if (pid != program_) continue;
      status_ = status;
      ended_ = WIFEXITED(status) || WIFSIGNALED(status);
      if (WIFSTOPPED(status)) stop_too(WSTOPSIG(status));
    }
  }

  void handle(const siginfo_t& info) {
    const int signal = info.si_signo;
    if (signal == SIGCHLD || is_known_to_program(info)) return;
    if (signal == SIGCONT) {
      // A shell continues the whole group; the program has seen that, or is still stopped.
      look();
      if (!ended_ && WIFSTOPPED(status_)) kill(program_, SIGCONT);
    } else if (info.si_code == SI_QUEUE) {
      sigqueue(program_, signal, info.si_value);
    } else {
      kill(program_, signal);
    }
  }

  // The terminal's signals are for the whole group, and the kernel sends them; its other signals,
  // as that of an alarm set before, are for this process. What the program sends can only be for
  // its group or its parent.
  bool is_known_to_program(const siginfo_t& info) const {
    switch (info.si_signo) {
      case SIGHUP:
        // A terminal that hangs up tells the session's leader alone.
        if (info.si_code == SI_KERNEL) return getsid(0) != getpid();
        break;
      case SIGINT:
      case SIGQUIT:
      case SIGTSTP:
      case SIGTTIN:
      case SIGTTOU:
      case SIGWINCH:
      case SIGCONT:
        if (info.si_code == SI_KERNEL) return true;
    }
    return info.si_code <= 0 && info.si_pid == program_;
  }

  // Returns when this process was continued.
  static void stop_too(int signal) {
    // SIGSTOP may come from anywhere, and SIGCONT then goes to the program alone: this process
    // would be left behind. But a shell that waits in the foreground must come back.
    if (signal == SIGSTOP && !is_in_foreground()) return;
    ::signal(signal, SIG_DFL);
    // Raised before it is let through: the terminal's own may be there already, and two are one so.
    raise(signal);
    const sigset_t one = set_of(signal);
    sigprocmask(SIG_UNBLOCK, &one, nullptr);
    sigprocmask(SIG_BLOCK, &one, nullptr);
  }

  pid_t program_;
  int status_ = 0;  // the last that was told
  bool ended_ = false;
};

// Since the system started, cgroups' included; 0 if the kernel does not tell.
uint64_t oom_kills() {
  std::ifstream file("/proc/vmstat");
  std::string name;
  for (uint64_t value; file >> name >> value;) {
    if (name == "oom_kill") return value;
  }
  return 0;
}

}  // namespace

Ending supervise(const std::string& program, char** arguments, bool everyone) {
  const Inherited inherited = take_signals();
  everyone ? void(unsetenv(kReportPid)) : prepare_report_pid();
  Ending ending = {.pid = 0, .status = 0, .started = now(), .ended = 0, .oom_kills = oom_kills()};
  ending.pid = start(program, arguments, inherited);
  ending.status = Watch(ending.pid).until_end();
  ending.ended = now();
  ending.oom_kills = oom_kills() - ending.oom_kills;
  return ending;
}

int end_like(const Ending& ending) {
  if (WIFEXITED(ending.status)) return WEXITSTATUS(ending.status);
  const int signal = WTERMSIG(ending.status);
  // The core to look at is the program's. (A core limit of 0 does not stop one through a pipe.)
  prctl(PR_SET_DUMPABLE, 0);
  ::signal(signal, SIG_DFL);
  raise(signal);
  const sigset_t one = set_of(signal);
  sigprocmask(SIG_UNBLOCK, &one, nullptr);
  return 128 + signal;  // process 1 of a container does not die of signals
}

}  // namespace tally::tool
