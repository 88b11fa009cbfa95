// tally ledger: RSS, explained as the sum that it is.
#include <cstdio>
#include <string>
#include <vector>

#include "arguments.h"
#include "commands.h"
#include "failure.h"
#include "json_text.h"
#include "ledger_parts.h"
#include "mappings.h"
#include "summary.h"
#include "target.h"
#include "text.h"

namespace tally::tool {
namespace {

constexpr char kLedgerHelp[] = R"(usage: tally ledger [--json] [TARGET]

Explains the resident memory of a process (RSS) as the sum that it is: what the program holds, what
the heap keeps for it, and what is no heap, each with a line of what it means. Of a process that runs,
and is this user's, what is no heap is read from its mappings; `residual` is then what remains
unexplained: what changed since the record was written, and what has no page yet or no more. Of a dead
one that all is one part, `other`.

  --json    each part in bytes
  --help    this text

  TARGET    a process id; the file of a record (./123 if its name is a number); nothing, where one
            running process has a record

  tally ledger 4711
  tally ledger --json | jq '.parts[] | select(.bytes > 1e6)'

exit status: 0 after success; or
  1    there is no such process, or it has no record, or that cannot be read
  2    the command line cannot be understood
)";

struct Explanation {
  uint64_t rss;
  std::vector<LedgerPart> parts;
  bool is_measured;
};

// The parts that the record knows, and in place of `shared` and `other` what the mappings tell.
Explanation explain(const Record& record) {
  const record::Ledger& ledger = record.ledger();
  Explanation all = {ledger.rss, ledger_parts(ledger), false};
  std::optional<Resident> resident =
      record.is_live ? resident_of(record.head.pid, record.ranges()) : std::nullopt;
  if (!resident) return all;
  all.is_measured = true;
  all.rss = resident->total;
  std::erase_if(all.parts, [](const LedgerPart& part) {
    return part.key == std::string("shared") || part.key == std::string("other");
  });
  // The backend's own is among the mappings that are nobody else's.
  uint64_t surplus = std::min(ledger.backend_surplus, resident->others);
  auto add = [&all](const char* key, const char* label, uint64_t bytes, const char* help) {
    all.parts.push_back({key, label, static_cast<int64_t>(bytes), help});
  };
  add("code", "code and constants", resident->code, "pages of programs' and libraries' files");
  add("data", "data", resident->data, "variables of programs and libraries");
  add("stacks", "stacks", resident->stacks, "of the main thread, and of others that have a guard");
  add("brk", "[heap]", resident->brk, "taken by brk: of another allocator, from before Tally");
  add("files", "files", resident->files, "mapped files that are no programs");
  add("shared_memory", "shared memory", resident->shared, "of several processes, or none");
  add("mappings", "other mappings", resident->others - surplus,
      "anonymous ones that are not the heap's");
  int64_t known = 0;
  for (const LedgerPart& part : all.parts) known += part.bytes;
  all.parts.push_back({"residual", "residual", static_cast<int64_t>(all.rss) - known,
                       "what remains unexplained: changed since, or not resident"});
  return all;
}

void print_trim(const record::Ledger& ledger) {
  const uint64_t kept = ledger.empty_slabs + ledger.dirty + ledger.kept;
  printf("\ntally trim would give back %s", format_bytes(kept).c_str());
  if (ledger.in_slabs != 0) {
    printf("; of the %s in slabs the program's own malloc_trim may give back whole pages",
           format_bytes(ledger.in_slabs).c_str());
  }
  puts("");
}

void print_text(const Record& record, const Explanation& all) {
  fputs(heading(record).c_str(), stdout);
  if (record.head.backend[0] != 0)
    printf("backend %s, ", printable(text_of(record.head.backend)).c_str());
  printf("RSS %s is the sum of\n\n", format_bytes(all.rss).c_str());
  Table table({{"PART", Table::Align::kLeft},
               {"BYTES", Table::Align::kRight, true},
               {"SHARE"},
               {"WHAT IT IS", Table::Align::kLeft}});
  for (const LedgerPart& part : all.parts) {
    bool is_last = &part == &all.parts.back();
    if (part.bytes == 0 && !is_last) continue;
    std::string share = part.bytes < 0 ? "-" : "";
    uint64_t size = part.bytes < 0 ? -static_cast<uint64_t>(part.bytes) : uint64_t(part.bytes);
    table.add(
        {part.label, format_signed(part.bytes), share + format_share(size, all.rss), part.help},
        is_last && all.is_measured ? Style::kDim : Style::kNone);
  }
  fputs(table.text().c_str(), stdout);
  const std::string hint = hint_at_others(all.parts, all.rss);
  if (!hint.empty()) printf("\n%s", hint.c_str());
  const record::Ledger& ledger = record.ledger();
  if (ledger.rounding != 0) {
    printf("\nof the live blocks %s is what callers did not ask for: sizes are rounded up\n",
           format_bytes(ledger.rounding).c_str());
  }
  if (ledger.charged != 0) {
    printf("\ncounted under tags, but no heap: %s (tally_charge)\n",
           format_bytes(ledger.charged).c_str());
  }
  print_trim(ledger);
}

std::string as_json(const Record& record, const Explanation& all) {
  nlohmann::ordered_json root;
  root["pid"] = record.head.pid;
  root["state"] = state_of(record);
  root["age_ms"] = age_of(record) / 1'000'000;
  root["rss_bytes"] = all.rss;
  root["parts"] = nlohmann::ordered_json::array();
  for (const LedgerPart& part : all.parts) {
    root["parts"].push_back({{"part", part.key}, {"bytes", part.bytes}, {"what", part.help}});
  }
  const record::Ledger& ledger = record.ledger();
  root["rounding_bytes"] = ledger.rounding;
  root["charged_bytes"] = ledger.charged;
  root["trim_bytes"] = ledger.empty_slabs + ledger.dirty + ledger.kept;
  root["trim_bytes_at_most"] = ledger.empty_slabs + ledger.dirty + ledger.kept + ledger.in_slabs;
  return json_text(root);
}

}  // namespace

int ledger(int argc, char** argv) {
  Arguments arguments(kLedgerHelp);
  bool json = false;
  std::string target;
  arguments.add_flag("--json", json);
  arguments.add_option("TARGET", target);
  if (!arguments.read(argc, argv)) return 0;
  const Record record = open_record(target).read();
  const Explanation all = explain(record);
  json ? static_cast<void>(fputs(as_json(record, all).c_str(), stdout)) : print_text(record, all);
  return 0;
}

}  // namespace tally::tool
