// The main of glibc's tests (their support/test-driver.c): runs the test in a child with a time to
// end, and turns what became of it into an exit status: 0, 1, or 77 where the machine cannot run
// it.
#pragma once

#include "shim.h"

static pid_t driver_child;

static void driver_timeout(int number __attribute__((unused))) {
  kill(-driver_child, SIGKILL);
  kill(driver_child, SIGKILL);
#ifdef CLEANUP_HANDLER
  CLEANUP_HANDLER();
#endif
  write_message("timed out\n");
  _exit(1);
}

static int driver_run(int argc __attribute__((unused)), char** argv __attribute__((unused))) {
#if defined TEST_FUNCTION
  return TEST_FUNCTION();
#elif defined TEST_FUNCTION_ARGV
  return TEST_FUNCTION_ARGV(argc, argv);
#else
  return do_test();
#endif
}

static int driver_verdict(int status) {
  int expected_signal = 0, expected_status = 0;
#ifdef EXPECTED_SIGNAL
  expected_signal = EXPECTED_SIGNAL;
#endif
#ifdef EXPECTED_STATUS
  expected_status = EXPECTED_STATUS;
#endif
  int got_signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
  int got_status = WIFEXITED(status) ? WEXITSTATUS(status) : 0;
  if (got_signal != expected_signal) {
    printf("ended by signal %d, expected %d\n", got_signal, expected_signal);
    return 1;
  }
  if (got_status == EXIT_UNSUPPORTED) return EXIT_UNSUPPORTED;
  if (got_status != expected_status) {
    printf("exit status %d, expected %d\n", got_status, expected_status);
    return 1;
  }
  return *support_failures ? 1 : 0;
}

int main(int argc, char** argv) {
  static const struct option options[] = {
#ifdef CMDLINE_OPTIONS
      CMDLINE_OPTIONS
#endif
      {"verbose", no_argument, NULL, 'v'},
      {"direct", no_argument, NULL, OPT_DIRECT},
      {"test-dir", required_argument, NULL, OPT_TESTDIR},
      {NULL, 0, NULL, 0}};
#ifdef CMDLINE_OPTSTRING
  const char* letters = "+" CMDLINE_OPTSTRING;
#else
  const char* letters = "+";
#endif
#ifdef TIMEOUT
  unsigned seconds = TIMEOUT;
#else
  unsigned seconds = DEFAULT_TIMEOUT;
#endif
  bool direct = false;
  int option;
  while ((option = getopt_long(argc, argv, letters, options, NULL)) != -1) {
    if (option == '?') return 1;
    if (option == 'v') test_verbose++;
    if (option == OPT_DIRECT) direct = true;
    if (option == OPT_TESTDIR) test_dir = optarg;
#ifdef CMDLINE_PROCESS
    if (option != 'v' && option != OPT_DIRECT && option != OPT_TESTDIR) CMDLINE_PROCESS(option);
#endif
  }
  if (getenv("TMPDIR")) test_dir = getenv("TMPDIR");
  // The test is told of its own arguments alone.
  argv[optind - 1] = argv[0];
  argv += optind - 1;
  argc -= optind - 1;
  setvbuf(stdout, NULL, _IONBF, 0);
#ifdef PREPARE
  PREPARE(argc, argv);
#endif
  if (direct) return driver_run(argc, argv);

  driver_child = xfork();
  if (driver_child == 0) {
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
    setpgid(0, 0);
    exit(driver_run(argc, argv));
  }
  signal(SIGALRM, driver_timeout);
  signal(SIGTERM, driver_timeout);  // of who has waited long enough
  const char* factor = getenv("TIMEOUTFACTOR");
  alarm(seconds * (factor ? (unsigned)atoi(factor) : 1));
  int status;
  while (waitpid(driver_child, &status, 0) < 0 && errno == EINTR) {
  }
  return driver_verdict(status);
}
