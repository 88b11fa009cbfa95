// An input is a program of calls: of the malloc family and of the C API, by several threads in
// turn, with tags that come and go, limits, charges, arenas, trims. After each call a model
// (api_model.hpp) tells whether the answer may be so; at the end all is given back and nothing may
// be left.
//
// malloc stays the C library's, or the sanitizer's. The options of Tally's environment hold: with
// TALLY_SAMPLE, TALLY_GUARD, TALLY_TAG_BY or TALLY_PURGE_MS the same programs go other ways.
#include <cerrno>
#include <memory>
#include <vector>

#include "api/malloc_api.h"
#include "api_model.hpp"
#include "lane.hpp"

namespace tally::fuzz {
namespace {

namespace api = core::api;

constexpr size_t kLanes = 3;
constexpr uint64_t kMostBytes = 48 << 20;  // that live at one time
constexpr size_t kMostBlocks = 4000, kMostCalls = 4000;
constexpr size_t kDepthMost = 255;  // of scopes

struct ArenaMark {
  tally_mark mark;
  size_t blocks;  // that there were
  bool holds;
};

struct Arena {
  tally_arena* arena;
  size_t tag;
  uint64_t reserved = 0, segments = 0;  // as of the last look
  std::vector<Block> blocks = {};
  std::vector<ArenaMark> marks = {};
};

// Allocates and frees where it is told of pressure, as it may.
void on_pressure(tally_tag tag, int level, void* arg) {
  FUZZ_CHECK(arg == &on_pressure);
  FUZZ_CHECK(level >= TALLY_PRESSURE_NORMAL && level <= TALLY_PRESSURE_HARD);
  FUZZ_CHECK(tally_tag_name(tag, nullptr, 0) != 0);
  void* p = tally_malloc(TALLY_TAG_ROOT, 64);
  FUZZ_CHECK(p != nullptr || errno == ENOMEM);
  tally_free(p);
}
void* const kPressureArg = reinterpret_cast<void*>(&on_pressure);

class Program {
 public:
  Program(const uint8_t* data, size_t size) : input_(data, size) {}

  void run() {
    for (size_t calls = 0; !input_.is_empty() && calls < kMostCalls; ++calls) step();
    model_.verify();
    give_all_back();
  }

 private:
  void step() {
    switch (input_.below(16)) {
      case 0:
      case 1:
        return on_lane([this] { allocate(size(), how(), 1); });
      case 2:
        return on_lane([this] { allocate(size(), how(), 1 + input_.below(64)); });
      case 3:
      case 4:
        return on_lane([this] { release(); });
      case 5:
        return on_lane([this] { release_some(); });
      case 6:
        return on_lane([this] { resize(); });
      case 7:
        lane_ = input_.below(kLanes);
        return;
      case 8:
        return on_lane([this] { scope(); });
      case 9:
        return make_or_retire();
      case 10:
        return limit();
      case 11:
        return on_lane([this] { charge(); });
      case 12:
      case 13:
        return on_lane([this] { use_arena(); });
      case 14:
        model_.verify();
        return;
      case 15:
        return rarely();
    }
  }

  void rarely() {
    switch (input_.below(4)) {
      case 0:
        lanes_[lane_].end();
        scopes_[lane_].clear();
        return;
      case 1:
        return on_lane([] { FUZZ_CHECK(tally_trim() >= 0); });
      case 2:
        return on_lane([this] { pressure(); });
      case 3:
        return on_lane([this] { refused(); });
    }
  }

  void on_lane(const std::function<void()>& body) { lanes_[lane_].run(body); }

  // ---- Blocks.

  size_t size() {
    const unsigned kind = input_.byte();
    if (kind < 128) return input_.below(256) * (kind % 8 + 1);
    if (kind < 200) return input_.number(2);
    if (kind < 240) return input_.number(2) * 16;
    if (kind < 252) return input_.number(3) % (6 << 20);
    return (kind % 2 == 0 ? SIZE_MAX : PTRDIFF_MAX) - input_.number(2);
  }
  static bool is_absurd(size_t size) { return size > size_t{1} << 40; }

  // A way to ask for a block.
  struct How {
    unsigned call;
    size_t tag;  // index; of calls with a tag
    size_t alignment;
  };
  How how() {
    const unsigned call = input_.below(9);
    const size_t tag = input_.below(Model::kPaths.size());
    return {call, tag, size_t{1} << input_.below(14)};
  }
  static bool has_tag(const How& how) { return how.call >= 6; }

  void* ask(size_t size, const How& how) {
    const tally_tag tag = model_.tag(how.tag).asked_id();
    switch (how.call) {
      case 0:
        return api::malloc(size);
      case 1:
        return api::calloc(1, size, __builtin_return_address(0));
      case 2:
        return api::aligned_alloc(how.alignment, size, __builtin_return_address(0));
      case 3:
        return api::memalign(how.alignment | 1, size, __builtin_return_address(0));
      case 4: {
        void* p = nullptr;
        const size_t alignment = std::max(how.alignment, sizeof(void*));
        const int error = api::posix_memalign(&p, alignment, size, __builtin_return_address(0));
        if (error != 0) errno = error;
        return p;
      }
      case 5:
        return api::realloc(nullptr, size, __builtin_return_address(0));
      case 6:
        return tally_malloc(tag, size);
      case 7:
        return tally_calloc(tag, size, 1);
      default:
        return tally_aligned_alloc(tag, how.alignment, size);
    }
  }
  static bool is_aligned(const void* p, const How& how) {
    const bool has_own = (how.call >= 2 && how.call <= 4) || how.call == 8;
    return reinterpret_cast<uintptr_t>(p) % (has_own ? how.alignment : 1) == 0;
  }

  bool has_room(uint64_t bytes) const {
    return is_absurd(bytes) || (bytes_ + bytes <= kMostBytes && blocks_.size() < kMostBlocks);
  }

  void allocate(size_t size, const How& how, size_t count) {
    for (size_t i = 0; i < count && has_room(size); ++i) {
      const tally_tag in_force = tally_tag_current();
      errno = 0;
      void* p = ask(size, how);
      if (p == nullptr) return check_refused(size, how, in_force);
      FUZZ_CHECK(errno == 0);
      FUZZ_CHECK(is_aligned(p, how));
      if (how.call == 1 || how.call == 7) {
        visit_places(size, size, [&](size_t at) { FUZZ_CHECK(static_cast<char*>(p)[at] == 0); });
      }
      if (has_tag(how)) FUZZ_CHECK(tally_tag_of(p) == model_.tag(how.tag).id);
      if (!has_tag(how) && !scopes_[lane_].empty()) FUZZ_CHECK(tally_tag_of(p) == in_force);
      keep(p, size);
    }
  }

  void check_refused(size_t size, const How& how, tally_tag in_force) {
    if (has_tag(how) && !model_.tag(how.tag).is_live) {
      FUZZ_CHECK(errno == EINVAL);
      return;
    }
    FUZZ_CHECK(errno == ENOMEM);
    if (is_absurd(size)) return;
    const size_t tag = has_tag(how) ? how.tag : model_.index_of(in_force, 0);
    FUZZ_CHECK(model_.may_refuse(model_.tag(tag), size + how.alignment));
  }

  void keep(void* p, size_t asked) {
    const size_t size = tally_usable_size(p);
    FUZZ_CHECK(size >= asked && api::malloc_usable_size(p) == size);
    const Block block = {p, size, asked, ++seed_, model_.index_of(tally_tag_of(p), size)};
    model_.add(block);
    fill(p, size, block.seed);
    bytes_ += size;
    blocks_.push_back(block);
  }

  // Takes it out of the model, for a free or a realloc.
  Block take(size_t index) {
    const Block block = blocks_[index];
    FUZZ_CHECK(block.is_intact());
    FUZZ_CHECK(tally_usable_size(block.p) == block.size);
    FUZZ_CHECK(tally_tag_of(block.p) == model_.tag(block.tag).id);
    model_.remove(block);
    bytes_ -= block.size;
    blocks_[index] = blocks_.back();
    blocks_.pop_back();
    return block;
  }

  void give_back(size_t index) {
    const Block block = take(index);
    errno = 7;
    index % 2 == 0 ? tally_free(block.p) : api::free(block.p);
    FUZZ_CHECK(errno == 7);
  }

  size_t some_block() { return input_.number(2) % blocks_.size(); }

  void release() {
    if (!blocks_.empty()) give_back(some_block());
  }
  // Every n-th from some block on, as patterns of holes.
  void release_some() {
    if (blocks_.empty()) return;
    size_t at = some_block();
    const size_t step = 1 + input_.below(8);
    for (size_t left = 1 + input_.below(128); left != 0 && at < blocks_.size();
         --left, at += step) {
      give_back(at);
    }
  }

  void resize() {
    if (blocks_.empty()) return;
    const size_t index = some_block(), size = this->size();
    const unsigned call = input_.below(3);
    const size_t to = input_.below(Model::kPaths.size());
    if (!has_room(size)) return;
    const Block was = take(index);
    const bool moves = call == 2;
    errno = 0;
    void* p = call == 0   ? api::realloc(was.p, size, __builtin_return_address(0))
              : call == 1 ? tally_realloc(TALLY_TAG_NONE, was.p, size)
                          : tally_realloc(model_.tag(to).asked_id(), was.p, size);
    if (p != nullptr) {
      FUZZ_CHECK(errno == 0);
      FUZZ_CHECK(is_filled(p, was.size, was.seed, std::min(was.asked, size)));
      FUZZ_CHECK(tally_tag_of(p) == model_.tag(moves ? to : was.tag).id);
      return keep(p, size);
    }
    const TagState& tag = model_.tag(moves ? to : was.tag);
    if (size == 0 && errno == 0) return;  // freed
    FUZZ_CHECK(errno == (moves && !tag.is_live ? EINVAL : ENOMEM));
    FUZZ_CHECK(errno == EINVAL || is_absurd(size) || model_.may_refuse(tag, size + was.size));
    FUZZ_CHECK(tally_usable_size(was.p) == was.size && was.is_intact());
    model_.add(was);
    bytes_ += was.size;
    blocks_.push_back(was);
  }

  // ---- Tags.

  void scope() {
    std::vector<size_t>& scopes = scopes_[lane_];
    if (input_.below(2) == 0) {
      const size_t tag = input_.below(Model::kPaths.size());
      errno = 0;
      if (tally_tag_push(model_.tag(tag).asked_id()) == 0) {
        FUZZ_CHECK(model_.tag(tag).is_live && scopes.size() < kDepthMost);
        FUZZ_CHECK(tally_tag_current() == model_.tag(tag).id);
        scopes.push_back(tag);
      } else {
        const bool is_limited = errno == ENOMEM && model_.may_refuse(model_.tag(0), 0);
        FUZZ_CHECK(!model_.tag(tag).is_live || scopes.size() == kDepthMost || is_limited);
      }
    } else if (scopes.empty()) {
      FUZZ_CHECK(tally_tag_pop() == -1 && errno == EINVAL);
    } else {
      FUZZ_CHECK(tally_tag_pop() == 0);
      scopes.pop_back();
      const bool is_known = !scopes.empty() && model_.tag(scopes.back()).is_live;
      FUZZ_CHECK(!is_known || tally_tag_current() == model_.tag(scopes.back()).id);
    }
  }

  void make_or_retire() {
    const size_t index = 1 + input_.below(Model::kPaths.size() - 1);
    TagState& tag = model_.tag(index);
    if (input_.below(3) != 0) {
      const tally_tag id = tally_tag_create(tag.path.c_str());
      FUZZ_CHECK(id != TALLY_TAG_NONE || model_.may_refuse(model_.tag(0), 0));
      if (id != TALLY_TAG_NONE) model_.look_at_tags(index);
      FUZZ_CHECK(id == TALLY_TAG_NONE || (tag.is_live && tag.id == id));
    } else if (tag.is_live) {
      FUZZ_CHECK(tally_tag_retire(tag.id) == 0);
      model_.look_at_tags(index);
      FUZZ_CHECK(!tag.is_live);
    }
  }

  // ---- Limits.

  void limit() {
    TagState& tag = model_.tag(input_.below(Model::kPaths.size()));
    if (!tag.is_live) return;
    const tally_stats_t now = Model::stats(tag.id);
    const uint64_t held = now.total.footprint_bytes;
    const uint64_t bound = held / 2 * input_.below(4) + input_.number(2) * 64;
    const unsigned kind = input_.below(4);
    const bool has_soft = kind != 1 && kind != 3, has_hard = kind != 2 && kind != 3;
    const uint64_t soft = has_soft ? bound - bound / 8 : TALLY_LIMIT_NONE;
    const uint64_t hard = has_hard ? bound : TALLY_LIMIT_NONE;
    const tally_policy policy = input_.below(16) == 0 ? TALLY_POLICY_WAIT(1) : TALLY_POLICY_FAIL;
    FUZZ_CHECK(tally_limit_set(tag.id, soft, hard, policy) == 0);
    tag.soft = soft;
    tag.hard = hard;
    tag.ceiling = std::max(hard, now.total.peak_footprint_bytes);
  }

  void charge() {
    TagState& tag = model_.tag(input_.below(Model::kPaths.size()));
    const uint64_t bytes = input_.number(2) * 16;
    if (input_.below(2) == 0) {
      errno = 0;
      if (tally_charge(tag.asked_id(), bytes) == 0) {
        FUZZ_CHECK(tag.is_live);
        tag.charged += bytes;
      } else {
        FUZZ_CHECK(errno == (tag.is_live ? ENOMEM : EINVAL));
        FUZZ_CHECK(!tag.is_live || model_.may_refuse(tag, bytes));
      }
    } else if (tag.is_live || tag.has_content()) {
      const bool is_there = bytes <= tag.charged;
      FUZZ_CHECK(tally_uncharge(tag.id, bytes) == (is_there ? 0 : -1));
      FUZZ_CHECK(is_there || errno == ERANGE);
      if (is_there) tag.charged -= bytes;
    }
  }

  void pressure() {
    const TagState& tag = model_.tag(input_.below(Model::kPaths.size()));
    if (input_.below(2) == 0) {
      const int error = tally_on_pressure(tag.asked_id(), on_pressure, kPressureArg, nullptr);
      FUZZ_CHECK(error == 0 || !tag.is_live || errno == ENOMEM);
    } else {
      const int error = tally_off_pressure(tag.asked_id(), on_pressure, kPressureArg);
      FUZZ_CHECK(error == 0 || errno == ENOENT || errno == EINVAL);
    }
  }

  // What no program should ask for.
  void refused() {
    const size_t size = this->size();
    FUZZ_CHECK(tally_aligned_alloc(TALLY_TAG_ROOT, input_.below(64) * 2 + 3, size) == nullptr);
    FUZZ_CHECK(errno == EINVAL || errno == ENOMEM);
    FUZZ_CHECK(tally_malloc(kNoTag, size) == nullptr && errno == EINVAL);
    FUZZ_CHECK(tally_calloc(TALLY_TAG_ROOT, SIZE_MAX / 2, 3) == nullptr && errno == ENOMEM);
    FUZZ_CHECK(tally_tag_of(&input_) == TALLY_TAG_NONE);
    FUZZ_CHECK(tally_tag_retire(TALLY_TAG_ROOT) == -1 && errno == EINVAL);
    FUZZ_CHECK(tally_limit_set(TALLY_TAG_ROOT, 2, 1, TALLY_POLICY_FAIL) == -1 && errno == EINVAL);
  }

  // ---- Arenas.

  void use_arena() {
    const unsigned kind = input_.below(16);
    if (arenas_.empty() || kind == 0) return make_arena();
    Arena& arena = arenas_[input_.below(arenas_.size())];
    switch (kind) {
      case 1:
        arena.marks.push_back({tally_arena_mark(arena.arena), arena.blocks.size(), true});
        if (arena.marks.back().mark == TALLY_MARK_NONE) arena.marks.pop_back();
        break;
      case 2:
        rewind(&arena);
        break;
      case 3:
        drop_to(&arena, 0);
        for (ArenaMark& mark : arena.marks) mark.holds = false;
        tally_arena_reset(arena.arena);
        break;
      case 4:
        return destroy(static_cast<size_t>(&arena - arenas_.data()));
      default:
        allocate_in(&arena);
    }
    look_at(&arena);
  }

  void make_arena() {
    if (arenas_.size() == 8) return;
    const size_t tag = input_.below(Model::kPaths.size());
    tally_arena_options options = {};
    options.size = sizeof options;
    options.first_bytes = input_.number(2);
    options.most_bytes = options.first_bytes * input_.below(4);
    options.keep_bytes = input_.number(2) * 4;
    errno = 0;
    tally_arena* made = tally_arena_create(model_.tag(tag).asked_id(), &options);
    if (made == nullptr) {
      const bool is_wrong = options.most_bytes != 0 && options.most_bytes < options.first_bytes;
      const TagState& state = model_.tag(tag);
      FUZZ_CHECK(errno == EINVAL ? !state.is_live || is_wrong : model_.may_refuse(state, 4096));
      return;
    }
    arenas_.push_back({made, tag});
    look_at(&arenas_.back());
    ++model_.tag(tag).live_blocks;  // the descriptor
  }

  void allocate_in(Arena* arena) {
    const size_t size = input_.below(8) == 0 ? this->size() : input_.below(256);
    const size_t alignment = size_t{1} << (input_.below(4) == 0 ? input_.below(13) : 3);
    if (!has_room(size) || arena->blocks.size() >= kMostBlocks) return;
    errno = 0;
    void* p = tally_arena_alloc(arena->arena, size, alignment);
    const TagState& tag = model_.tag(arena->tag);
    if (p == nullptr) {
      FUZZ_CHECK(errno == ENOMEM || (errno == EINVAL && !tag.is_live));
      FUZZ_CHECK(is_absurd(size) || !tag.is_live ||
                 model_.may_refuse(tag, size + alignment + arena->reserved));
      return;
    }
    FUZZ_CHECK(errno == 0 && reinterpret_cast<uintptr_t>(p) % alignment == 0);
    const Block block = {p, size, size, ++seed_, arena->tag};
    model_.ranges().add(p, std::max<size_t>(size, 1));
    fill(p, size, block.seed);
    arena->blocks.push_back(block);
    bytes_ += size;
  }

  // Those beyond the first `count` are gone, and were unharmed.
  void drop_to(Arena* arena, size_t count) {
    for (; arena->blocks.size() > count; arena->blocks.pop_back()) {
      const Block& block = arena->blocks.back();
      FUZZ_CHECK(block.is_intact());
      model_.ranges().remove(block.p);
      bytes_ -= block.size;
    }
  }

  void rewind(Arena* arena) {
    if (arena->marks.empty()) return;
    const size_t index = input_.below(arena->marks.size());
    const ArenaMark mark = arena->marks[index];
    // Equal ones, with nothing in between, hold and fall together.
    bool holds = false;
    for (const ArenaMark& other : arena->marks) holds |= other.mark == mark.mark && other.holds;
    if (!holds) {
      FUZZ_CHECK(tally_arena_rewind(arena->arena, mark.mark) == -1 && errno == EINVAL);
      return;
    }
    drop_to(arena, mark.blocks);
    FUZZ_CHECK(tally_arena_rewind(arena->arena, mark.mark) == 0);
    for (size_t i = index + 1; i < arena->marks.size(); ++i) {
      if (arena->marks[i].mark != mark.mark) arena->marks[i].holds = false;
    }
  }

  // What it has of its tag is part of what the tag holds.
  void look_at(Arena* arena) {
    tally_arena_stats_t stats = {};
    stats.size = sizeof stats;
    FUZZ_CHECK(tally_arena_stats(arena->arena, &stats) == 0);
    FUZZ_CHECK(stats.used_bytes <= stats.reserved_bytes);
    FUZZ_CHECK(stats.used_bytes <= stats.peak_used_bytes);
    FUZZ_CHECK(stats.reserved_bytes <= stats.peak_reserved_bytes);
    TagState& tag = model_.tag(arena->tag);
    tag.live_bytes += stats.reserved_bytes - arena->reserved;
    tag.live_blocks += stats.segment_count - arena->segments;
    arena->reserved = stats.reserved_bytes;
    arena->segments = stats.segment_count;
  }

  void destroy(size_t index) {
    Arena arena = std::move(arenas_[index]);
    arenas_.erase(arenas_.begin() + ptrdiff_t(index));
    drop_to(&arena, 0);
    TagState& tag = model_.tag(arena.tag);
    tag.live_bytes -= arena.reserved;
    tag.live_blocks -= arena.segments + 1;
    tally_arena_destroy(arena.arena);
  }

  // ---- The end: nothing is left, neither counted nor held.

  void give_all_back() {
    while (!arenas_.empty()) destroy(0);
    while (!blocks_.empty()) give_back(blocks_.size() - 1);
    for (TagState& tag : model_.tags()) {
      if (tag.charged != 0) FUZZ_CHECK(tally_uncharge(tag.id, tag.charged) == 0);
      tag.charged = 0;
      if (tag.is_live) tally_off_pressure(tag.id, on_pressure, kPressureArg);
    }
    model_.verify();
    for (size_t index = Model::kPaths.size(); index-- != 0;) {
      TagState& tag = model_.tag(index);
      if (!tag.is_live) continue;
      FUZZ_CHECK(tally_limit_set(tag.id, TALLY_LIMIT_NONE, TALLY_LIMIT_NONE, 0) == 0);
      if (index != 0) FUZZ_CHECK(tally_tag_retire(tag.id) == 0);
    }
    for (Lane& lane : lanes_) lane.end();
    tally_trim();
    tally_snapshot_t* snapshot = tally_snapshot();
    FUZZ_CHECK(snapshot != nullptr);
    const tally_process_stats_t& process = snapshot->process;
    FUZZ_CHECK(process.footprint_bytes - process.metadata_bytes <= kLeftMost);
    FUZZ_CHECK(process.metadata_bytes <= kMetadataMost);
    tally_snapshot_free(snapshot);
  }

  static constexpr uint64_t kLeftMost = 0;
  static constexpr uint64_t kMetadataMost = 64 << 20;  // whatever ran in this process before

  Input input_;
  Model model_;
  Lane lanes_[kLanes];
  size_t lane_ = 0;
  std::vector<size_t> scopes_[kLanes];
  std::vector<Block> blocks_;
  std::vector<Arena> arenas_;
  uint64_t bytes_ = 0;
  uint32_t seed_ = 0;
};

}  // namespace
}  // namespace tally::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  tally::fuzz::Program(data, size).run();
  return 0;
}
