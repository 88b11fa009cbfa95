// For record_test.py: lives in the way that is asked for.
//   recorded HOW [ARGUMENT]
// Each prints "ready" when there is something to see, and goes on when its standard input says so.
#include <sched.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include "threads.hpp"

namespace {

uint64_t now_ms() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1000 + static_cast<uint64_t>(now.tv_nsec) / 1000000;
}

// Without a stream, which takes a buffer of the heap: it is to be quiet meanwhile.
void say(const char* what) {
  char line[64];
  const int length = snprintf(line, sizeof line, "%s\n", what);
  CHECK(write(1, line, static_cast<size_t>(length)) == length);
}

void wait_to_go_on() {
  char word[8];
  CHECK(read(0, word, sizeof word) > 0);
}

// Passes the heap's slow path over and over.
void work(uint64_t ms) {
  for (uint64_t end = now_ms() + ms; now_ms() < end;) free(malloc(100000));
}

// Threads that replace blocks of ten tags: 1000 each, but for those in the making.
[[noreturn]] void stress() {
  constexpr int kTags = 10, kThreads = 3, kBlocks = 1000;
  static tally_tag tags[kTags];
  char path[] = "/stress/0";
  for (tally_tag& tag : tags) {
    tag = tally_tag_create(path);
    ++path[sizeof path - 2];
  }
  static void* blocks[kThreads][kTags][kBlocks];
  auto replace = [](int thread) {
    Random random(static_cast<uint64_t>(thread) + 1);
    for (;;) {
      const uint64_t t = random.below(kTags);
      void*& block = blocks[thread][t][random.below(kBlocks)];
      tally_free(block);
      block = tally_malloc(tags[t], random.below(400) + (random.below(1000) == 0 ? 100000 : 0));
    }
  };
  for (int thread = 0; thread < kThreads; ++thread) {
    for (int t = 0; t < kTags; ++t) {
      for (void*& block : blocks[thread][t]) CHECK((block = tally_malloc(tags[t], 100)) != nullptr);
    }
  }
  auto first = [&] { replace(0); };
  auto second = [&] { replace(1); };
  Thread<decltype(first)> a(first);
  Thread<decltype(second)> b(second);
  say("ready");
  replace(2);
  abort();
}

// What it prints depends on its memory alone.
void compute() {
  say("ready");
  uint64_t sum = 0;
  for (int i = 0; i < 300; ++i) {
    exercise(static_cast<uint64_t>(i), 1000);
    char* text = static_cast<char*>(malloc(5000));
    for (int j = 0; j < 5000; ++j) text[j] = static_cast<char>(i * j);
    for (int j = 0; j < 5000; ++j) sum = sum * 31 + static_cast<unsigned char>(text[j]);
    free(text);
  }
  dprintf(1, "%llu\n", static_cast<unsigned long long>(sum));
}

void with_child() {
  const pid_t pid = fork();
  CHECK(pid >= 0);
  if (pid == 0) {
    CHECK(tally_malloc(tally_tag_create("/child"), 50000) != nullptr);
    work(400);
    dprintf(1, "%d\n", getpid());
    say("ready");
    pause();
  }
  wait_to_go_on();
  CHECK(kill(pid, SIGKILL) == 0 && waitpid(pid, nullptr, 0) == pid);
  say("gone");
  wait_to_go_on();
}

// Children that libc does not know of: one in our memory, one in a copy of it.
void with_hidden_children() {
  work(100);
  say("ready");
  wait_to_go_on();
  const pid_t borrower = vfork();
  if (borrower == 0) {
    work(300);
    _exit(0);
  }
  CHECK(waitpid(borrower, nullptr, 0) == borrower);
  const long copy = syscall(SYS_clone, SIGCHLD, nullptr, nullptr, nullptr, 0L);
  if (copy == 0) {
    work(300);
    _exit(0);
  }
  // The parent is quiet meanwhile, so that what is written is not its own.
  CHECK(waitpid(static_cast<pid_t>(copy), nullptr, 0) == copy);
  say("ready");
  wait_to_go_on();
}

void become_another(char** argv) {
  work(50);
  argv[1] = const_cast<char*>("idle");
  execv("/proc/self/exe", argv);
}

// As many daemons do; and the numbers are those of a file of the program's then.
void with_numbers_used(const char* path) {
  say("ready");
  wait_to_go_on();
  for (int fd = 3; fd < 1000; ++fd) close(fd);
  const int file = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
  CHECK(file >= 0);
  for (int fd = 3; fd < 300; ++fd) {
    // EBUSY: the recorder's thread, which looks for its file again, opens one at this very moment.
    while (fd != file && dup2(file, fd) != fd) CHECK_OP(errno, ==, EBUSY);
  }
  work(400);
  struct stat found;
  CHECK(fstat(file, &found) == 0);
  CHECK_OP(found.st_size, ==, 0);
  say("ready");
  wait_to_go_on();
}

// Takes blocks until there are no more.
void meet_limit() {
  const tally_tag tag = tally_tag_create("/tenant");
  static int told = 0;
  auto note = [](tally_tag, int level, void*) { told = told > level ? told : level; };
  CHECK(tally_on_pressure(tag, note, nullptr, nullptr) == 0);
  void* blocks[20];
  for (void*& block : blocks) CHECK((block = tally_malloc(tag, 100000)) != nullptr);
  say("ready");
  wait_to_go_on();
  void* more = tally_malloc(tag, 100000);
  dprintf(1, "%s, told %d\n", more != nullptr ? "more" : "no more", told);
  wait_to_go_on();
}

void keep_what_is_free() {
  void* blocks[60];
  for (void*& block : blocks) {
    CHECK((block = malloc(900000)) != nullptr);
    memset(block, 1, 900000);
  }
  for (void* block : blocks) free(block);
  say("ready");
  wait_to_go_on();
}

void leave_main() {
  auto for_a_while = [] { work(200); };
  new Thread<decltype(for_a_while)>(for_a_while);
  say("ready");
  pthread_exit(nullptr);
}

void change_user() {
  CHECK(setgid(65534) == 0 && setuid(65534) == 0);
  work(200);
  say("ready");
  wait_to_go_on();
}

}  // namespace

int main(int argc, char** argv) {
  CHECK_LIVE();
  CHECK(argc > 1);
  const char* how = argv[1];
  auto is = [how](const char* name) { return strcmp(how, name) == 0; };
  if (is("stress")) stress();
  if (is("compute")) compute();
  if (is("fork")) with_child();
  if (is("hidden")) with_hidden_children();
  if (is("exec")) become_another(argv);
  if (is("numbers")) with_numbers_used(argv[2]);
  if (is("limit")) meet_limit();
  if (is("trim")) keep_what_is_free();
  if (is("leave_main")) leave_main();
  if (is("user")) change_user();
  if (is("idle")) {
    work(60);
    say("ready");
    wait_to_go_on();
  }
  return 0;
}
