// A program that is linked with the API alone (tally::api): where no libtally.so is preloaded it
// works on libc, and says so; where one is, it is the library's. `api_only absent|here`.
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <tally/tally.h>

#include <cstdint>
#include <initializer_list>

namespace {

bool g_is_here;

template <class Result>
void check_fails(Result result, Result failure, int error) {
  CHECK(result == failure);
  CHECK(errno == error);
  errno = 0;
}

void tags() {
  CHECK((tally_version()[0] != 0) == g_is_here);
  tally_tag tag = tally_tag_create("a/b");
  CHECK((tag == TALLY_TAG_ROOT) == !g_is_here);
  CHECK(tally_tag_find("a/b") == tag);
  check_fails(tally_tag_create(nullptr), TALLY_TAG_NONE, EINVAL);
  char name[8] = "xxxxxxx";
  CHECK(tally_tag_name(tag, name, sizeof name) == strlen(g_is_here ? "/a/b" : "/"));
  CHECK(strcmp(name, g_is_here ? "/a/b" : "/") == 0);
  CHECK(tally_tag_name(tag, name, 1) != 0 && name[0] == 0);
  CHECK(tally_tag_name(tag, nullptr, 0) != 0);
  check_fails(tally_tag_name(TALLY_TAG_NONE, name, sizeof name), size_t{0}, EINVAL);
  CHECK(tally_tag_push(tag) == 0 && tally_tag_current() == tag && tally_tag_pop() == 0);
  check_fails(tally_tag_push(TALLY_TAG_NONE), -1, EINVAL);
  CHECK(tally_tag_retire(tag) == 0);
}

void blocks() {
  tally_tag tag = tally_tag_create("blocks");
  auto* p = static_cast<char*>(tally_malloc(tag, 100));
  CHECK(p != nullptr && tally_usable_size(p) >= 100);
  memset(p, 1, 100);
  p = static_cast<char*>(tally_realloc(TALLY_TAG_NONE, p, 10000));
  CHECK(p != nullptr && p[99] == 1);
  CHECK((tally_tag_of(p) == TALLY_TAG_NONE) == !g_is_here);
  tally_free(p);
  p = static_cast<char*>(tally_calloc(tag, 10, 10));
  CHECK(p != nullptr && p[99] == 0);
  free(p);
  for (size_t alignment : {1, 8, 4096}) {
    void* block = tally_aligned_alloc(tag, alignment, 10);
    CHECK(block != nullptr && reinterpret_cast<uintptr_t>(block) % alignment == 0);
    tally_free(block);
  }
  check_fails(tally_aligned_alloc(tag, 3, 10), static_cast<void*>(nullptr), EINVAL);
  volatile size_t huge = SIZE_MAX / 2;
  check_fails(tally_malloc(tag, huge), static_cast<void*>(nullptr), ENOMEM);
  tally_trim();
}

void limits() {
  tally_tag tag = tally_tag_create("limits");
  CHECK(tally_limit_set(tag, TALLY_LIMIT_NONE, TALLY_LIMIT_NONE, TALLY_POLICY_FAIL) == 0);
  uint64_t soft = 0, hard = 0;
  tally_policy policy = TALLY_POLICY_ABORT;
  CHECK(tally_limit_get(tag, &soft, &hard, &policy) == 0);
  CHECK(soft == TALLY_LIMIT_NONE && hard == TALLY_LIMIT_NONE && policy == TALLY_POLICY_FAIL);
  auto ignore = [](tally_tag, int, void*) {};
  CHECK(tally_on_pressure(tag, ignore, nullptr, nullptr) == 0);
  CHECK(tally_off_pressure(tag, ignore, nullptr) == 0);
  CHECK(tally_pressure(tag) == TALLY_PRESSURE_NORMAL);
  CHECK(tally_charge(tag, 1000) == 0 && tally_uncharge(tag, 1000) == 0);
  if (!g_is_here)
    check_fails(tally_limit_set(tag, 1 << 20, 1 << 20, TALLY_POLICY_FAIL), -1, ENOSYS);
}

void figures() {
  tally_stats_t stats = {};
  stats.size = sizeof stats;
  char text[16];
  if (g_is_here) {
    CHECK(tally_stats(TALLY_TAG_ROOT, &stats) == 0 && tally_snapshot_text(text, sizeof text) > 0);
    return;
  }
  check_fails(tally_stats(TALLY_TAG_ROOT, &stats), -1, ENOSYS);
  check_fails(tally_snapshot(), static_cast<tally_snapshot_t*>(nullptr), ENOSYS);
  tally_snapshot_free(nullptr);
  check_fails(tally_snapshot_json(text, sizeof text), size_t{0}, ENOSYS);
  check_fails(tally_snapshot_text(text, sizeof text), size_t{0}, ENOSYS);
  check_fails(tally_snapshot_json_fd(1), -1, ENOSYS);
  check_fails(tally_snapshot_text_fd(1), -1, ENOSYS);
}

void arenas() {
  const tally_arena_options too_short = {1, 0, 0, 0};
  check_fails(tally_arena_create(TALLY_TAG_ROOT, &too_short), static_cast<tally_arena*>(nullptr),
              EINVAL);
  tally_arena_destroy(nullptr);
  tally_arena* arena = tally_arena_create(TALLY_TAG_ROOT, nullptr);
  CHECK(arena != nullptr);
  auto* first = static_cast<char*>(tally_arena_alloc(arena, 100, 1));
  CHECK(first != nullptr);
  memset(first, 7, 100);
  CHECK(tally_arena_alloc(arena, 0, 1) != nullptr);
  const tally_mark mark = tally_arena_mark(arena);
  CHECK(mark != TALLY_MARK_NONE);
  for (int round = 0; round < 3; ++round) {
    for (size_t alignment = 1; alignment <= 65536; alignment *= 2) {
      auto* p = static_cast<char*>(tally_arena_alloc(arena, 3 * alignment, alignment));
      CHECK(p != nullptr && reinterpret_cast<uintptr_t>(p) % alignment == 0);
      memset(p, 8, 3 * alignment);
    }
    const tally_mark inner = tally_arena_mark(arena);
    CHECK(tally_arena_rewind(arena, inner) == 0);
    CHECK(tally_arena_rewind(arena, mark) == 0);
    check_fails(tally_arena_rewind(arena, inner), -1, EINVAL);
  }
  for (int i = 0; i < 100; ++i) CHECK(first[i] == 7);
  check_fails(tally_arena_rewind(arena, TALLY_MARK_NONE), -1, EINVAL);
  check_fails(tally_arena_alloc(arena, 8, 0), static_cast<void*>(nullptr), EINVAL);
  check_fails(tally_arena_alloc(arena, 8, 24), static_cast<void*>(nullptr), EINVAL);
  check_fails(tally_arena_alloc(arena, SIZE_MAX, 8), static_cast<void*>(nullptr), ENOMEM);
  check_fails(tally_arena_alloc(arena, 8, size_t{1} << 63), static_cast<void*>(nullptr), ENOMEM);
  tally_arena_reset(arena);
  check_fails(tally_arena_rewind(arena, mark), -1, EINVAL);
  tally_arena_stats_t stats = {};
  stats.size = sizeof stats;
  if (!g_is_here) check_fails(tally_arena_stats(arena, &stats), -1, ENOSYS);
  CHECK(tally_arena_alloc(arena, 8, 8) != nullptr);
  tally_arena_destroy(arena);
}

}  // namespace

int main(int argc, char** argv) {
  CHECK(argc == 2);
  g_is_here = strcmp(argv[1], "here") == 0;
  errno = 0;
  tags();
  blocks();
  limits();
  figures();
  arenas();
  return 0;
}
