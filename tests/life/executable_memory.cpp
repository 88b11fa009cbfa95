// With everything on, nothing that the process has mapped can be written and executed, and nothing
// executable is without a file: an allocator that patched or made code would be an attacker's
// stepping stone.
#include <malloc.h>
#include <stdio.h>
#include <string.h>

#include "threads.hpp"

namespace {

void check_mappings() {
  FILE* maps = fopen("/proc/self/maps", "r");
  CHECK(maps != nullptr);
  char line[1024];
  int executable = 0;
  while (fgets(line, sizeof line, maps) != nullptr) {
    char rights[5] = "";
    char name[512] = "";
    CHECK(sscanf(line, "%*s %4s %*s %*s %*s %511s", rights, name) >= 1);
    if (rights[2] != 'x') continue;
    ++executable;
    if (rights[1] == 'w' || (name[0] != '/' && strncmp(name, "[v", 2) != 0)) {  // vdso, vsyscall
      dprintf(2, "writable and executable, or of no file: %s", line);
      abort();
    }
  }
  fclose(maps);
  CHECK(executable >= 3);  // the program, libc, the linker or the kernel's
}

}  // namespace

int main() {
  CHECK_LIVE();
  check_mappings();
  Thread other([] { exercise(1); });
  exercise(2);
  other.join();
  void* blocks[26];  // to 32 MiB
  for (int i = 0; i < 26; ++i) CHECK((blocks[i] = malloc(size_t{1} << i)) != nullptr);
  check_mappings();
  for (void* block : blocks) free(block);
  malloc_trim(0);
  check_mappings();
  return 0;
}
