#include "ledger_parts.h"

#include <string_view>

#include "text.h"

namespace tally::tool {

std::vector<LedgerPart> ledger_parts(const record::Ledger& ledger) {
  // Whatever the file says: differences that make no sense wrap, and do no harm.
  auto part = [](uint64_t bytes) { return static_cast<int64_t>(bytes); };
  std::vector<LedgerPart> parts = {
      {"live", "live blocks", part(ledger.live - ledger.untouched),
       "in use by the program; pages that it never wrote to are not counted"},
      {"in_slabs", "free in slabs", part(ledger.in_slabs),
       "free blocks between live ones, and ends of slabs: fragmentation"},
      {"empty_slabs", "empty slabs", part(ledger.empty_slabs),
       "hold no block; kept for TALLY_PURGE_MS"},
      {"dirty", "free pages", part(ledger.dirty), "in chunks; go back after TALLY_PURGE_MS"},
      {"kept", "free spans", part(ledger.kept), "were large blocks; go back after TALLY_PURGE_MS"},
      {"metadata", "metadata", part(ledger.metadata), "Tally's own tables, the tag /tally"},
      {"recorder", "recorder", part(ledger.recorder), "what the record takes of the process"},
      {"backend_surplus", "backend", part(ledger.backend_surplus),
       "what the backend holds for itself or for later"},
      {"shared", "files and shared", part(ledger.shared),
       "resident pages of files and of shared memory, code included"},
  };
  uint64_t known = 0;
  for (const LedgerPart& one : parts) known += static_cast<uint64_t>(one.bytes);
  parts.push_back({"other", "other", part(ledger.rss - known),
                   "stacks, data of programs and libraries, mappings of their own"});
  return parts;
}

std::string hint_at_others(const std::vector<LedgerPart>& parts, uint64_t rss) {
  for (const LedgerPart& part : parts) {
    const std::string_view key = part.key;
    if ((key != "other" && key != "mappings") || part.bytes <= static_cast<int64_t>(rss / 2))
      continue;
    return "most is \"" + std::string(part.label) +
           "\", no heap of Tally's: maybe of an allocator that the program has inside; `tally "
           "doctor PROGRAM` "
           "tells of one (python3: PYTHONMALLOC=malloc)\n";
  }
  return "";
}

std::string format_signed(int64_t bytes) {
  uint64_t size = static_cast<uint64_t>(bytes);
  std::string text = bytes < 0 ? "-" : "";
  return text.append(format_bytes(bytes < 0 ? -size : size));
}

std::string ledger_line(const Record& record) {
  std::string line = "RSS " + format_bytes(record.ledger().rss);
  const char* separator = " = ";
  for (const LedgerPart& part : ledger_parts(record.ledger())) {
    if (part.bytes == 0) continue;
    line += separator;
    line += std::string(part.label) + " " + format_signed(part.bytes);
    separator = " + ";
  }
  return line + "\n";
}

}  // namespace tally::tool
