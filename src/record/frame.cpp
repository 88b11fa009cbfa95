#include "record/frame.h"

#include <string.h>

#include "backend/backend.h"
#include "base/math.h"
#include "os/os.h"

namespace tally::record {
namespace {

uint64_t size_of(const tally_stats_t& tag) { return tag.total.footprint_bytes; }

// The tags from this size on are at most `most`, all but a few of that size.
uint64_t least_size(const tally_snapshot_t& snapshot, size_t most) {
  if (snapshot.tag_count <= most) return 0;
  uint64_t low = 0,
           high = uint64_t{1} << 48;  // above high there are at most that many, above low more
  while (high - low > 1) {
    const uint64_t middle = low + (high - low) / 2;
    size_t above = 0;
    for (uint64_t i = 0; i < snapshot.tag_count; ++i) above += size_of(snapshot.tags[i]) > middle;
    (above > most ? low : high) = middle;
  }
  return high;
}

void pack(const tally_stats_t& tag, uint32_t name, TagRow* row) {
  *row = {.id = tag.id,
          .parent = tag.parent,
          .name = name,
          .retired = tag.retired,
          .pressure = tag.pressure,
          .unused = 0,
          .soft_limit = tag.soft_limit_bytes,
          .hard_limit = tag.hard_limit_bytes,
          .pressure_ms = tag.pressure_ms,
          .pressure_count = tag.pressure_count,
          .refused_count = tag.refused_count,
          .waited_count = tag.waited_count,
          .own = tag.own,
          .total = tag.total};
}

void pack(const tally_class_stats_t& of, ClassRow* row) {
  *row = {.tag = of.tag,
          .block_size = of.block_size,
          .live_blocks = of.live_blocks,
          .capacity_blocks = of.capacity_blocks,
          .footprint = of.footprint_bytes,
          .allocs = of.alloc_count,
          .requested = of.requested_bytes,
          .slabs = static_cast<uint32_t>(of.slabs),
          .fill = {},
          .sparse_slabs = static_cast<uint32_t>(of.sparse_slabs),
          .sparse_free = of.sparse_free_bytes};
  static_assert(kFillSteps == TALLY_FILL_STEPS);
  for (unsigned i = 0; i < kFillSteps; ++i) row->fill[i] = static_cast<uint32_t>(of.fill[i]);
}

// Of what callers did not ask for in `count` blocks of one size.
uint64_t rounding_of(uint64_t count, uint64_t size, uint64_t asked, uint64_t asked_in) {
  if (asked_in == 0) return 0;
  const uint64_t mean = core::min_of(asked / asked_in, size);
  return count * (size - mean);
}

}  // namespace

char* pack_rows(const tally_snapshot_t& snapshot, core::Names& names, FrameHead* frame) {
  auto* tags = reinterpret_cast<TagRow*>(frame + 1);
  size_t tag_count = 0, larger = 0;
  const uint64_t least = least_size(snapshot, kTagsMax);
  for (uint64_t i = 0; i < snapshot.tag_count; ++i) larger += size_of(snapshot.tags[i]) > least;
  // Those of just this size fill the places that the larger ones leave.
  size_t places = kTagsMax - core::min_of(larger, kTagsMax);
  for (uint64_t i = 0; i < snapshot.tag_count; ++i) {
    const tally_stats_t& tag = snapshot.tags[i];
    if (size_of(tag) < least || (size_of(tag) == least && places == 0)) continue;
    const uint32_t name = names.offset_of(tag.name);
    if (name == core::Names::kNone) continue;
    if (size_of(tag) == least) --places;
    pack(tag, name, &tags[tag_count++]);
  }
  auto* classes = reinterpret_cast<ClassRow*>(tags + tag_count);
  size_t class_count = 0, kept = 0;
  uint64_t next = 0;
  // All three are in the order of the tags' paths.
  for (uint64_t i = 0; i < snapshot.tag_count && kept < tag_count; ++i) {
    const uint32_t id = snapshot.tags[i].id;
    const bool is_kept = tags[kept].id == id;
    for (; next < snapshot.class_count && snapshot.classes[next].tag == id; ++next) {
      if (is_kept && class_count < kClassesMax) {
        pack(snapshot.classes[next], &classes[class_count++]);
      }
    }
    kept += is_kept;
  }
  frame->tag_count = static_cast<uint32_t>(tag_count);
  frame->class_count = static_cast<uint32_t>(class_count);
  frame->tags_left_out = static_cast<uint32_t>(snapshot.tag_count - tag_count);
  frame->classes_left_out = static_cast<uint32_t>(snapshot.class_count - class_count);
  frame->foreign_frees = snapshot.process.foreign_frees;
  return reinterpret_cast<char*>(classes + class_count);
}

void pack_point(const tally_snapshot_t& snapshot, core::Names& names, Point* point) {
  const tally_stats_t* largest[kPointTagsMax];
  size_t count = 0;
  auto own = [](const tally_stats_t* tag) { return tag->own.footprint_bytes; };
  for (uint64_t i = 0; i < snapshot.tag_count; ++i) {
    const tally_stats_t* tag = &snapshot.tags[i];
    if (own(tag) == 0 || (count == kPointTagsMax && own(tag) <= own(largest[count - 1]))) continue;
    if (count < kPointTagsMax) ++count;
    size_t at = count - 1;
    for (; at != 0 && own(largest[at - 1]) < own(tag); --at) largest[at] = largest[at - 1];
    largest[at] = tag;
  }
  *point = {};
  for (size_t i = 0; i < count; ++i) {
    const uint32_t name = names.offset_of(largest[i]->name);
    if (name == core::Names::kNone) continue;
    point->tags[point->tag_count++] = {
        .name = name,
        .live_kib = static_cast<uint32_t>(largest[i]->own.live_bytes / 1024),
        .footprint_kib = static_cast<uint32_t>(own(largest[i]) / 1024)};
  }
  point->live = snapshot.process.live_bytes;
  point->footprint = snapshot.process.footprint_bytes;
}

Ledger ledger_of(const tally_snapshot_t& snapshot) {
  Ledger ledger = {};
  uint64_t live_in_slabs = 0, in_slabs = 0;
  for (uint64_t i = 0; i < snapshot.class_count; ++i) {
    const tally_class_stats_t& row = snapshot.classes[i];
    const uint64_t live = row.live_blocks * row.block_size;
    live_in_slabs += live;
    in_slabs += row.footprint_bytes;
    ledger.empty_slabs += row.empty_bytes;
    ledger.rounding +=
        rounding_of(row.live_blocks, row.block_size, row.requested_bytes, row.alloc_count);
  }
  ledger.live = live_in_slabs;
  for (uint64_t i = 0; i < snapshot.tag_count; ++i) {
    const tally_counts& own = snapshot.tags[i].own;
    ledger.live += own.large_live_bytes;
    ledger.charged += own.charged_bytes;
    ledger.rounding += own.large_live_blocks * core::os::page_size() / 2;
  }
  // What threads have in hand counts as in use in its slab, and is not live.
  in_slabs -= core::min_of(in_slabs, live_in_slabs);
  ledger.in_slabs = in_slabs - core::min_of(in_slabs, ledger.empty_slabs);
  ledger.metadata = snapshot.process.metadata_bytes;
  // Address space of which nobody knows how much is resident is in `other`.
  if (core::backend::selected()->surplus_is_resident) {
    ledger.backend_surplus = snapshot.process.backend_surplus_bytes;
  }
  ledger.mapped = snapshot.process.mapped_bytes;
  return ledger;
}

}  // namespace tally::record
