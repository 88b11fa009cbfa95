// A program for surroundings_test.py and cgroup_test.py, which start it where things are not as
// usual: surroundings HOW [ARGUMENT]; "once" is a little, "work" is all.
#include <grp.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "short_of_memory.hpp"

namespace {

void work() {
  static ShortOfMemory held("/held");
  held.run(true);
  auto mine = [] { exercise(1); };
  Thread a(mine), b(mine);
  exercise(2);
  a.join(), b.join();
  held.free_all();
  tally_snapshot_free(tally_snapshot());
  malloc_trim(0);
}

// As much as there is, in blocks of a MiB, and no faster than a record can follow; it is all given
// back. Prints how many there were.
void eat() {
  constexpr int kMost = 4096;
  static char* blocks[kMost];
  int n = 0;
  for (errno = 0; n < kMost && (blocks[n] = static_cast<char*>(malloc(1 << 20))) != nullptr; n++) {
    memset(blocks[n], 1, 1 << 20);
    usleep(1000);
  }
  CHECK(n < kMost && errno == ENOMEM);
  dprintf(1, "%d\n", n);
  while (n > 0) free(blocks[--n]);
}

// All of the process in memory: what is only reserved must not come along.
void lock_all() {
  if (mlockall(MCL_CURRENT | MCL_FUTURE) != 0) {
    dprintf(1, "mlockall: %s\n", strerror(errno));
    _exit(SKIPPED);
  }
  work();
  CHECK_OP(rss_bytes(), <, 200 << 20);
}

// With no right to lock more than a little, the kernel refuses maps with EAGAIN.
void lock_little() {
  rlimit limit;
  CHECK(getrlimit(RLIMIT_MEMLOCK, &limit) == 0);
  limit.rlim_cur = std::min<rlim_t>(limit.rlim_max, 64 << 20);
  CHECK(setrlimit(RLIMIT_MEMLOCK, &limit) == 0);
  CHECK(setresuid(65534, 65534, 65534) == 0);
  if (mlockall(MCL_FUTURE) != 0) {
    dprintf(1, "mlockall: %s\n", strerror(errno));
    _exit(SKIPPED);
  }
  eat();
  CHECK(munlockall() == 0);
}

void leave_root(const char* folder) {
  CHECK(chroot(folder) == 0 && chdir("/") == 0);
  CHECK(setgroups(0, nullptr) == 0);
  CHECK(setresgid(65534, 65534, 65534) == 0 && setresuid(65534, 65534, 65534) == 0);
}

void change_processors() {
  cpu_set_t all;
  CHECK(sched_getaffinity(0, sizeof all, &all) == 0);
  volatile bool stop = false;
  auto mine = [&] {
    while (!stop) exercise(3, 500);
  };
  Thread a(mine), b(mine);
  for (int i = 0, cpu = 0; i < 200; i++) {
    do cpu = (cpu + 1) % CPU_SETSIZE;
    while (!CPU_ISSET(cpu, &all));
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    CHECK(sched_setaffinity(0, sizeof one, &one) == 0);
    exercise(4, 50);
  }
  stop = true;
  a.join(), b.join();
}

// The program has the break for itself.
void move_break() {
  char* start = static_cast<char*>(sbrk(1 << 20));
  CHECK(start != reinterpret_cast<char*>(-1));
  memset(start, 7, 1 << 20);
  work();
  CHECK(sbrk(0) == start + (1 << 20));
  for (int i = 0; i < 1 << 20; i++) CHECK(start[i] == 7);
  CHECK(brk(start) == 0);
}

void without_huge_pages() {
  void* huge = mmap(nullptr, 2 << 20, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
  if (huge != MAP_FAILED) munmap(huge, 2 << 20);
  work();
}

}  // namespace

int main(int argc, char** argv) {
  CHECK_LIVE();
  CHECK(argc > 1);
  const char* how = argv[1];
  if (strcmp(how, "eat") == 0) {
    eat();
  } else if (strcmp(how, "lock all") == 0) {
    lock_all();
  } else if (strcmp(how, "lock little") == 0) {
    lock_little();
  } else if (strcmp(how, "leave root") == 0) {
    CHECK(argc > 2);
    leave_root(argv[2]);
  } else if (strcmp(how, "change processors") == 0) {
    change_processors();
  } else if (strcmp(how, "move break") == 0) {
    move_break();
  } else if (strcmp(how, "no huge pages") == 0) {
    without_huge_pages();
  }
  if (strcmp(how, "once") == 0) {
    exercise(5);
  } else {
    work();
  }
  return 0;
}
