// Works as usual between interposers; the arguments are ignored.
#include <ctime>

#include "threads.hpp"

int main() {
  CHECK_LIVE();
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  CHECK(getenv("PATH") != nullptr || true);
  exercise(1, 20000);
  auto work = [] { exercise(2, 20000); };
  Thread a(work), b(work);
  a.join();
  b.join();
  void* p = malloc(50 << 20);
  p = realloc(p, 200 << 20);
  CHECK(p != nullptr);
  free(p);
  malloc_trim(0);
  CHECK(tally_snapshot_json(nullptr, 0) > 0);
  return 0;
}
