#include "json_text.h"
#include "ledger_parts.h"
#include "stat_formats.h"
#include "summary.h"

namespace tally::tool {
namespace {

using nlohmann::ordered_json;

ordered_json limit(uint64_t bytes) {
  return bytes == TALLY_LIMIT_NONE ? ordered_json(nullptr) : ordered_json(bytes);
}

void put_counts(ordered_json& object, const tally_counts& counts) {
  object["live_bytes"] = counts.live_bytes;
  object["live_blocks"] = counts.live_blocks;
  object["footprint_bytes"] = counts.footprint_bytes;
  object["peak_footprint_bytes"] = counts.peak_footprint_bytes;
  object["alloc_count"] = counts.alloc_count;
  object["free_count"] = counts.free_count;
  object["requested_bytes"] = counts.requested_bytes;
  object["large_live_bytes"] = counts.large_live_bytes;
  object["large_live_blocks"] = counts.large_live_blocks;
  object["charged_bytes"] = counts.charged_bytes;
}

ordered_json tag_object(const Record& record, const record::TagRow& tag) {
  ordered_json object;
  object["id"] = tag.id;
  object["name"] = std::string(record.name(tag));
  object["parent"] =
      tag.parent == TALLY_TAG_NONE ? ordered_json(nullptr) : ordered_json(tag.parent);
  put_counts(object, tag.own);
  object["held_bytes"] = tag.total.footprint_bytes;
  object["soft_limit_bytes"] = limit(tag.soft_limit);
  object["hard_limit_bytes"] = limit(tag.hard_limit);
  object["pressure"] = pressure_name(tag.pressure);
  object["pressure_ms"] = tag.pressure_ms;
  object["pressure_count"] = tag.pressure_count;
  object["refused_count"] = tag.refused_count;
  object["waited_count"] = tag.waited_count;
  put_counts(object["total"], tag.total);
  return object;
}

ordered_json class_object(const record::ClassRow& row) {
  ordered_json object;
  object["tag"] = row.tag;
  object["size"] = row.block_size;
  object["live_blocks"] = row.live_blocks;
  object["capacity_blocks"] = row.capacity_blocks;
  object["slabs"] = row.slabs;
  object["footprint_bytes"] = row.footprint;
  object["alloc_count"] = row.allocs;
  object["requested_bytes"] = row.requested;
  object["fill"] = row.fill;
  object["sparse_slabs"] = row.sparse_slabs;
  object["sparse_free_bytes"] = row.sparse_free;
  return object;
}

ordered_json process_object(const Record& record) {
  tally_counts all = {};
  for (const record::TagRow& tag : record.tags()) {
    all.live_bytes += tag.own.live_bytes;
    all.footprint_bytes += tag.own.footprint_bytes;
  }
  const record::Ledger& ledger = record.ledger();
  ordered_json process;
  process["rss_bytes"] = ledger.rss;
  process["live_bytes"] = all.live_bytes;
  process["footprint_bytes"] = all.footprint_bytes;
  process["mapped_bytes"] = ledger.mapped;
  process["metadata_bytes"] = ledger.metadata;
  process["foreign_frees"] = record.frame_head().foreign_frees;
  process["backend_surplus_bytes"] = ledger.backend_surplus;
  return process;
}

}  // namespace

std::string stat_as_json(const Record& record) {
  const record::FrameHead& frame = record.frame_head();
  ordered_json root;
  root["version"] = TALLY_STATS_VERSION;
  root["pid"] = record.head.pid;
  root["backend"] = std::string(text_of(record.head.backend));
  root["state"] = state_of(record);
  root["time_ns"] = frame.time;  // since 1970
  root["age_ms"] = age_of(record) / 1'000'000;
  if (!record.is_dump) {
    root["uptime_ms"] = frame.uptime / 1'000'000;
    root["walk_us"] = frame.walk / 1000;
    root["command"] = command_of(record.head);
    root["executable"] = std::string(text_of(record.head.executable));
    root["tally_version"] = std::string(text_of(record.head.tally_version));
    root["tag_by"] = std::string(text_of(record.head.tag_by));
    root["left_out"] = {{"tags", frame.tags_left_out}, {"classes", frame.classes_left_out}};
    ordered_json& ledger = root["ledger"];
    for (const LedgerPart& part : ledger_parts(record.ledger())) {
      ledger[std::string(part.key) + "_bytes"] = part.bytes;
    }
    ledger["rounding_bytes"] = record.ledger().rounding;  // of live
    ledger["charged_bytes"] = record.ledger().charged;    // is no heap
  }
  root["process"] = process_object(record);
  root["tags"] = ordered_json::array();
  for (const record::TagRow& tag : record.tags()) root["tags"].push_back(tag_object(record, tag));
  root["classes"] = ordered_json::array();
  for (const record::ClassRow& row : record.classes()) {
    root["classes"].push_back(class_object(row));
  }
  return json_text(root);
}

}  // namespace tally::tool
