/* Runs one program under a preloaded allocator and reports what it used.
 *
 *   bench_launch REPORT_FD PRELOAD PROGRAM [ARGUMENT...]      (PRELOAD may be empty)
 *
 * Writes to REPORT_FD, which the program does not inherit:
 *   pid PID
 *   used STATUS WALL_NS USER_US SYSTEM_US PEAK_RSS_KIB MINOR_FAULTS      (STATUS: exit code, or
 * -signal)
 *
 * Why not from Python: the kernel carries the peak RSS of the forking process over exec into the
 * program's, so that every program smaller than the interpreter would show the interpreter's. This
 * process is smaller than any of them. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long long now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static long long to_us(struct timeval t) { return t.tv_sec * 1000000LL + t.tv_usec; }

int main(int argc, char** argv) {
  if (argc < 4) {
    fprintf(stderr, "usage: bench_launch REPORT_FD PRELOAD PROGRAM [ARGUMENT...]\n");
    return 2;
  }
  prctl(PR_SET_PDEATHSIG, SIGKILL); /* a run that is given up leaves nothing behind */
  int report = atoi(argv[1]);
  fcntl(report, F_SETFD, FD_CLOEXEC);

  long long start = now_ns();
  pid_t pid = fork();
  if (pid < 0) {
    perror("bench_launch: fork");
    return 2;
  }
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (argv[2][0] != '\0') setenv("LD_PRELOAD", argv[2], 1);
    execvp(argv[3], argv + 3);
    perror(argv[3]);
    _exit(127);
  }
  dprintf(report, "pid %d\n", (int)pid);

  int status = 0;
  struct rusage used;
  if (wait4(pid, &status, 0, &used) != pid) {
    perror("bench_launch: wait4");
    return 2;
  }
  long long wall = now_ns() - start;
  dprintf(report, "used %d %lld %lld %lld %ld %ld\n",
          WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status), wall, to_us(used.ru_utime),
          to_us(used.ru_stime), used.ru_maxrss, used.ru_minflt);
  return 0;
}
