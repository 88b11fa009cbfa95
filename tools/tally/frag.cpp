// tally frag: what is taken and not in use.
#include <cstdio>
#include <string>

#include "arguments.h"
#include "commands.h"
#include "fragmentation.h"
#include "json_text.h"
#include "summary.h"
#include "target.h"
#include "text.h"

namespace tally::tool {
namespace {

constexpr char kFragHelp[] = R"(usage: tally frag [OPTION...] [TARGET]

Shows memory that is taken and not in use, by tag and size of block: free blocks in slabs (a slab holds
blocks of one size under one tag), and what keeps those slabs from going back. Fragmentation is the
footprint, which is what slabs and large blocks take, by what is live in them. FILL counts slabs by how
full they are, from less than a tenth on the left to full on the right. A slab is sparse if at most a
quarter of it is in use; PINNED is what would go back if those were empty. The rows with the most free
bytes come first.

  TARGET        a process id, or the file of a record or of a dump in JSON (a file whose name is a
                number: ./123); may be left out where only one running process has a record
  --tag PATH    only this tag and those below it
  --all         all rows, not the first 20 alone
  --json        all rows as JSON, in bytes
  --help        this text

  tally frag 4711
  tally frag --tag /cache --all /tmp/heap-4711.json

exit status: 0, or
  1    there is no such process, or its record cannot be read
  2    the command line cannot be understood
)";

constexpr size_t kFirst = 20;
constexpr size_t kPinning = 5;

std::string count_of(uint64_t count, const char* what) {
  return std::to_string(count) + " " + what + (count == 1 ? "" : "s");
}

void print_summary(const Record& record, const Fragmentation& all) {
  fputs(heading(record).c_str(), stdout);
  printf("fragmentation %.2f: %s live in %s of slabs and large blocks\n", all.ratio(),
         format_bytes(all.held.live).c_str(), format_bytes(all.held.footprint).c_str());
  printf("free in %s: %s", count_of(all.slabs, "slab").c_str(), format_bytes(all.free).c_str());
  if (all.has_fill) {
    printf(", of it %s in %s", format_bytes(all.sparse_free).c_str(),
           count_of(all.sparse_slabs, "sparse slab").c_str());
  }
  puts("");
  for (const FragRow* row : pinning(all, kPinning)) {
    printf("  pinned by %s, blocks of %s: %s in %s\n", row->tag.c_str(),
           format_bytes(row->row->block_size).c_str(), format_bytes(row->row->sparse_free).c_str(),
           count_of(row->row->sparse_slabs, "slab").c_str());
  }
  if (all.outside != 0) {
    printf("free outside of slabs in use: %s, %s\n", format_bytes(all.outside).c_str(),
           record.is_live ? ("goes back by itself, or by tally trim " +
                             std::to_string(record.head.pid) + " at once")
                                .c_str()
                          : "was not given back yet");
  }
  printf("what to do: %s\n", advice_on(all).c_str());
  if (!all.has_fill) puts("(This dump does not tell how full slabs are, a record does.)");
}

void print_rows(const Fragmentation& all, size_t most) {
  using Align = Table::Align;
  std::vector<Table::Column> columns = {{"TAG", Align::kLeft},
                                        {"SIZE", Align::kRight, true},
                                        {"BLOCKS"},
                                        {"ROOM FOR"},
                                        {"USED"},
                                        {"SLABS"},
                                        {"FOOTPRINT", Align::kRight, true},
                                        {"FREE", Align::kRight, true}};
  if (all.has_fill) {
    columns.push_back({"FILL", Align::kLeft});
    columns.push_back({"PINNED", Align::kRight, true});
  }
  Table table(columns);
  for (const FragRow& row : std::span(all.rows).first(std::min(most, all.rows.size()))) {
    const record::ClassRow& of = *row.row;
    std::vector<std::string> cells = {
        shortened(row.tag, Table::kNameMost), format_bytes(of.block_size),
        std::to_string(of.live_blocks),       std::to_string(of.capacity_blocks),
        format_share(row.live, of.footprint), std::to_string(of.slabs),
        format_bytes(of.footprint),           format_bytes(row.free)};
    if (all.has_fill) {
      cells.push_back(fill_of(of, bars_of_stdout()));
      cells.push_back(of.sparse_slabs == 0 ? "-" : format_bytes(of.sparse_free));
    }
    table.add(cells);
  }
  printf("\n%s", table.text().c_str());
  if (most < all.rows.size()) {
    printf("... and %zu more; --all shows them\n", all.rows.size() - most);
  }
}

nlohmann::ordered_json as_json(const FragRow& row, bool has_fill) {
  const record::ClassRow& of = *row.row;
  nlohmann::ordered_json object = {{"tag", row.tag},
                                   {"size", of.block_size},
                                   {"live_blocks", of.live_blocks},
                                   {"capacity_blocks", of.capacity_blocks},
                                   {"slabs", of.slabs},
                                   {"footprint_bytes", of.footprint},
                                   {"free_bytes", row.free}};
  if (has_fill) {
    object["fill"] = of.fill;
    object["sparse_slabs"] = of.sparse_slabs;
    object["sparse_free_bytes"] = of.sparse_free;
  }
  return object;
}

void print_json(const Record& record, const Fragmentation& all) {
  nlohmann::ordered_json object = {{"pid", record.head.pid},
                                   {"command", command_of(record.head)},
                                   {"state", state_of(record)},
                                   {"live_bytes", all.held.live},
                                   {"footprint_bytes", all.held.footprint},
                                   {"fragmentation", all.ratio()},
                                   {"free_bytes", all.free},
                                   {"slabs", all.slabs}};
  if (all.has_fill) {
    object["sparse_slabs"] = all.sparse_slabs;
    object["sparse_free_bytes"] = all.sparse_free;
  }
  if (!record.is_dump) object["outside_bytes"] = all.outside;
  object["advice"] = advice_on(all);
  object["rows"] = nlohmann::ordered_json::array();
  for (const FragRow& row : all.rows) object["rows"].push_back(as_json(row, all.has_fill));
  fputs(json_text(object).c_str(), stdout);
}

}  // namespace

int frag(int argc, char** argv) {
  Arguments arguments(kFragHelp);
  std::string target, tag;
  bool wants_json = false, wants_all = false;
  arguments.add_option("TARGET", target);
  arguments.add_option("--tag", tag).type_name("PATH").take_last();
  arguments.add_flag("--all", wants_all);
  arguments.add_flag("--json", wants_json);
  if (!arguments.read(argc, argv)) return 0;

  const Record record = load(target);
  const std::string path(tag.empty() ? "/" : record.name(require_tag(record, tag)));
  const Fragmentation all = fragmentation_of(record, path);
  if (wants_json) {
    print_json(record, all);
  } else {
    print_summary(record, all);
    if (!all.rows.empty()) print_rows(all, wants_all ? all.rows.size() : kFirst);
  }
  return 0;
}

}  // namespace tally::tool
