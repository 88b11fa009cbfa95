#include "fragmentation.h"

#include <algorithm>

#include "text.h"

namespace tally::tool {
namespace {

constexpr char kOwn[] = "/tally";

// What a file says may be anything.
uint64_t less(uint64_t from, uint64_t what) { return from - std::min(from, what); }

}  // namespace

Held held(const Record& record, std::string_view path) {
  Held sum;
  for (const record::TagRow& tag : record.tags()) {
    const std::string_view name = record.name(tag);
    if (is_within(name, kOwn) || !is_within(name, path)) continue;
    sum.live += less(tag.own.live_bytes, tag.own.charged_bytes);
    sum.footprint += less(tag.own.footprint_bytes, tag.own.charged_bytes);
  }
  return sum;
}

Fragmentation fragmentation_of(const Record& record, std::string_view path) {
  Fragmentation all;
  all.held = held(record, path);
  all.free = less(all.held.footprint, all.held.live);
  const record::Ledger& ledger = record.ledger();
  all.outside = ledger.empty_slabs + ledger.dirty + ledger.kept;
  const TagIndex index(record);
  for (const record::ClassRow& row : record.classes()) {
    const record::TagRow* tag = index.find(row.tag);
    if (tag == nullptr ? path != "/" : !is_within(record.name(*tag), path)) continue;
    const uint64_t live = row.live_blocks * row.block_size;
    const uint64_t free = less(row.footprint, live);
    all.rows.push_back(
        {tag == nullptr ? "(left out)" : printable(record.name(*tag)), &row, live, free});
    all.slabs += row.slabs;
    all.sparse_slabs += row.sparse_slabs;
    all.sparse_free += row.sparse_free;
    if (row.slabs == 1) {
      ++all.lone_slabs;
      all.lone_free += free;
    }
  }
  auto is_told = [](const FragRow& row) {
    return std::any_of(std::begin(row.row->fill), std::end(row.row->fill),
                       [](uint32_t slabs) { return slabs != 0; });
  };
  all.has_fill = !record.is_dump || std::any_of(all.rows.begin(), all.rows.end(), is_told);
  std::sort(all.rows.begin(), all.rows.end(), [](const FragRow& one, const FragRow& other) {
    if (one.free != other.free) return one.free > other.free;
    return one.tag != other.tag ? one.tag < other.tag : one.row->block_size < other.row->block_size;
  });
  return all;
}

std::vector<const FragRow*> pinning(const Fragmentation& all, size_t most) {
  std::vector<const FragRow*> rows;
  for (const FragRow& row : all.rows) {
    // Without a live block it is what a thread has in hand that keeps them.
    if (row.row->sparse_slabs != 0 && row.row->live_blocks != 0) rows.push_back(&row);
  }
  std::stable_sort(rows.begin(), rows.end(), [](const FragRow* one, const FragRow* other) {
    return one->row->sparse_free > other->row->sparse_free;
  });
  if (rows.size() > most) rows.resize(most);
  return rows;
}

std::string advice_on(const Fragmentation& all) {
  if (all.free < all.held.live / 10) {
    return "nothing: what is free in slabs is less than a tenth of what is live.";
  }
  if (all.lone_free > all.free / 2) {
    const std::string what =
        all.lone_slabs == 1
            ? "the only slab of a tag and size"
            : std::to_string(all.lone_slabs) + " slabs that are the only one of their tag and size";
    return "little: most of it is in " + what + "; fewer tags would share slabs.";
  }
  if (all.sparse_free > all.free / 2) {
    return "free the blocks that pin sparse slabs, or give those that live long a tag of their "
           "own: a slab goes back with its last block.";
  }
  return "nothing, if the program will allocate as much again: most of it is in slabs that are "
         "more than a quarter in use, and new blocks go there first.";
}

std::string fill_of(const record::ClassRow& row, Bars kind) {
  const std::vector<uint64_t> fill(row.fill, row.fill + record::kFillSteps);
  return bars(fill, *std::max_element(fill.begin(), fill.end()), kind);
}

}  // namespace tally::tool
