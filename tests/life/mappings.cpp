// The process has as many mappings as vm.max_map_count allows: what splits a mapping (munmap,
// mprotect, mremap, a map with other rights) fails from then on. NULL and ENOMEM, nothing lost, and
// when there is room again all is as ever.
#include <sys/mman.h>

#include "short_of_memory.hpp"

namespace {

constexpr size_t kPage = 4096;

long most_mappings() {
  FILE* file = fopen("/proc/sys/vm/max_map_count", "r");
  long most = 0;
  CHECK(file != nullptr && fscanf(file, "%ld", &most) == 1);
  fclose(file);
  return most;
}

}  // namespace

int main() {
  CHECK_LIVE();
  const long most = most_mappings();
  if (most > 300000) {
    dprintf(1, "vm.max_map_count is %ld: too many to use up\n", most);
    return SKIPPED;
  }
  static ShortOfMemory before("/before"), during("/during"), after("/after");
  before.run(true);
  // Every other page of a stretch has other rights, until the kernel refuses.
  const size_t bytes = static_cast<size_t>(most + 1000) * kPage;
  char* area = static_cast<char*>(
      mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
  CHECK(area != MAP_FAILED);
  size_t at = kPage;
  while (mprotect(area + at, kPage, PROT_READ) == 0) {
    at += 2 * kPage;
    CHECK(at < bytes);
  }
  CHECK(errno == ENOMEM);
  during.run(false);
  before.free_all();
  during.run(false);
  malloc_trim(0);
  CHECK(munmap(area, bytes) == 0);
  after.run(true);
  during.free_all();
  after.free_all();
  malloc_trim(0);
  exercise(1);
  return 0;
}
