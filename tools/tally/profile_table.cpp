#include <algorithm>
#include <span>
#include <utility>

#include "arguments.h"
#include "bars.h"
#include "profile_formats.h"
#include "summary.h"
#include "text.h"

namespace tally::tool {
namespace {

using Align = Table::Align;

std::string since(const Profile& profile, int64_t time) {
  return format_duration(age_at(profile.head.time, time));
}

std::string what_it_is(const Profile& profile, const View& view) {
  const record::ProfileHead& head = profile.head;
  switch (view.kind) {
    case ViewKind::kLive:
      return "live";
    case ViewKind::kAllocated:
      return "allocated in " + since(profile, view.since);
    case ViewKind::kPeak:
      return "live at the peak of the footprint, " + format_bytes(head.peak_footprint) + " " +
             since(profile, head.peak_time) + " before";
    case ViewKind::kGrowth:
      return "live, and not " + since(profile, view.since) + " before";
    case ViewKind::kStale:
      return "live for longer than " + format_duration(view.stale_ns);
    case ViewKind::kLifetimes:
      return "freed";
  }
  return "";
}

std::string summary_of(const Profile& profile, const View& view) {
  const record::ProfileHead& head = profile.head;
  std::string text = what_it_is(profile, view) + ": about " + format_bytes(view.total.bytes);
  text += " in " + std::to_string(view.total.objects) + " blocks, of ";
  text += std::to_string(view.rows.size()) + (view.rows.size() == 1 ? " stack\n" : " stacks\n");
  text += "sampled for " + since(profile, head.begun) + ": one block in " +
          format_bytes(head.rate) + " allocated, " + std::to_string(head.taken) + " in all";
  if (head.lost != 0) {
    text += ", of which " + std::to_string(head.lost) + " were lost for want of room";
  }
  return text + "\n";
}

// "< 10 ms", of the blocks of a row in the middle.
std::string median_of(const record::Site& site, uint64_t objects) {
  uint64_t sum = 0;
  for (size_t i = 0; i + 1 < record::kLifetimeSteps; ++i) {
    sum += site.lifetimes[i];
    if (sum >= objects - objects / 2) return "< " + format_duration(record::kLifetimes[i]);
  }
  return "> 1 day";
}

std::string lifetimes_of(const record::Site& site) {
  const uint64_t most = *std::max_element(std::begin(site.lifetimes), std::end(site.lifetimes));
  return bars(site.lifetimes, most, bars_of_stdout());
}

std::vector<Table::Column> columns_of(ViewKind kind) {
  std::vector<Table::Column> columns = {{"BYTES", Align::kRight, true}, {"SHARE"}, {"BLOCKS"}};
  if (kind == ViewKind::kLive || kind == ViewKind::kStale) columns.push_back({"SAMPLES"});
  if (kind == ViewKind::kLifetimes) {
    columns.push_back({"MEDIAN LIFE"});
    columns.push_back({"LIFETIMES", Align::kLeft});
  }
  columns.push_back({"TAG", Align::kLeft});
  columns.push_back({"ALLOCATED BY", Align::kLeft});
  return columns;
}

}  // namespace

void declare_size(Arguments& arguments, TableSize* size) {
  auto is_count = [](const std::string& text) {
    const bool is_one = !text.empty() && text.size() < 10 &&
                        text.find_first_not_of("0123456789") == std::string::npos;
    return is_one ? "" : "expected a number, 0 for all, not '" + text + "'";
  };
  arguments.add_option("--rows", size->rows).type_name("N").take_last().check(is_count);
  arguments.add_option("--frames", size->frames).type_name("N").take_last().check(is_count);
}

void print_complaints(const Symbols& symbols, const char* who, FILE* out) {
  for (const std::string& complaint : symbols.complaints()) {
    fprintf(out, "%s: %s\n", who, complaint.c_str());
  }
}

void add_stack(Table* table, std::vector<std::string> cells,
               const std::vector<std::string>& stack) {
  std::string indent;
  for (const std::string& line : stack) {
    cells.push_back(indent + line);
    const size_t others = cells.size() - 1;
    table->add(std::move(cells));
    cells.assign(others, "");
    indent = "  ";
  }
}

std::string profile_as_table(const ShownProfile& shown, const TableSize& size) {
  const View& view = shown.view;
  const std::vector<Table::Column> columns = columns_of(view.kind);
  const bool has_lifetimes = view.kind == ViewKind::kLifetimes;
  const size_t rows = size.rows_of(view.rows.size());
  Table table(columns);
  for (const ViewRow& row : std::span(view.rows).first(rows)) {
    std::vector<std::string> cells = {format_bytes(row.amount.bytes),
                                      has_lifetimes
                                          ? format_share(row.amount.objects, view.total.objects)
                                          : format_share(row.amount.bytes, view.total.bytes),
                                      std::to_string(row.amount.objects)};
    if (columns[3].head == "SAMPLES") cells.push_back(std::to_string(row.samples));
    if (has_lifetimes) {
      cells.push_back(median_of(*row.site, row.amount.objects));
      cells.push_back(lifetimes_of(*row.site));
    }
    cells.push_back(shortened(printable(shown.profile.name(row.site->tag)), Table::kNameMost));
    add_stack(&table, std::move(cells), shown.symbols.lines_of(row.site->call, size.frames));
  }
  std::string text = heading(shown.record) + summary_of(shown.profile, view);
  if (has_lifetimes) {
    text +=
        "LIFETIMES counts blocks freed within 1 ms, 10 ms, 100 ms, 1 s, 10 s, 1 min, 10 min, "
        "1 h, 1 day, and later\n";
  }
  const record::Head& head = shown.record.head;
  if (view.rows.empty() && shown.record.is_live && head.has_thread == 0) {
    text +=
        "It publishes only as it allocates, so this may be of its beginning; TALLY_RECORD_MS=1000 "
        "gives it\na thread that does\n";
  }
  if (view.rows.empty()) return text;
  text.append("\n").append(table.text());
  if (rows < view.rows.size()) {
    text += "... and " + std::to_string(view.rows.size() - rows) + " more; --rows 0 shows all\n";
  }
  return text;
}

}  // namespace tally::tool
