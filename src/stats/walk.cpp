#include "stats/walk.h"

#include <errno.h>
#include <string.h>

#include <atomic>

#include "backend/backend.h"
#include "base/math.h"
#include "heap/heap.h"
#include "heap/misuse.h"
#include "memory/chunk.h"
#include "memory/meta.h"
#include "os/os.h"

namespace tally::core {
namespace {

// What the walk sums up for one tag and class.
struct ClassSums {
  uint64_t in_slabs;  // blocks that are not free in their slab
  uint64_t in_hand;   // of those, not allocated: in a heap
  uint64_t capacity;  // blocks that committed memory has room for
  uint64_t footprint;
  uint64_t allocs;
  uint64_t requested;
  uint64_t empty_bytes;  // of slabs that hold no block
  uint64_t sparse_free;  // bytes, in slabs that are sparse
  uint32_t slabs;
  uint32_t sparse;
  uint32_t fill[TALLY_FILL_STEPS];

  // Slabs and heaps are read at different moments, so the difference needs bounds while threads
  // run.
  uint64_t live() const {
    uint64_t live = in_slabs > in_hand ? in_slabs - in_hand : 0;
    return live < capacity ? live : capacity;
  }
};

struct TagSums {
  ClassSums classes[kClasses];
  uint64_t past_allocs;  // of heaps that are gone
  uint64_t past_requested;
};

void add(ClassSums* sums, const Slab& slab, unsigned c) {
  const uint32_t out = slab.level.out(), remote = slab.remote.count();
  const auto bytes = static_cast<uint32_t>(slab.bytes.load(std::memory_order_relaxed));
  const auto size = static_cast<uint32_t>(class_size(c));
  const uint32_t capacity = bytes / size;
  const uint32_t used = out > remote ? out - remote : 0;
  sums->in_slabs += used;
  sums->capacity += capacity;
  sums->footprint += bytes;
  ++sums->slabs;
  const uint32_t step =
      used >= capacity ? TALLY_FILL_STEPS - 1 : used * TALLY_FILL_STEPS / capacity;
  ++sums->fill[used == 0 ? 0 : step];
  if (used == 0) {
    sums->empty_bytes += bytes;
  } else if (used <= capacity / 4) {
    ++sums->sparse;
    sums->sparse_free += uint64_t{capacity - used} * size;
  }
}

void add(TagSums* sums, const Heap& heap) {
  for (unsigned c = 0; c < kClasses; ++c) {
    uint64_t allocs = heap.classes[c].allocs.get();
    uint64_t handed = heap.classes[c].handed.get();
    uint64_t returns = heap.store[c].returns_count.get();
    if (handed == 0 && returns == 0) continue;
    ClassSums& of = sums->classes[c];
    of.in_hand += (handed > allocs ? handed - allocs : 0) + returns;
    of.allocs += allocs;
    of.requested += heap.classes[c].requested.get();
  }
}

// Adds up, per class, what slabs and heaps say, and what heaps that are gone said: into what
// sums_of(tag's id) points to, if it does. That is zero at first; clear() makes it so again.
template <class Clear, class SumsOf>
void walk(Clear&& clear, SumsOf&& sums_of) {
  // Heaps seldom go. Where they go all the time, the last reading stands.
  constexpr int kReadings = 4;
  for (int i = 0; i < kReadings; ++i) {
    uint64_t moves = heap_moves.ended();
    if (i != 0) clear();
    for (const Chunk* chunk = all_chunks.load(std::memory_order_acquire); chunk != nullptr;
         chunk = chunk->next_chunk) {
      for (const Slab& slab : chunk->slabs) {
        Binding what = Binding::unpack(slab.binding.load(std::memory_order_acquire));
        if (what.kind != SlabKind::kBlocks) continue;
        if (TagSums* sums = sums_of(what.tag)) {
          add(&sums->classes[what.size_class], slab, what.size_class);
        }
      }
    }
    for (const Heap* heap = all_heaps.load(std::memory_order_acquire); heap != nullptr;
         heap = heap->next_heap) {
      const Tag* tag = heap->tag.load(std::memory_order_acquire);
      if (tag == nullptr) continue;
      if (TagSums* sums = sums_of(tag->id)) add(sums, *heap);
    }
    for (uint32_t id = 0; id < tag_limit(); ++id) {
      const Tag* tag = find_tag(id);
      TagSums* sums = tag == nullptr ? nullptr : sums_of(id);
      if (sums == nullptr) continue;
      sums->past_allocs += tag->past_allocs.load(std::memory_order_relaxed);
      sums->past_requested += tag->past_requested.load(std::memory_order_relaxed);
    }
    if (heap_moves.none_since(moves)) return;
  }
}

void add(tally_counts* counts, const TagSums& sums) {
  for (unsigned c = 0; c < kClasses; ++c) {
    counts->live_blocks += sums.classes[c].live();
    counts->live_bytes += sums.classes[c].live() * class_size(c);
    counts->alloc_count += sums.classes[c].allocs;
    counts->requested_bytes += sums.classes[c].requested;
  }
  counts->alloc_count += sums.past_allocs;
  counts->requested_bytes += sums.past_requested;
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
tally_counts counts_of(const Tag& tag, const TagSums& sums) {
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
// sums.

struct Layout {
  size_t tags;
  size_t at_rows, at_classes, at_names, at_sums, bytes;

  explicit Layout(size_t tag_count) : tags(tag_count) {
    at_rows = round_up(sizeof(Mapped), 64);
    at_classes = at_rows + tags * sizeof(tally_stats_t);
    at_names = at_classes + tags * kClasses * sizeof(tally_class_stats_t);
    at_sums = round_up(at_names + tags * (TALLY_TAG_PATH_MAX + 1), 64);
    bytes = round_up(at_sums + tags * sizeof(TagSums), os::page_size());
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
size_t fill_classes(const TagSums& sums, uint32_t tag, tally_class_stats_t* rows) {
  size_t count = 0;
  for (unsigned c = 0; c < kClasses; ++c) {
    const ClassSums& of = sums.classes[c];
    if (of.slabs == 0) continue;
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
  row.own = counts_of(*tag, own);
  row.total = row.own;
  add(&row.total, below);
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

tally_snapshot_t* take_snapshot() {
  TagReader reader;
  Layout layout(tag_limit());
  char* base = static_cast<char*>(os::map(layout.bytes, os::page_size()));
  if (base == nullptr) return nullptr;
  auto* mapped = reinterpret_cast<Layout::Mapped*>(base);
  auto* rows = reinterpret_cast<tally_stats_t*>(base + layout.at_rows);
  auto* classes = reinterpret_cast<tally_class_stats_t*>(base + layout.at_classes);
  char* names = base + layout.at_names;
  auto* sums = reinterpret_cast<TagSums*>(base + layout.at_sums);
  walk([&] { memset(sums, 0, layout.tags * sizeof(TagSums)); },
       [&](uint32_t id) { return id < layout.tags ? &sums[id] : nullptr; });

  tally_snapshot_t& snapshot = mapped->snapshot;
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
    row.own = counts_of(*tag, sums[id]);
    // A copy, as the tag may go while the snapshot stays.
    memcpy(names, tag->name, min_of(tag->name_length, TALLY_TAG_PATH_MAX));
    row.name = names;
    names += TALLY_TAG_PATH_MAX + 1;
    snapshot.process.live_bytes += row.own.live_bytes;
    snapshot.process.footprint_bytes += row.own.footprint_bytes;
  }
  sort_by_name(rows, snapshot.tag_count);
  set_totals(rows, snapshot.tag_count);
  for (size_t i = 0; i < snapshot.tag_count; ++i) {
    snapshot.class_count +=
        fill_classes(sums[rows[i].id], rows[i].id, classes + snapshot.class_count);
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

void free_snapshot(tally_snapshot_t* snapshot) {
  if (snapshot == nullptr) return;
  auto* mapped = reinterpret_cast<Layout::Mapped*>(snapshot);
  os::unmap(mapped, mapped->bytes);
}

}  // namespace tally::core
