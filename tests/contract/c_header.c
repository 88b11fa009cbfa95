/* Compiled only: the C header alone, without anything that its standard of C does not have. */
#include <tally/tally.h>

tally_arena_options options(void);
void* allocate_twice(tally_arena* arena);

tally_arena_options options(void) {
  tally_arena_options all = {sizeof all, 64, 1024, 4096};
  return all;
}

void* allocate_twice(tally_arena* arena) {
  void* first = tally_arena_alloc(arena, 100, 8);
  return tally_limit_set(TALLY_TAG_ROOT, 0, TALLY_LIMIT_NONE, TALLY_POLICY_FAIL) == 0
             ? first
             : tally_arena_alloc(arena, 10, 1);
}
