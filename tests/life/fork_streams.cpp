// fork from two threads while others read long lines, which allocates with the stream's lock held,
// and one flushes all streams, which takes their list's lock and then each stream's. fork takes
// that lock too.
#include <sys/wait.h>

#include <cstdio>
#include <ctime>
#include <string>

#include "threads.hpp"

namespace {

constexpr double kSeconds = 2;
volatile bool stop;

// Of memory, not of a file: the place in a file is the children's too, who move it as they flush.
void read_lines() {
  static const std::string text = std::string(50000, 'x') + '\n';
  FILE* file = fmemopen(const_cast<char*>(text.data()), text.size(), "r");
  CHECK(file != nullptr);
  while (!stop) {
    rewind(file);
    char* line = nullptr;
    size_t length = 0;
    CHECK(getline(&line, &length, file) == 50001);
    free(line);
  }
  fclose(file);
}

void flush_all() {
  while (!stop) CHECK(fflush(nullptr) == 0);
}

// The child's streams are its own and free.
void child() {
  alarm(20);
  FILE* file = fopen("/dev/null", "w");
  CHECK(file != nullptr && fprintf(file, "%p", malloc(100)) > 0);
  CHECK(fflush(nullptr) == 0);
  fclose(file);
  _exit(17);
}

void fork_on() {
  while (!stop) {
    const pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) child();
    int status;
    CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 17);
  }
}

double now() {
  timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

}  // namespace

int main() {
  CHECK_LIVE();
  // With one thread the lock is not taken; the child may use it all the same.
  const pid_t pid = fork();
  if (pid == 0) child();
  int status;
  CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 17);

  Thread a(read_lines), b(read_lines), c(read_lines), d(read_lines);
  Thread flusher(flush_all), one(fork_on), other(fork_on);
  const double end = now() + kSeconds;
  while (now() < end) usleep(10000);
  stop = true;
  a.join();
  b.join();
  c.join();
  d.join();
  flusher.join();
  one.join();
  other.join();
}
