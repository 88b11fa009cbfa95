#include <map>
#include <tuple>

#include "json_text.h"
#include "profile_formats.h"
#include "summary.h"

namespace tally::tool {
namespace {

using nlohmann::ordered_json;

constexpr int kJsonVersion = 1;

// Frames are many times in stacks, and once here.
class FrameTable {
 public:
  explicit FrameTable(const ShownProfile& shown) : shown_(shown) {}

  // Their numbers, innermost first.
  ordered_json numbers_of(uint32_t call) {
    ordered_json numbers = ordered_json::array();
    for (uint32_t at : shown_.symbols.stack_of(call)) {
      for (const Frame& frame : shown_.symbols.frames_of(at)) {
        numbers.push_back(number_of(frame, shown_.symbols.module_of(at)));
      }
    }
    return numbers;
  }

  ordered_json frames = ordered_json::array();

 private:
  size_t number_of(const Frame& frame, std::string_view module) {
    auto [at, is_new] = numbers_.try_emplace(
        {frame.function, frame.file, frame.line, frame.is_inlined, module}, numbers_.size());
    if (!is_new) return at->second;
    ordered_json object = {{"function", frame.function}};
    if (!frame.file.empty()) object["file"] = frame.file;
    if (frame.line != 0) object["line"] = frame.line;
    if (frame.is_inlined) object["inlined"] = true;
    if (!module.empty()) object["module"] = module;
    frames.push_back(object);
    return at->second;
  }

  const ShownProfile& shown_;
  std::map<std::tuple<std::string, std::string, uint32_t, bool, std::string_view>, size_t> numbers_;
};

}  // namespace

std::string profile_as_json(const ShownProfile& shown) {
  const record::ProfileHead& head = shown.profile.head;
  const View& view = shown.view;
  ordered_json root = {{"version", kJsonVersion},
                       {"pid", shown.record.head.pid},
                       {"command", command_of(shown.record.head)},
                       {"state", state_of(shown.record)},
                       {"view", name_of(view.kind)},
                       {"time_ns", head.time},
                       {"begun_ns", head.begun},
                       {"rate_bytes", head.rate},
                       {"samples_taken", head.taken},
                       {"samples_lost", head.lost},
                       {"objects", view.total.objects},
                       {"bytes", view.total.bytes}};
  if (view.kind == ViewKind::kPeak) {
    root["peak_time_ns"] = head.peak_time;
    root["peak_footprint_bytes"] = head.peak_footprint;
  }
  const bool has_lifetimes = view.kind == ViewKind::kLifetimes;
  if (has_lifetimes) root["lifetimes_ns"] = record::kLifetimes;
  FrameTable table(shown);
  ordered_json stacks = ordered_json::array();
  for (const ViewRow& row : view.rows) {
    ordered_json stack = {{"tag", shown.profile.name(row.site->tag)},
                          {"objects", row.amount.objects},
                          {"bytes", row.amount.bytes}};
    if (row.samples != 0) stack["samples"] = row.samples;
    if (has_lifetimes) stack["lifetimes"] = row.site->lifetimes;
    stack["frames"] = table.numbers_of(row.site->call);
    stacks.push_back(std::move(stack));
  }
  root["frames"] = std::move(table.frames);
  root["stacks"] = std::move(stacks);
  return json_text(root);
}

}  // namespace tally::tool
