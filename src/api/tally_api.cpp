// The C API of tally/tally.h: checks arguments and sets errno, no more.
#include <errno.h>
#include <string.h>

#include <bit>

#include "api/malloc_api.h"
#include "arena/arena.h"
#include "heap/relief.h"
#include "heap/thread.h"
#include "stats/render.h"
#include "stats/walk.h"
#include "tally/tally.h"

namespace core = tally::core;
namespace api = tally::core::api;

namespace {

int result_of(int error) {
  if (error == 0) return 0;
  errno = error;
  return -1;
}

// A tag that takes new blocks; nullptr with EINVAL.
core::Tag* live_tag(tally_tag id) {
  core::Tag* tag = core::taking_tag(id);
  if (tag == nullptr) errno = EINVAL;
  return tag;
}

core::Arena* arena_of(tally_arena* arena) { return static_cast<core::Arena*>(arena); }

#define TALLY_STRING_OF(x) #x
#define TALLY_STRING(x) TALLY_STRING_OF(x)

}  // namespace

extern "C" {

// Of all that defines these functions, Tally alone has it. The malloc family and the operators name
// it (preload/api_anchor.h), so that who takes those out of an archive takes these functions too;
// libtally_api.a finds the library by it; and a library sees by it that another one is before it.
TALLY_API extern const char tally_api_anchor;
const char tally_api_anchor = 0;
__attribute__((visibility("hidden"), alias("tally_api_anchor"))) extern const char tally_own_anchor;

const char* tally_version() {
  return TALLY_STRING(TALLY_VERSION_MAJOR) "." TALLY_STRING(TALLY_VERSION_MINOR) "." TALLY_STRING(
      TALLY_VERSION_PATCH);
}

tally_tag tally_tag_create(const char* path) {
  uint32_t id = TALLY_TAG_NONE;
  result_of(core::create_tag(path, &id));
  return id;
}

tally_tag tally_tag_find(const char* path) {
  uint32_t id = TALLY_TAG_NONE;
  result_of(core::lookup_tag(path, &id));
  return id;
}

int tally_tag_retire(tally_tag tag) {
  int error = core::retire_tag(tag);
  if (error == 0) core::drop_retired_heap_now(tag);
  core::settle_limits();
  return result_of(error);
}

size_t tally_tag_name(tally_tag id, char* buf, size_t n) {
  core::TagReader reader;
  const core::Tag* tag = core::find_tag(id);
  if (tag == nullptr || (buf == nullptr && n != 0)) {
    errno = EINVAL;
    return 0;
  }
  if (n != 0) {
    size_t kept = tag->name_length < n ? tag->name_length : n - 1;
    memcpy(buf, tag->name, kept);
    buf[kept] = 0;
  }
  return tag->name_length;
}

int tally_tag_push(tally_tag tag) {
  int error = core::push_tag(tag);
  core::settle_limits();
  return result_of(error);
}
int tally_tag_pop() { return result_of(core::pop_tag()); }
tally_tag tally_tag_current() { return core::current_tag(); }

tally_tag tally_tag_of(const void* p) {
  const core::Slab* slab = p == nullptr ? nullptr : core::find_block(p);
  if (slab != nullptr) return slab->what().tag;
  errno = EINVAL;
  return TALLY_TAG_NONE;
}

void* tally_malloc(tally_tag id, size_t size) {
  core::Tag* tag = live_tag(id);
  return tag == nullptr ? nullptr : core::allocate_tagged(tag, size);
}

void* tally_calloc(tally_tag id, size_t count, size_t size) {
  core::Tag* tag = live_tag(id);
  return tag == nullptr ? nullptr : api::allocate_array(tag, count, size, nullptr);
}

void* tally_aligned_alloc(tally_tag id, size_t alignment, size_t size) {
  core::Tag* tag = live_tag(id);
  return tag == nullptr ? nullptr : api::allocate_aligned_checked(tag, alignment, size, nullptr);
}

void* tally_realloc(tally_tag id, void* p, size_t size) {
  core::Tag* tag = nullptr;
  if (id != TALLY_TAG_NONE && (tag = live_tag(id)) == nullptr) return nullptr;
  if (p != nullptr) return api::resize(tag, p, size);
  return tag == nullptr ? core::allocate_for(__builtin_return_address(0), size)
                        : core::allocate_tagged(tag, size);
}

int tally_limit_set(tally_tag id, uint64_t soft, uint64_t hard, tally_policy policy) {
  core::Tag* tag = live_tag(id);
  core::Policy read;
  if (tag == nullptr || !core::read_policy(policy, &read)) return result_of(EINVAL);
  int error = core::set_limit(tag, soft, hard, read);
  core::settle_limits();
  return result_of(error);
}

int tally_limit_get(tally_tag id, uint64_t* soft, uint64_t* hard, tally_policy* policy) {
  const core::Tag* tag = core::find_tag(id);
  if (tag == nullptr) return result_of(EINVAL);
  auto limit_of = [](uint64_t limit) {
    return limit == core::Account::kNoLimit ? TALLY_LIMIT_NONE : limit;
  };
  core::Policy own = tag->limit.policy.load(std::memory_order_relaxed);
  if (soft != nullptr) *soft = limit_of(tag->limit.soft.load(std::memory_order_relaxed));
  if (hard != nullptr) *hard = limit_of(tag->account().limit());
  if (policy != nullptr) {
    *policy = own.kind == core::Policy::kWait    ? TALLY_POLICY_WAIT(own.wait_ms)
              : own.kind == core::Policy::kAbort ? TALLY_POLICY_ABORT
                                                 : TALLY_POLICY_FAIL;
  }
  return 0;
}

int tally_pressure(tally_tag id) {
  const core::Tag* tag = core::find_tag(id);
  return tag == nullptr ? TALLY_PRESSURE_NORMAL : static_cast<int>(tag->pressure());
}

int tally_on_pressure(tally_tag id, tally_pressure_fn fn, void* arg,
                      const tally_pressure_options* options) {
  constexpr uint32_t kAll = 7, kIntervalMs = 10;
  core::Tag* tag = live_tag(id);
  bool is_sound =
      options == nullptr || (options->size >= sizeof *options && (options->levels & ~kAll) == 0);
  if (tag == nullptr || fn == nullptr || !is_sound) return result_of(EINVAL);
  uint32_t levels = options == nullptr || options->levels == 0 ? kAll : options->levels;
  uint32_t interval =
      options == nullptr || options->interval_ms == 0 ? kIntervalMs : options->interval_ms;
  bool ok = core::add_listener(tag, fn, arg, levels, interval);
  core::settle_limits();
  return result_of(ok ? 0 : ENOMEM);
}

int tally_off_pressure(tally_tag id, tally_pressure_fn fn, void* arg) {
  core::Tag* tag = core::find_tag(id);
  if (tag == nullptr) return result_of(EINVAL);
  return result_of(core::remove_listener(tag, fn, arg) ? 0 : ENOENT);
}

int tally_charge(tally_tag id, size_t bytes) {
  core::Tag* tag = live_tag(id);
  return tag == nullptr ? -1 : result_of(core::charge_foreign(tag, bytes));
}

int tally_uncharge(tally_tag id, size_t bytes) {
  core::Tag* tag = core::find_tag(id);
  return result_of(tag == nullptr ? EINVAL : core::uncharge_foreign(tag, bytes));
}

void tally_free(void* p) { core::release_block(p); }
size_t tally_usable_size(const void* p) { return api::malloc_usable_size(p); }
int tally_trim() { return api::malloc_trim(0); }

int tally_stats(tally_tag tag, tally_stats_t* stats) {
  return result_of(core::stats_of(tag, stats));
}

tally_snapshot_t* tally_snapshot() {
  tally_snapshot_t* snapshot = core::take_snapshot();
  if (snapshot == nullptr) errno = ENOMEM;
  return snapshot;
}
void tally_snapshot_free(tally_snapshot_t* snapshot) { core::free_snapshot(snapshot); }

size_t tally_snapshot_json(char* buf, size_t n) {
  size_t length = core::render_to_buffer(core::render_json, buf, n);
  if (length == 0) errno = ENOMEM;
  return length;
}
size_t tally_snapshot_text(char* buf, size_t n) {
  size_t length = core::render_to_buffer(core::render_table, buf, n);
  if (length == 0) errno = ENOMEM;
  return length;
}
int tally_snapshot_json_fd(int fd) { return result_of(core::render_to_fd(core::render_json, fd)); }
int tally_snapshot_text_fd(int fd) { return result_of(core::render_to_fd(core::render_table, fd)); }

tally_arena* tally_arena_create(tally_tag id, const tally_arena_options* options) {
  constexpr size_t kFirst = 4 * core::KiB, kMost = 256 * core::KiB, kKeep = 256 * core::KiB;
  constexpr size_t kLeast = 128, kMostOfAll = PTRDIFF_MAX / 4;
  static constexpr tally_arena_options kDefaults = {sizeof kDefaults, 0, 0, 0};
  core::Tag* tag = live_tag(id);
  if (options == nullptr) options = &kDefaults;
  bool is_sound = options->size >= sizeof *options && options->first_bytes <= kMostOfAll &&
                  options->most_bytes <= kMostOfAll;
  if (tag == nullptr || !is_sound) {
    errno = EINVAL;
    return nullptr;
  }
  auto power = [](size_t n, size_t otherwise) {
    return std::bit_ceil(core::max_of(n == 0 ? otherwise : n, kLeast));
  };
  size_t most = power(options->most_bytes, core::max_of(kMost, options->first_bytes));
  size_t first = power(options->first_bytes, core::min_of(kFirst, most));
  if (first > most) {
    errno = EINVAL;
    return nullptr;
  }
  size_t keep = std::bit_floor(options->keep_bytes == 0 ? kKeep : options->keep_bytes);
  return core::Arena::create(tag, first, most, keep);
}

void tally_arena_destroy(tally_arena* arena) {
  if (arena != nullptr) arena_of(arena)->destroy();
}

void* tally_arena_alloc_slow(tally_arena* arena, size_t size, size_t alignment) {
  return arena_of(arena)->allocate(size, alignment);
}

tally_mark tally_arena_mark(tally_arena* arena) { return arena_of(arena)->mark(); }

int tally_arena_rewind(tally_arena* arena, tally_mark mark) {
  return result_of(arena_of(arena)->rewind(mark) ? 0 : EINVAL);
}

void tally_arena_reset(tally_arena* arena) { arena_of(arena)->reset(); }

int tally_arena_stats(const tally_arena* arena, tally_arena_stats_t* stats) {
  if (stats == nullptr || stats->size < offsetof(tally_arena_stats_t, used_bytes)) {
    return result_of(EINVAL);
  }
  tally_arena_stats_t all;
  static_cast<const core::Arena*>(arena)->describe(&all);
  all.size = stats->size;
  memcpy(stats, &all, core::min_of(all.size, sizeof all));
  return 0;
}

}  // extern "C"
