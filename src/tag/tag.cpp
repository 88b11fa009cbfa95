#include "tag/tag.h"

#include <errno.h>
#include <string.h>

#include <utility>

#include "base/preempt.h"
#include "memory/meta.h"
#include "tally/tally.h"

namespace tally::core {

static_assert(kMaxTags == TALLY_TAG_MAX && kNoTag == TALLY_TAG_NONE && kRootTag == TALLY_TAG_ROOT);

constinit Lock tags_lock;
constinit std::atomic<uint32_t> retirements{0};
constinit std::atomic<uint32_t> TagReader::turn{0};
constinit std::atomic<uint32_t> TagReader::counts[2] = {};
constinit std::atomic<uint32_t> TagReader::forks{0};

namespace {

constexpr size_t kBuckets = 1024;

constinit Tag g_root = {.state{TagState::kLive}, .name = "/", .name_length = 1, .children = 1};
constinit Tag g_own = {.state{TagState::kLive},
                       .id = kOwnTag,
                       .parent_tag{&g_root},
                       .name = "/tally",
                       .name_length = 6};
constinit std::atomic<Tag*> g_tags[kMaxTags + 1] = {&g_root, &g_own};
constinit std::atomic<uint32_t> g_limit{2};

// Under tags_lock.
constinit Tag* g_buckets[kBuckets] = {};
constinit Tag* g_unused = nullptr;
constinit Tag* g_leaving = nullptr;  // unused, but somebody may still be reading
constinit Tag* g_left = nullptr;     // likewise, but only who came before this turn
constinit Tag* g_retired = nullptr;
constinit Tag* g_still_held = nullptr;  // retired, and looked at in vain

struct Path {
  const char* text;  // begins with '/', no '/' at the end
  uint32_t length;

  Tag*& bucket() const {
    uint64_t hash = 14695981039346656037U;  // FNV-1a
    for (uint32_t i = 0; i < length; ++i) {
      hash = (hash ^ static_cast<unsigned char>(text[i])) * 1099511628211U;
    }
    return g_buckets[hash % kBuckets];
  }
  Tag* find() const {
    if (length == 0) return &g_root;
    if (length == g_own.name_length && memcmp(text, g_own.name, length) == 0) return &g_own;
    for (Tag* tag = bucket(); tag != nullptr; tag = tag->next) {
      if (tag->name_length == length && memcmp(tag->name, text, length) == 0) return tag;
    }
    return nullptr;
  }
};

// ASCII's control characters, and Latin-1's in UTF-8: terminals obey them.
bool is_control(const char* at) {
  auto byte = static_cast<unsigned char>(*at);
  auto next = static_cast<unsigned char>(at[1]);
  return byte < 0x20 || byte == 0x7f || (byte == 0xc2 && next >= 0x80 && next < 0xa0);
}

// Brings the path into its one form in `buffer`; an errno, or 0.
int normalise(const char* path, char (&buffer)[TALLY_TAG_PATH_MAX + 1], Path* result) {
  if (path == nullptr) return EINVAL;
  uint32_t length = 0;
  if (*path == '/') ++path;
  for (const char* at = path; *at != 0; ++at) {
    if (at == path || at[-1] == '/') {
      if (*at == '/') return EINVAL;
      if (length == TALLY_TAG_PATH_MAX) return ENAMETOOLONG;
      buffer[length++] = '/';
    }
    if (*at == '/') continue;
    if (is_control(at)) return EINVAL;
    if (length == TALLY_TAG_PATH_MAX) return ENAMETOOLONG;
    buffer[length++] = *at;
  }
  *result = {buffer, length};
  return *path != 0 && path[strlen(path) - 1] == '/' ? EINVAL : 0;
}

bool nothing_left(const Tag* tag) {
  return tag->children == 0 && tag->heaps.load(std::memory_order_acquire) == 0 &&
         tag->account().held() == 0;
}

// Nothing is left of the tag: it cannot be found any more.
void leave(Tag* tag) {
  Tag** at = &Path{tag->name, tag->name_length}.bucket();
  while (*at != tag) at = &(*at)->next;
  *at = tag->next;
  --tag->parent()->children;
  tag->state.store(TagState::kUnused, std::memory_order_seq_cst);
  tag->next = g_leaving;
  g_leaving = tag;
}

// Model: tests/model/tag_model.cpp. Ids of retired tags that have become empty are free again.
// Looks at a few each time; those it looked at in vain have their turn when all others had theirs.
void reap_retired(int most) {
  bool is_second_turn = false;
  for (int i = 0; i < most; ++i) {
    if (g_retired == nullptr) {
      if (is_second_turn || g_still_held == nullptr) break;
      std::swap(g_retired, g_still_held);
      is_second_turn = true;
    }
    Tag* tag = g_retired;
    g_retired = tag->next_retired;
    if (nothing_left(tag)) {
      leave(tag);
    } else {
      tag->next_retired = g_still_held;
      g_still_held = tag;
    }
  }
  // Each is unused again when, after it left, nobody was counted in the one turn and then nobody in
  // the other. Who found it was counted in one of them, and who comes now sees that it is unused.
  while (TagReader::may_turn()) {
    while (Tag* tag = g_left) {
      g_left = tag->next;
      tag->next = g_unused;
      g_unused = tag;
    }
    if (g_leaving == nullptr) break;
    std::swap(g_left, g_leaving);
    TagReader::take_turn();
  }
}

void retire(Tag* tag) {
  tag->state.store(TagState::kRetired, std::memory_order_release);
  tag->next_retired = g_retired;
  g_retired = tag;
}

bool unlist(Tag** list, const Tag* tag) {
  while (*list != nullptr && *list != tag) list = &(*list)->next_retired;
  if (*list == nullptr) return false;
  *list = tag->next_retired;
  return true;
}

// An id and a descriptor, its counters at zero; nullptr and an errno.
Tag* unused_tag(int* error) {
  if (g_unused == nullptr && tag_limit() == kMaxTags) {
    reap_retired(2 * kMaxTags);  // the whole of both lists
  }
  Tag* tag = g_unused;
  if (tag != nullptr) {
    g_unused = tag->next;
    meta::release(const_cast<char*>(tag->name), tag->name_length + 1);
    tag->total.reset();
    tag->limit.reset();
    for (auto* counter : {&tag->own.now, &tag->own.peak, &tag->charged}) {
      counter->store(0, std::memory_order_relaxed);
    }
    for (auto* counter : {&tag->large_live_bytes, &tag->large_live_blocks, &tag->large_allocs,
                          &tag->large_requested, &tag->past_allocs, &tag->past_requested}) {
      counter->store(0, std::memory_order_relaxed);
    }
    return tag;
  }
  uint32_t limit = g_limit.load(std::memory_order_relaxed);
  if (limit == kMaxTags) {
    *error = ENOSPC;
    return nullptr;
  }
  tag = static_cast<Tag*>(meta::allocate_forever(sizeof(Tag)));
  if (tag == nullptr) {
    *error = ENOMEM;
    return nullptr;
  }
  tag->total.reset();
  tag->limit.reset();
  tag->id = limit;
  g_tags[limit].store(tag, std::memory_order_release);
  g_limit.store(limit + 1, std::memory_order_release);
  return tag;
}

Path above(Path path) {
  while (path.text[path.length - 1] != '/') --path.length;
  return {path.text, path.length - 1};
}

// The tag of this path, or the nearest above it that there is.
Tag* nearest(Path path) {
  Tag* tag;
  while ((tag = path.find()) == nullptr) path = above(path);
  return tag;
}

int create(Path path, Tag** result) {
  Tag* tag = path.find();
  if (tag != nullptr) {
    // A retired one comes back, with what it holds.
    if (!tag->is_live()) {
      Tag* ignored;
      const Tag* was_below = tag->parent();
      Path parent = {was_below->name, was_below == &g_root ? 0 : was_below->name_length};
      if (int error = create(parent, &ignored)) return error;
      if (!unlist(&g_retired, tag)) unlist(&g_still_held, tag);
      tag->state.store(TagState::kLive, std::memory_order_release);
    }
    *result = tag;
    return 0;
  }
  Tag* parent;
  if (int error = create(above(path), &parent)) return error;
  if (parent == &g_own) return EINVAL;
  int error = 0;
  char* name = static_cast<char*>(meta::allocate(path.length + 1));
  if (name == nullptr) return ENOMEM;
  tag = unused_tag(&error);
  if (tag == nullptr) {
    meta::release(name, path.length + 1);
    return error;
  }
  memcpy(name, path.text, path.length);
  tag->parent_tag.store(parent, std::memory_order_relaxed);
  tag->fault_plan.store(parent->fault(), std::memory_order_release);
  tag->name = name;
  tag->name_length = path.length;
  ++parent->children;
  tag->next = path.bucket();
  path.bucket() = tag;
  tag->state.store(TagState::kLive, std::memory_order_release);
  *result = tag;
  return 0;
}

}  // namespace

Tag* find_tag(uint32_t id) {
  if (id >= tag_limit()) return nullptr;
  Tag* tag = g_tags[id].load(std::memory_order_acquire);
  // In the full order, after a TagReader was counted: see reap_retired.
  return tag->state.load(std::memory_order_seq_cst) == TagState::kUnused ? nullptr : tag;
}

Tag* taking_tag(uint32_t id) {
  Tag* tag = find_tag(id);
  return tag != nullptr && tag->is_live() && id != kOwnTag ? tag : nullptr;
}

namespace {

// Enough for a page or two of a slab; a reserve is for the small blocks that unwinding needs.
constexpr size_t kMostDrawn = 16 * KiB;

bool refuse(Tag* tag) {
  // No limit: nothing has so much.
  if (tag->account().limit() == Account::kNoLimit) return false;
  // So that it is noticed when memory comes back.
  if (!tag->limit.is_short.exchange(true, std::memory_order_relaxed)) note_shortage(tag);
  limits_met.refused = tag;
  return false;
}

void give_back(Tag* tag, size_t bytes) {
  uint64_t left = tag->account().give(bytes);
  at_point("charge: given back");
  if (bytes != 0) tag->limit.forget_failures();
  if (left < tag->limit.calm.load(std::memory_order_seq_cst)) note_crossing(tag);
  if (tag->limit.waiters.load(std::memory_order_relaxed) != 0) {
    tag->limit.returned.fetch_add(1, std::memory_order_release);
    os::futex_wake_all(&tag->limit.returned);
  }
}

void note_taken(Tag* tag, uint64_t held) {
  tag->account().note_peak(held);
  tag->limit.forget_failures();
  if (held > tag->limit.alarm.load(std::memory_order_seq_cst)) note_crossing(tag);
}

}  // namespace

bool Tag::reserve(size_t bytes, bool is_sure) {
  bool may_draw = bytes <= kMostDrawn && limit.in_need.load(std::memory_order_relaxed);
  uint64_t held;
  if (!account().take(bytes, may_draw, &held)) return refuse(this);
  if (Tag* next_up = parent(); next_up != nullptr && !next_up->reserve(bytes, is_sure)) {
    give_back(this, bytes);
    return false;
  }
  at_point("charge: taken");
  if (is_sure) note_taken(this, held);
  return true;
}

void Tag::note_reserved() {
  for (Tag* tag = this; tag != nullptr; tag = tag->parent()) {
    note_taken(tag, tag->account().held());
  }
}

bool Tag::may_charge(size_t bytes) {
  for (Tag* tag = this; tag != nullptr; tag = tag->parent()) {
    if (!tag->account().fits(bytes)) return refuse(tag);
  }
  return true;
}

void Tag::unreserve(size_t bytes) {
  Tag* above;
  for (Tag* tag = this; tag != nullptr; tag = above) {
    // With the last byte a retired tag may become another. What is above it stays: it holds our
    // bytes.
    above = tag->parent();
    give_back(tag, bytes);
  }
}

Tag* root_tag() { return &g_root; }
uint32_t tag_limit() { return g_limit.load(std::memory_order_acquire); }

namespace {

// The tag and its parents, or none of them: *tag is then as before.
int make(Path path, Tag** tag) {
  reap_retired(16);
  const Tag* had = nearest(path)->nearest_live();
  int error = create(path, tag);
  if (error == 0) return 0;
  // The parents that it made, or revived, go again.
  for (Tag* made = nearest(path); made != had; made = made->parent()) {
    if (made->is_live()) retire(made);
  }
  return error;
}

}  // namespace

int create_tag(const char* path, uint32_t* id) {
  char buffer[TALLY_TAG_PATH_MAX + 1];
  Path normal;
  if (int error = normalise(path, buffer, &normal)) return error;
  LockGuard guard(tags_lock);
  Tag* tag;
  int error = make(normal, &tag);
  if (error == 0) *id = tag->id;
  return error;
}

int check_tag_path(const char* path) {
  char buffer[TALLY_TAG_PATH_MAX + 1];
  Path normal;
  if (int error = normalise(path, buffer, &normal)) return error;
  Path own = {g_own.name, g_own.name_length};
  bool is_own = normal.length >= own.length && memcmp(normal.text, own.text, own.length) == 0 &&
                (normal.length == own.length || normal.text[own.length] == '/');
  return is_own ? EPERM : 0;
}

Tag* tag_at_or_above(const char* path) {
  char buffer[TALLY_TAG_PATH_MAX + 1];
  Path normal;
  if (normalise(path, buffer, &normal) != 0) return &g_root;
  LockGuard guard(tags_lock);
  Tag* tag = nearest(normal);
  // What was retired is not revived by those who did not name it.
  if (!tag->is_live()) return tag->nearest_live();
  make(normal, &tag);
  return tag;
}

int lookup_tag(const char* path, uint32_t* id) {
  char buffer[TALLY_TAG_PATH_MAX + 1];
  Path normal;
  if (int error = normalise(path, buffer, &normal)) return error;
  LockGuard guard(tags_lock);
  const Tag* tag = normal.find();
  if (tag == nullptr || !tag->is_live()) return ENOENT;
  *id = tag->id;
  return 0;
}

int retire_tag(uint32_t id) {
  LockGuard guard(tags_lock);
  Tag* tag = find_tag(id);
  if (tag == nullptr || !tag->is_live() || id == kRootTag || id == kOwnTag) return EINVAL;
  retire(tag);
  retirements.fetch_add(1, std::memory_order_release);
  return 0;
}

}  // namespace tally::core
