// Allocations before main: in .preinit_array, in constructors of the program and of its library.
#include "threads.hpp"

extern void* early_block;
extern void* early_thread_block;

namespace {

void* preinit_block;

void preinit(int, char**, char**) {
  preinit_block = malloc(100);
  fill(preinit_block, 100, 9);
  free(malloc(1000000));
  free(calloc(10, 10));
}
__attribute__((section(".preinit_array"), used)) void (*preinit_entry)(int, char**,
                                                                       char**) = preinit;

struct InProgram {
  void* block = malloc(77);
  tally_tag tag = tally_tag_create("/before/main");
} in_program;

}  // namespace

int main() {
  CHECK_LIVE();
  CHECK(is_filled(preinit_block, 100, 9));
  CHECK(is_filled(early_block, 1000, 1));
  CHECK(is_filled(early_thread_block, 500, 2));
  CHECK(tally_tag_find("/before/main") == in_program.tag);
  for (void* p : {preinit_block, early_block, early_thread_block, in_program.block}) {
    CHECK(tally_tag_of(p) == TALLY_TAG_ROOT);
    free(p);
  }
  exercise(8);
  return 0;
}
