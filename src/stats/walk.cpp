#include "stats/walk.h"

#include <errno.h>
#include <string.h>

#include <atomic>

#include "backend/backend.h"
#include "base/math.h"
#include "heap/heap.h"
#include "heap/misuse.h"
#include "heap/purge.h"
#include "memory/chunk.h"
#include "memory/meta.h"
#include "os/os.h"
#include "os/resident.h"

namespace tally::core {
namespace {

// What the walk sums up for one tag and class.
struct ClassSums {
  uint64_t in_slabs;  // blocks that are not free in their slab
  uint64_t in_hand;   // of those, not allocated: in a heap
  uint64_t capacity;  // blocks that committed memory has room for

  // Slabs and heaps are read at different moments, so the difference needs bounds while threads
  // run.
  uint64_t live() const {
    uint64_t live = in_slabs > in_hand ? in_slabs - in_hand : 0;
    return live < capacity ? live : capacity;
  }
  void add_slab(uint32_t used, uint32_t room, uint32_t /*bytes*/, uint32_t /*size*/) {
    in_slabs += used;
    capacity += room;
  }
  void add_heap(uint64_t hand, uint64_t /*allocs*/, uint64_t /*requested*/) { in_hand += hand; }
};

// And what a snapshot tells besides.
struct ClassDetails : ClassSums {
  uint64_t footprint;
  uint64_t allocs;
  uint64_t requested;
  uint64_t empty_bytes;  // of slabs that hold no block
  uint64_t sparse_free;  // bytes, in slabs that are sparse
  uint32_t slabs;
  uint32_t sparse;
  uint32_t fill[TALLY_FILL_STEPS];

  void add_slab(uint32_t used, uint32_t room, uint32_t bytes, uint32_t size) {
    ClassSums::add_slab(used, room, bytes, size);
    footprint += bytes;
    ++slabs;
    if (used == 0) {
      ++fill[0];
      empty_bytes += bytes;
      return;
    }
    ++fill[used >= room ? TALLY_FILL_STEPS - 1 : used * TALLY_FILL_STEPS / room];
    if (used > room / 4) return;
    ++sparse;
    sparse_free += uint64_t{room - used} * size;
  }
  void add_heap(uint64_t hand, uint64_t of_allocs, uint64_t of_requested) {
    ClassSums::add_heap(hand, of_allocs, of_requested);
    allocs += of_allocs;
    requested += of_requested;
  }
};

// Of a tag, and perhaps those below it.
struct TagTotals {
  uint64_t allocs;
  uint64_t requested;
};
struct TagSums {
  ClassSums classes[kClasses];
  TagTotals tag;

  ClassSums* of(unsigned c) { return &classes[c]; }
  const ClassSums* find(unsigned c) const { return &classes[c]; }
  ClassSums* find(unsigned c) { return &classes[c]; }
  TagTotals* totals() { return &tag; }
  const TagTotals* totals() const { return &tag; }
};

// Of all tags at once. A tag has few of the classes, so that there is a row only for those of which
// it has a slab.
class Sums {
 public:
  struct OfTag {
    TagTotals totals;
    uint32_t rows[kClasses];  // from 1; 0: none
  };
  struct Memory {
    OfTag* tags;
    size_t tag_count;
    ClassDetails* rows;
    size_t row_most;
  };
  explicit Sums(const Memory& memory) : memory_(memory) { clear(); }

  void clear() {
    memset(memory_.tags, 0, memory_.tag_count * sizeof(OfTag));
    row_count_ = 0;
  }
  // As a pointer to TagSums.
  class Of {
   public:
    Of(Sums* all, OfTag* tag) : all_(all), tag_(tag) {}
    explicit operator bool() const { return tag_ != nullptr; }
    const Of* operator->() const { return this; }
    TagTotals* totals() const { return &tag_->totals; }
    ClassDetails* of(unsigned c) const { return all_->row(&tag_->rows[c]); }
    ClassDetails* find(unsigned c) const {
      const uint32_t row = tag_->rows[c];
      return row == 0 ? nullptr : &all_->memory_.rows[row - 1];
    }

   private:
    Sums* all_;
    OfTag* tag_;
  };
  Of of(uint32_t id) { return {this, id < memory_.tag_count ? &memory_.tags[id] : nullptr}; }

 private:
  // nullptr: there came to be more than there was room for, since.
  ClassDetails* row(uint32_t* index) {
    if (*index == 0) {
      if (row_count_ == memory_.row_most) return nullptr;
      memory_.rows[row_count_] = {};
      *index = ++row_count_;
    }
    return &memory_.rows[*index - 1];
  }

  Memory memory_;
  uint32_t row_count_ = 0;
};

template <class Class>
void add(Class* sums, const Slab& slab, unsigned c) {
  // In this order: what is released meanwhile is first out no more, and then not back either.
  const uint32_t remote = slab.remote.count();
  at_point("walk: a slab is half read");
  const uint32_t out = slab.level.out();
  const auto bytes = static_cast<uint32_t>(slab.bytes.load(std::memory_order_relaxed));
  const auto size = static_cast<uint32_t>(class_size(c));
  if (sums != nullptr) sums->add_slab(out > remote ? out - remote : 0, bytes / size, bytes, size);
}

template <class SumsOfTag>
void add(SumsOfTag sums, const Heap& heap) {
  for (unsigned c = 0; c < kClasses; ++c) {
    const uint64_t allocs = heap.classes[c].allocs.get();
    const uint64_t handed = heap.classes[c].handed.get();
    const uint64_t requested = heap.classes[c].requested.get();
    sums->totals()->allocs += allocs;
    sums->totals()->requested += requested;
    auto* of = sums->find(c);
    if (of == nullptr) continue;
    of->add_heap((handed > allocs ? handed - allocs : 0) + heap.store[c].returns_count.get(),
                 allocs, requested);
  }
}

// Adds up, per class, what slabs and heaps say, and what heaps that are gone said: into what
// sums_of(tag's id) points to, if it does. That is zero at first; clear() makes it so again.
template <class Clear, class SumsOf>
void walk(Clear&& clear, SumsOf&& sums_of) {
  // Heaps seldom go. Where they go all the time, the last reading stands.
  constexpr int kReadings = 8;
  for (int i = 0;; ++i) {
    const uint64_t moves = heap_moves.ended(), flushes = shared_flushes.ended();
    if (i != 0) clear();
    const Chunk* next;
    for (const Chunk* chunk = all_chunks.load(std::memory_order_acquire); chunk != nullptr;
         chunk = next) {
      next = chunk->next_chunk;
      // The next chunk's descriptors are far away, and in no cache.
      const Chunk* ahead = next != nullptr ? next : chunk;
      for (unsigned slot = 0; slot < kSlotsPerChunk; ++slot) {
        __builtin_prefetch(&ahead->slabs[slot]);
        __builtin_prefetch(&ahead->slabs[slot].remote);
        const Slab& slab = chunk->slabs[slot];
        Binding what = Binding::unpack(slab.binding.load(std::memory_order_acquire));
        if (what.kind != SlabKind::kBlocks) continue;
        if (auto sums = sums_of(what.tag)) add(sums->of(what.size_class), slab, what.size_class);
      }
    }
    for (const Heap* heap = all_heaps.load(std::memory_order_acquire); heap != nullptr;
         heap = heap->next_heap) {
      const Tag* tag = heap->tag.load(std::memory_order_acquire);
      if (tag == nullptr) continue;
      if (auto sums = sums_of(tag->id)) add(sums, *heap);
    }
    for (uint32_t id = 0; id < tag_limit(); ++id) {
      const Tag* tag = find_tag(id);
      if (tag == nullptr) continue;
      if (auto sums = sums_of(id)) {
        sums->totals()->allocs += tag->past_allocs.load(std::memory_order_relaxed);
        sums->totals()->requested += tag->past_requested.load(std::memory_order_relaxed);
      }
    }
    const bool is_whole = heap_moves.none_since(moves) && shared_flushes.none_since(flushes);
    if (is_whole || i + 1 == kReadings) return;
    await_moves();
  }
}

template <class SumsOfTag>
void add(tally_counts* counts, SumsOfTag sums) {
  for (unsigned c = 0; c < kClasses; ++c) {
    const auto* of = sums->find(c);
    if (of == nullptr) continue;
    counts->live_blocks += of->live();
    counts->live_bytes += of->live() * class_size(c);
  }
  counts->alloc_count += sums->totals()->allocs;
  counts->requested_bytes += sums->totals()->requested;
}

// What the tag counts by itself.
void add(tally_counts* counts, const Tag& tag) {
  uint64_t large_bytes = tag.large_live_bytes.load(std::memory_order_relaxed);
  uint64_t large_blocks = tag.large_live_blocks.load(std::memory_order_relaxed);
  counts->large_live_bytes += large_bytes;
  counts->large_live_blocks += large_blocks;
  uint64_t charged = tag.charged.load(std::memory_order_relaxed);
  counts->charged_bytes += charged;
  counts->live_bytes += tag.id == kOwnTag ? meta::used_bytes() : large_bytes + charged;
  counts->live_blocks += large_blocks;
  counts->alloc_count += tag.large_allocs.load(std::memory_order_relaxed);
  counts->requested_bytes += tag.large_requested.load(std::memory_order_relaxed);
}

// All but the free count is known, and the footprint: what was read at different moments is made to
// agree.
void settle(tally_counts* counts) {
  counts->peak_footprint_bytes = max_of(counts->peak_footprint_bytes, counts->footprint_bytes);
  counts->live_bytes = min_of(counts->live_bytes, counts->footprint_bytes);
  counts->large_live_bytes = min_of(counts->large_live_bytes, counts->live_bytes);
  counts->large_live_blocks = min_of(counts->large_live_blocks, counts->live_blocks);
  counts->charged_bytes = min_of(counts->charged_bytes, counts->live_bytes);
  counts->alloc_count = max_of(counts->alloc_count, counts->live_blocks);
  counts->free_count = counts->alloc_count - counts->live_blocks;
}

// The tag alone.
template <class SumsOfTag>
tally_counts counts_of(const Tag& tag, SumsOfTag sums) {
  tally_counts counts = {};
  add(&counts, sums);
  add(&counts, tag);
  const Gauge& footprint = tag.id == kOwnTag ? meta::footprint : tag.own;
  counts.footprint_bytes = footprint.now.load(std::memory_order_relaxed);
  counts.peak_footprint_bytes = footprint.peak.load(std::memory_order_relaxed);
  settle(&counts);
  return counts;
}

void add(tally_counts* to, const tally_counts& from) {
  to->live_bytes += from.live_bytes;
  to->live_blocks += from.live_blocks;
  to->alloc_count += from.alloc_count;
  to->free_count += from.free_count;
  to->requested_bytes += from.requested_bytes;
  to->large_live_bytes += from.large_live_bytes;
  to->large_live_blocks += from.large_live_blocks;
  to->charged_bytes += from.charged_bytes;
}

// The footprint of a tree of tags has a peak of its own: the sum of peaks is no peak.
void set_total_footprint(const Tag& tag, tally_counts* total) {
  bool is_own = tag.id == kOwnTag;
  uint64_t now =
      is_own ? meta::footprint.now.load(std::memory_order_relaxed) : tag.account().held();
  uint64_t peak =
      is_own ? meta::footprint.peak.load(std::memory_order_relaxed) : tag.account().peak();
  // It holds the tag's own, which was read before.
  total->footprint_bytes = max_of(total->footprint_bytes, now);
  total->peak_footprint_bytes = max_of(peak, total->footprint_bytes);
}

constexpr uint64_t kNoLimit = TALLY_LIMIT_NONE;

void describe(const Tag& tag, tally_stats_t* row) {
  row->size = sizeof *row;
  row->version = TALLY_STATS_VERSION;
  row->id = tag.id;
  row->parent = tag.parent() == nullptr ? kNoTag : tag.parent()->id;
  row->name = tag.name;
  row->retired = tag.is_live() ? 0 : 1;
  auto limit_of = [](uint64_t limit) { return limit == Account::kNoLimit ? kNoLimit : limit; };
  const Limit& limit = tag.limit;
  row->pressure = static_cast<uint32_t>(limit.level.load(std::memory_order_relaxed));
  row->soft_limit_bytes = limit_of(limit.soft.load(std::memory_order_relaxed));
  row->hard_limit_bytes = limit_of(tag.account().limit());
  row->pressure_ms = pressure_ms_of(&tag);
  row->pressure_count = limit.soft_events.load(std::memory_order_relaxed);
  row->refused_count = limit.refusals.load(std::memory_order_relaxed);
  row->waited_count = limit.waits.load(std::memory_order_relaxed);
}

// ---- Snapshots: one mapping that holds the struct, its rows, its names, and while it is made the
// sums. Of most of its addresses nothing is ever touched.

struct Layout {
  size_t tags, classes;
  size_t at_rows, at_classes, at_names, at_sums, at_details, bytes;

  // A class of a tag has a slab at least; there may be some more of them by the time that the walk
  // comes there.
  Layout(size_t tag_count, size_t slabs)
      : tags(tag_count), classes(min_of(tag_count * kClasses, slabs + kSlotsPerChunk)) {
    at_rows = round_up(sizeof(Mapped), 64);
    at_classes = at_rows + tags * sizeof(tally_stats_t);
    at_names = at_classes + classes * sizeof(tally_class_stats_t);
    at_sums = round_up(at_names + tags * (TALLY_TAG_PATH_MAX + 1), 64);
    at_details = round_up(at_sums + tags * sizeof(Sums::OfTag), 64);
    bytes = round_up(at_details + classes * sizeof(ClassDetails), os::page_size());
  }

  struct Mapped {
    tally_snapshot_t snapshot;
    size_t bytes;
  };
};

// Heap sort: in place and without recursion. By name, as people read trees.
void sort_by_name(tally_stats_t* rows, size_t count) {
  auto before = [rows](size_t a, size_t b) { return strcmp(rows[a].name, rows[b].name) < 0; };
  auto swap = [rows](size_t a, size_t b) {
    tally_stats_t row = rows[a];
    rows[a] = rows[b];
    rows[b] = row;
  };
  auto sift = [&](size_t root, size_t end) {
    for (size_t child; (child = 2 * root + 1) < end; root = child) {
      if (child + 1 < end && before(child, child + 1)) ++child;
      if (!before(root, child)) return;
      swap(root, child);
    }
  };
  for (size_t i = count / 2; i-- != 0;) sift(i, count);
  for (size_t end = count; end-- > 1;) {
    swap(0, end);
    sift(0, end);
  }
}

// Rows are sorted by path, so what is below a tag follows it; '/' sorts before all that a name goes
// on with but '!'..'.', whose tags are passed over.
void set_totals(tally_stats_t* rows, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    tally_stats_t& row = rows[i];
    size_t length = row.id == kRootTag ? 0 : strlen(row.name);
    row.total = row.own;
    for (size_t j = i + 1; j < count && strncmp(rows[j].name, row.name, length) == 0; ++j) {
      if (rows[j].name[length] == '/') add(&row.total, rows[j].own);
    }
    const Tag* tag = find_tag(row.id);
    if (tag != nullptr) set_total_footprint(*tag, &row.total);
    settle(&row.total);
  }
}

// Returns how many there are.
size_t fill_classes(Sums::Of sums, uint32_t tag, tally_class_stats_t* rows) {
  size_t count = 0;
  for (unsigned c = 0; c < kClasses; ++c) {
    const ClassDetails* found = sums->find(c);
    if (found == nullptr) continue;
    const ClassDetails& of = *found;
    tally_class_stats_t& row = rows[count++];
    row = {.tag = tag,
           .block_size = static_cast<uint32_t>(class_size(c)),
           .live_blocks = of.live(),
           .capacity_blocks = of.capacity,
           .slabs = of.slabs,
           .footprint_bytes = of.footprint,
           .alloc_count = of.allocs,
           .requested_bytes = of.requested,
           .empty_bytes = of.empty_bytes,
           .sparse_slabs = of.sparse,
           .sparse_free_bytes = of.sparse_free,
           .fill = {}};
    for (unsigned i = 0; i < TALLY_FILL_STEPS; ++i) row.fill[i] = of.fill[i];
  }
  return count;
}

}  // namespace

int stats_of(uint32_t id, tally_stats_t* stats) {
  TagReader reader;
  constexpr uint32_t kHead = offsetof(tally_stats_t, own);
  const Tag* tag = find_tag(id);
  if (tag == nullptr || stats == nullptr || stats->size < kHead) return EINVAL;
  uint32_t caller_size = stats->size;
  TagSums own = {};
  TagSums below = {};
  walk([&] { own = below = {}; },
       [&](uint32_t of_id) {
         const Tag* of = find_tag(of_id);
         return of == tag ? &own : is_within(of, tag) ? &below : nullptr;
       });
  tally_stats_t row = {};
  describe(*tag, &row);
  row.own = counts_of(*tag, &own);
  row.total = row.own;
  add(&row.total, &below);
  for (uint32_t i = 0; i < tag_limit(); ++i) {
    const Tag* of = find_tag(i);
    if (of != nullptr && of != tag && is_within(of, tag)) add(&row.total, *of);
  }
  set_total_footprint(*tag, &row.total);
  settle(&row.total);
  memcpy(stats, &row, min_of(caller_size, sizeof row));
  stats->size = caller_size;
  return 0;
}

uint64_t trimmable_bytes(uint32_t id) {
  TagReader reader;
  const Tag* above = find_tag(id);
  const size_t page = os::page_size();
  uint64_t bytes = 0;
  for (const Chunk* chunk = all_chunks.load(std::memory_order_acquire); chunk != nullptr;
       chunk = chunk->next_chunk) {
    for (const Slab& slab : chunk->slabs) {
      Binding what = Binding::unpack(slab.binding.load(std::memory_order_acquire));
      if (what.kind != SlabKind::kBlocks || !is_within(find_tag(what.tag), above)) continue;
      size_t size = class_size(what.size_class);
      size_t out = slab.level.out() - min_of(slab.remote.count(), slab.level.out());
      size_t taken = out * (page % size == 0 ? page : round_up(size, page) + page);
      size_t held = slab.bytes.load(std::memory_order_relaxed);
      bytes += held - min_of(taken, held);
    }
  }
  return bytes;
}

namespace {

// `base` has room for the layout, and may hold anything. A TagReader exists.
tally_snapshot_t* take_snapshot_at(char* base, const Layout& layout) {
  auto* mapped = reinterpret_cast<Layout::Mapped*>(base);
  auto* rows = reinterpret_cast<tally_stats_t*>(base + layout.at_rows);
  auto* classes = reinterpret_cast<tally_class_stats_t*>(base + layout.at_classes);
  char* names = base + layout.at_names;
  Sums sums({.tags = reinterpret_cast<Sums::OfTag*>(base + layout.at_sums),
             .tag_count = layout.tags,
             .rows = reinterpret_cast<ClassDetails*>(base + layout.at_details),
             .row_most = layout.classes});
  walk([&] { sums.clear(); }, [&](uint32_t id) { return sums.of(id); });

  tally_snapshot_t& snapshot = mapped->snapshot;
  snapshot = {};
  mapped->bytes = layout.bytes;
  snapshot.size = sizeof snapshot;
  snapshot.version = TALLY_STATS_VERSION;
  snapshot.pid = os::process_id();
  const Backend* backend = backend::selected();
  snapshot.backend = backend->name;
  snapshot.tags = rows;
  snapshot.classes = classes;
  for (uint32_t id = 0; id < layout.tags; ++id) {
    const Tag* tag = find_tag(id);
    if (tag == nullptr) continue;
    tally_stats_t& row = rows[snapshot.tag_count++];
    describe(*tag, &row);
    row.own = counts_of(*tag, sums.of(id));
    // A copy, as the tag may go while the snapshot stays.
    const size_t length = min_of(tag->name_length, TALLY_TAG_PATH_MAX);
    memcpy(names, tag->name, length);
    names[length] = 0;
    row.name = names;
    names += length + 1;
    snapshot.process.live_bytes += row.own.live_bytes;
    snapshot.process.footprint_bytes += row.own.footprint_bytes;
  }
  sort_by_name(rows, snapshot.tag_count);
  set_totals(rows, snapshot.tag_count);
  for (size_t i = 0; i < snapshot.tag_count; ++i) {
    snapshot.class_count +=
        fill_classes(sums.of(rows[i].id), rows[i].id, classes + snapshot.class_count);
  }
  snapshot.process.rss_bytes = os::resident().all;
  snapshot.process.mapped_bytes = backend::held_bytes();
  snapshot.process.metadata_bytes = meta::footprint.now.load(std::memory_order_relaxed);
  snapshot.process.foreign_frees = foreign_count();
  snapshot.process.backend_bytes = backend->taken.load(std::memory_order_relaxed);
  snapshot.process.backend_chunks = chunk_count();
  snapshot.process.backend_surplus_bytes = backend::surplus_bytes();
  return &snapshot;
}

Layout layout_now() { return {tag_limit(), chunk_count() * kSlotsPerChunk}; }

}  // namespace

tally_snapshot_t* take_snapshot() {
  TagReader reader;
  const Layout layout = layout_now();
  auto* base = static_cast<char*>(os::map(layout.bytes, os::page_size()));
  return base == nullptr ? nullptr : take_snapshot_at(base, layout);
}

const tally_snapshot_t* take_snapshot_in(SnapshotSpace* space) {
  TagReader reader;
  const Layout layout = layout_now();
  if (space->bytes < layout.bytes) {
    // Some more at once, as tags come one by one; of what is never used only addresses are lost.
    const size_t bytes = round_up(layout.bytes + layout.bytes / 2, os::page_size());
    void* larger = meta::map(bytes);
    if (larger == nullptr) return nullptr;
    if (space->start != nullptr) meta::unmap(space->start, space->bytes);
    *space = {static_cast<char*>(larger), bytes};
  }
  return take_snapshot_at(space->start, layout);
}

void free_snapshot(tally_snapshot_t* snapshot) {
  if (snapshot == nullptr) return;
  auto* mapped = reinterpret_cast<Layout::Mapped*>(snapshot);
  os::unmap(mapped, mapped->bytes);
}

}  // namespace tally::core
