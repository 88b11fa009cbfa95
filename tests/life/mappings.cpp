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

// A stretch, every other page of which has other rights, until the kernel refuses.
struct Mappings {
  explicit Mappings(long most) : bytes(static_cast<size_t>(most + 1000) * kPage) {
    area = static_cast<char*>(
        mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    CHECK(area != MAP_FAILED);
    while (mprotect(area + end, kPage, PROT_READ) == 0) {
      end += 2 * kPage;
      CHECK(end < bytes);
    }
    CHECK(errno == ENOMEM);
  }
  ~Mappings() { CHECK(munmap(area, bytes) == 0); }
  void give_one() {
    end -= 2 * kPage;
    CHECK(mprotect(area + end, kPage, PROT_NONE) == 0);
  }

  size_t bytes, end = kPage;
  char* area;
};

// Hardened, nobody may access a block of no bytes, if the system lets us close it. A program that
// writes to one that is open leaves calloc as it is.
void write_to_nothing(long most) {
  constexpr size_t kBytes = 120 << 10;
  const volatile size_t none = 0;  // the compiler is not to know
  void* blocks[900];
  int ends[2];
  CHECK(pipe(ends) == 0);
  {
    Mappings mappings(most);
    mappings.give_one();
    for (void*& each : blocks) {
      each = malloc(none);
      char byte = 0x5a;
      CHECK(each != nullptr && write(ends[1], &byte, 1) == 1);
      if (read(ends[0], each, 1) != 1) CHECK(errno == EFAULT && read(ends[0], &byte, 1) == 1);
    }
    for (void* each : blocks) free(each);
  }
  for (int i = 0; i < 400; i++) free(malloc(kBytes));
  for (int i = 0; i < 300; i++) {
    auto* p = static_cast<char*>(blocks[i] = calloc(1, kBytes));
    CHECK(p != nullptr && is_zero(p, p + kBytes));
  }
  for (int i = 0; i < 300; i++) free(blocks[i]);
  close(ends[0]);
  close(ends[1]);
}

}  // namespace

int main() {
  CHECK_LIVE();
  const long most = most_mappings();
  if (most > 300000) {
    dprintf(1, "vm.max_map_count is %ld: too many to use up\n", most);
    return SKIPPED;
  }
  write_to_nothing(most);
  static ShortOfMemory before("/before"), during("/during"), after("/after");
  before.run(true);
  {
    Mappings mappings(most);
    during.run(false);
    before.free_all();
    during.run(false);
    malloc_trim(0);
  }
  after.run(true);
  during.free_all();
  after.free_all();
  malloc_trim(0);
  exercise(1);
  return 0;
}
