/* The C interface from C11, compiled pedantically. What each function means is tested elsewhere;
 * here they are called as a C program calls them. */
#include <tally/tally.h>

#include "check.h"

_Static_assert(sizeof(tally_tag) == 4, "a tag is 32 bits");
_Static_assert(offsetof(tally_stats_t, size) == 0, "structs begin with their size");
_Static_assert(offsetof(tally_snapshot_t, size) == 0, "structs begin with their size");

int main(void) {
  CHECK_LIVE();
  CHECK(strcmp(tally_version(), TALLY_TEST_VERSION) == 0);
  tally_tag tag = tally_tag_create("c/program");
  CHECK(tag != TALLY_TAG_NONE);
  CHECK(tally_tag_find("/c/program") == tag);
  char name[TALLY_TAG_PATH_MAX + 1];
  CHECK(tally_tag_name(tag, name, sizeof name) == 10 && strcmp(name, "/c/program") == 0);

  CHECK(tally_tag_push(tag) == 0);
  CHECK(tally_tag_current() == tag);
  int* numbers = malloc(100 * sizeof *numbers);
  CHECK(numbers != NULL);
  CHECK(tally_tag_pop() == 0);
  CHECK(tally_tag_of(numbers) == tag);
  char* text = tally_malloc(tag, 10);
  char* zeros = tally_calloc(tag, 10, 10);
  char* aligned = tally_aligned_alloc(tag, 64, 100);
  CHECK(text && zeros && aligned && (uintptr_t)aligned % 64 == 0 && zeros[99] == 0);
  strcpy(text, "tally");
  char* longer = tally_realloc(TALLY_TAG_NONE, text, 1000);
  CHECK(longer && strcmp(longer, "tally") == 0 && tally_tag_of(longer) == tag);
  CHECK(tally_usable_size(longer) >= 1000);

  tally_stats_t stats;
  stats.size = sizeof stats;
  CHECK(tally_stats(tag, &stats) == 0);
  CHECK_OP(stats.own.live_blocks, ==, 4);
  tally_snapshot_t* snapshot = tally_snapshot();
  CHECK(snapshot && snapshot->tag_count >= 4);
  tally_snapshot_free(snapshot);
  char part[20];
  CHECK(tally_snapshot_json(part, sizeof part) > sizeof part && strlen(part) == sizeof part - 1);
  CHECK(tally_snapshot_text(NULL, 0) > 0);

  tally_arena_options options = {.size = sizeof options, .first_bytes = 1024};
  tally_arena* arena = tally_arena_create(tag, &options);
  CHECK(arena != NULL);
  double* kept = tally_arena_alloc(arena, sizeof *kept, _Alignof(double));
  CHECK(kept != NULL);
  *kept = 1.5;
  tally_mark mark = tally_arena_mark(arena);
  CHECK(mark != TALLY_MARK_NONE);
  char* scratch = tally_arena_alloc(arena, 100, 1);
  CHECK(scratch != NULL && tally_arena_rewind(arena, mark) == 0);
  CHECK(tally_arena_alloc(arena, 100, 1) == scratch && *kept == 1.5);
  tally_arena_stats_t arena_stats = {.size = sizeof arena_stats};
  CHECK(tally_arena_stats(arena, &arena_stats) == 0);
  CHECK_OP(arena_stats.used_bytes, ==, 8 + 32 + 104);
  tally_arena_reset(arena);
  CHECK(tally_arena_rewind(arena, mark) == -1 && errno == EINVAL);
  tally_arena_destroy(arena);

  tally_free(numbers);
  tally_free(longer);
  free(zeros);
  free(aligned);
  CHECK(tally_stats(tag, &stats) == 0);
  CHECK_OP(stats.own.live_blocks, ==, 0);
  CHECK(tally_tag_retire(tag) == 0);
  tally_trim();
  return 0;
}
