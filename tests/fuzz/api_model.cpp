#include "api_model.hpp"

namespace tally::fuzz {
namespace {

void add(tally_counts* sum, const tally_counts& counts) {
  sum->live_bytes += counts.live_bytes;
  sum->live_blocks += counts.live_blocks;
  sum->footprint_bytes += counts.footprint_bytes;
  sum->large_live_bytes += counts.large_live_bytes;
  sum->large_live_blocks += counts.large_live_blocks;
  sum->charged_bytes += counts.charged_bytes;
}

void check_sane(const tally_counts& counts) {
  constexpr uint64_t kTooMuch = uint64_t{1} << 50;  // what a negative figure would look like
  FUZZ_CHECK(counts.footprint_bytes < kTooMuch);
  FUZZ_CHECK(counts.live_bytes <= counts.footprint_bytes);
  FUZZ_CHECK(counts.footprint_bytes <= counts.peak_footprint_bytes);
  FUZZ_CHECK(counts.live_blocks == counts.alloc_count - counts.free_count);
  FUZZ_CHECK(counts.large_live_bytes <= counts.live_bytes);
  FUZZ_CHECK(counts.large_live_blocks <= counts.live_blocks);
  FUZZ_CHECK(counts.charged_bytes <= counts.live_bytes);
}

// The totals are the sums of what lies below, and the process's of all.
void check_sums(const tally_snapshot_t& snapshot) {
  std::map<uint32_t, tally_counts> totals;
  tally_counts all = {};
  for (uint64_t i = 0; i < snapshot.tag_count; ++i) {
    const tally_stats_t& row = snapshot.tags[i];
    check_sane(row.own);
    add(&all, row.own);
    add(&totals[row.id], row.own);
    if (row.parent != TALLY_TAG_NONE) add(&totals[row.parent], row.total);
  }
  for (uint64_t i = 0; i < snapshot.tag_count; ++i) {
    const tally_counts &sum = totals[snapshot.tags[i].id], &total = snapshot.tags[i].total;
    FUZZ_CHECK(sum.live_bytes == total.live_bytes);
    FUZZ_CHECK(sum.live_blocks == total.live_blocks);
    FUZZ_CHECK(sum.footprint_bytes == total.footprint_bytes);
    FUZZ_CHECK(sum.large_live_bytes == total.large_live_bytes);
    FUZZ_CHECK(sum.large_live_blocks == total.large_live_blocks);
    FUZZ_CHECK(sum.charged_bytes == total.charged_bytes);
  }
  FUZZ_CHECK(all.live_bytes == snapshot.process.live_bytes);
  FUZZ_CHECK(all.footprint_bytes == snapshot.process.footprint_bytes);
}

void check_class(const tally_class_stats_t& row) {
  FUZZ_CHECK(row.live_blocks <= row.capacity_blocks);
  FUZZ_CHECK(row.capacity_blocks * row.block_size <= row.footprint_bytes);
  FUZZ_CHECK(row.empty_bytes <= row.footprint_bytes);
  uint64_t slabs = 0;
  for (uint64_t step : row.fill) slabs += step;
  FUZZ_CHECK(slabs <= row.slabs && row.sparse_slabs <= slabs);
}

}  // namespace

void Model::verify() {
  tally_snapshot_t* snapshot = tally_snapshot();
  if (snapshot == nullptr) return;  // a limit of the process
  check_sums(*snapshot);
  for (uint64_t i = 0; i < snapshot->class_count; ++i) check_class(snapshot->classes[i]);
  std::map<uint32_t, const tally_stats_t*> rows;
  for (uint64_t i = 0; i < snapshot->tag_count; ++i) {
    rows.emplace(snapshot->tags[i].id, &snapshot->tags[i]);
  }
  for (TagState& tag : tags_) {
    if (!tag.is_live && !tag.has_content()) continue;  // its id may be another's
    FUZZ_CHECK(rows.contains(tag.id));
    verify_tag(tag, *rows[tag.id]);
    tag.held = rows[tag.id]->total.footprint_bytes;
  }
  tally_snapshot_free(snapshot);
}

void Model::verify_tag(const TagState& tag, const tally_stats_t& row) const {
  FUZZ_CHECK(tag.path == row.name);
  FUZZ_CHECK(tag.is_live == (row.retired == 0));
  FUZZ_CHECK(row.own.live_bytes == tag.base_bytes + tag.live_bytes + tag.charged);
  FUZZ_CHECK(row.own.live_blocks == tag.base_blocks + tag.live_blocks);
  FUZZ_CHECK(row.own.charged_bytes == tag.charged);
  FUZZ_CHECK(row.hard_limit_bytes == tag.hard && row.soft_limit_bytes == tag.soft);
  const uint64_t held = row.total.footprint_bytes;
  FUZZ_CHECK(row.total.peak_footprint_bytes <= tag.ceiling);
  if (tag.id == TALLY_TAG_ROOT) return;  // whose total changes as tables are made
  if (tag.soft != TALLY_LIMIT_NONE && held > tag.soft) {
    FUZZ_CHECK(row.pressure != TALLY_PRESSURE_NORMAL);
  }
  // Of a hard limit the last part is the reserve's.
  const uint64_t ordinary = tag.hard - std::min<uint64_t>(64 * 1024, tag.hard / 16);
  const auto is_calm = [held](uint64_t limit) { return held < limit - limit / 16; };
  if (is_calm(tag.soft) && is_calm(ordinary)) {
    FUZZ_CHECK(row.pressure == TALLY_PRESSURE_NORMAL);
  }
}

}  // namespace tally::fuzz
