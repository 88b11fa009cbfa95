// tally stat: everything that a record says, once.
#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

#include "arguments.h"
#include "commands.h"
#include "ledger_parts.h"
#include "stat_formats.h"
#include "summary.h"
#include "tag_tree.h"
#include "target.h"
#include "text.h"

namespace tally::tool {
namespace {

constexpr char kStatHelp[] =
    R"(usage: tally stat [--tree|--own|--classes|--json|--openmetrics] [TARGET]

Shows what a process holds, or held when it died: its tags as a tree, limits and how near they are,
and its resident memory as a sum. LIVE is bytes in blocks in use, FOOTPRINT what those cost in slabs
and large blocks, PEAK the most that it was, each with all tags below; behind them the tag's own part
where it is another.

  --tree         the tags as a tree; the default
  --own          a row a tag, without the tags below it, the largest first
  --classes      and the blocks by tag and size, the most free room first
  --rows N       so many rows of each table; 40, and where this is no terminal all (0)
  --json         all of it, by the names of the library's own JSON
  --openmetrics  for Prometheus; of each tag its own part, so that sums are right
  --help         this text

  TARGET         a process id; the file of a record, or of a dump in JSON (./123 if its name is a
                 number); nothing, where one running process has a record

  tally stat 4711
  tally stat --own --rows 10 $(pidof redis-server)
  tally stat --json 4711 | jq '.tags[] | {name, live_bytes}'
  tally stat --openmetrics 4711 > /var/lib/node_exporter/tally.prom

exit status: 0 after success; or
  1    there is no such process, or it has no record, or that cannot be read
  2    the command line cannot be understood
)";

// `count` of all; 0: all.
size_t shown(size_t all, size_t count) { return count == 0 ? all : std::min(all, count); }

void print_hidden(size_t all, size_t count) {
  if (shown(all, count) < all) printf("... and %zu more (--rows 0 shows all)\n", all - count);
}

std::string bytes_or_dash(uint64_t bytes) { return bytes == 0 ? "-" : format_bytes(bytes); }

Style style_of(const record::TagRow& tag) {
  if (tag.pressure == TALLY_PRESSURE_NORMAL) return Style::kNone;
  return tag.pressure == TALLY_PRESSURE_SOFT ? Style::kYellow : Style::kRed;
}

constexpr Table::Align kLeft = Table::Align::kLeft, kRight = Table::Align::kRight;

void print_tree(const Record& record, size_t rows) {
  std::vector<TagNode> tree = tag_tree(record);
  const size_t all = tree.size();
  // The largest with all below: none without that above it.
  if (shown(all, rows) < all) {
    std::vector<uint64_t> sizes;
    sizes.reserve(all);
    for (const TagNode& node : tree) sizes.push_back(node.tag->total.footprint_bytes);
    std::nth_element(sizes.begin(), sizes.begin() + ptrdiff_t(rows) - 1, sizes.end(),
                     std::greater<>());
    std::erase_if(tree, [least = sizes[rows - 1]](const TagNode& node) {
      return node.tag->total.footprint_bytes < least;
    });
    tree.resize(std::min(tree.size(), rows));
  }
  Table table({{"TAG", kLeft},
               {"LIVE", kRight, true},
               {"FOOTPRINT", kRight, true},
               {"PEAK", kRight, true},
               {"BLOCKS"},
               {"OWN LIVE", kRight, true},
               {"OWN FOOTPRINT", kRight, true},
               {"OWN PEAK", kRight, true},
               {"OWN BLOCKS"}});
  for (const TagNode& node : tree) {
    const tally_counts& total = node.tag->total;
    const tally_counts& own = node.tag->own;
    bool is_same = !node.has_children;
    auto of_own = [is_same](const std::string& text) { return is_same ? std::string() : text; };
    table.add(
        {std::string(size_t{2} * node.depth, ' ') + printable(node.label),
         format_bytes(total.live_bytes), format_bytes(total.footprint_bytes),
         bytes_or_dash(total.peak_footprint_bytes), std::to_string(total.live_blocks),
         of_own(format_bytes(own.live_bytes)), of_own(format_bytes(own.footprint_bytes)),
         of_own(bytes_or_dash(own.peak_footprint_bytes)), of_own(std::to_string(own.live_blocks))},
        style_of(*node.tag));
  }
  fputs(table.text().c_str(), stdout);
  print_hidden(all, rows);
}

void print_own(const Record& record, size_t rows) {
  std::vector<const record::TagRow*> tags;
  for (const record::TagRow& tag : record.tags()) tags.push_back(&tag);
  std::sort(tags.begin(), tags.end(), [&](const record::TagRow* one, const record::TagRow* other) {
    if (one->own.footprint_bytes != other->own.footprint_bytes) {
      return one->own.footprint_bytes > other->own.footprint_bytes;
    }
    return record.name(*one) < record.name(*other);
  });
  Table table({{"TAG", kLeft},
               {"LIVE", kRight, true},
               {"BLOCKS"},
               {"FOOTPRINT", kRight, true},
               {"PEAK", kRight, true},
               {"ALLOCS"},
               {"FREES"},
               {"REQUESTED", kRight, true}});
  for (size_t i = 0; i < shown(tags.size(), rows); ++i) {
    const tally_counts& own = tags[i]->own;
    table.add({printable(record.name(*tags[i])), format_bytes(own.live_bytes),
               std::to_string(own.live_blocks), format_bytes(own.footprint_bytes),
               format_bytes(own.peak_footprint_bytes), std::to_string(own.alloc_count),
               std::to_string(own.free_count), format_bytes(own.requested_bytes)},
              style_of(*tags[i]));
  }
  fputs(table.text().c_str(), stdout);
  print_hidden(tags.size(), rows);
}

uint64_t free_bytes(const record::ClassRow& row) {
  return row.capacity_blocks < row.live_blocks
             ? 0
             : (row.capacity_blocks - row.live_blocks) * row.block_size;
}

void print_classes(const Record& record, size_t rows) {
  const TagIndex index(record);
  auto tag_name = [&](const record::ClassRow& row) {
    const record::TagRow* tag = index.find(row.tag);
    return tag == nullptr ? "tag " + std::to_string(row.tag) : printable(record.name(*tag));
  };
  std::vector<const record::ClassRow*> classes;
  for (const record::ClassRow& row : record.classes()) classes.push_back(&row);
  std::sort(classes.begin(), classes.end(),
            [](const record::ClassRow* one, const record::ClassRow* other) {
              if (free_bytes(*one) != free_bytes(*other)) {
                return free_bytes(*one) > free_bytes(*other);
              }
              return one->tag != other->tag ? one->tag < other->tag
                                            : one->block_size < other->block_size;
            });
  Table table({{"TAG", kLeft},
               {"SIZE"},
               {"LIVE/CAPACITY"},
               {"OCCUPANCY"},
               {"FREE", kRight, true},
               {"SLABS"},
               {"FOOTPRINT", kRight, true}});
  for (size_t i = 0; i < shown(classes.size(), rows); ++i) {
    const record::ClassRow& row = *classes[i];
    table.add({tag_name(row), std::to_string(row.block_size),
               std::to_string(row.live_blocks) + "/" + std::to_string(row.capacity_blocks),
               format_share(row.live_blocks, row.capacity_blocks), format_bytes(free_bytes(row)),
               std::to_string(row.slabs), format_bytes(row.footprint)});
  }
  printf("\n%s", table.text().c_str());
  print_hidden(classes.size(), rows);
}

// A line for each tag that has a limit, as in the library's own table.
void print_limits(const Record& record) {
  for (const TagNode& node : tag_tree(record)) {
    const record::TagRow& tag = *node.tag;
    bool has_soft = tag.soft_limit != TALLY_LIMIT_NONE,
         has_hard = tag.hard_limit != TALLY_LIMIT_NONE;
    if (!has_soft && !has_hard) continue;
    std::string line = "limit of " + printable(node.path) + ": holds ";
    line += format_bytes(tag.total.footprint_bytes);
    if (has_hard) line += " of " + format_bytes(tag.hard_limit);
    if (has_soft) line += ", soft limit " + format_bytes(tag.soft_limit);
    line += std::string(", pressure ") + pressure_name(tag.pressure);
    line += ", in all " + std::to_string(tag.pressure_ms) + " ms";
    if (tag.refused_count != 0) line += ", refused " + std::to_string(tag.refused_count);
    if (tag.waited_count != 0) line += ", waited " + std::to_string(tag.waited_count);
    printf("%s\n", styled(line, style_of(tag)).c_str());
  }
}

void print_end(const Record& record) {
  if (!record.is_dump) {
    fputs(ledger_line(record).c_str(), stdout);
  } else {
    printf("RSS %s, mapped %s\n", format_bytes(record.ledger().rss).c_str(),
           format_bytes(record.ledger().mapped).c_str());
  }
  const record::FrameHead& frame = record.frame_head();
  if (frame.foreign_frees != 0)
    printf("foreign frees %llu\n", (unsigned long long)frame.foreign_frees);
  if (frame.tags_left_out != 0) {
    printf("the record had no room for %u tags, the smallest\n", frame.tags_left_out);
  }
  if (frame.classes_left_out != 0) {
    printf("the record had no room for %u rows of classes\n", frame.classes_left_out);
  }
}

}  // namespace

int stat(int argc, char** argv) {
  Arguments arguments(kStatHelp);
  bool tree = false, own = false, classes = false, json = false, open_metrics = false;
  std::string target;
  size_t rows = has_terminal() ? 40 : 0;
  arguments.add_alternatives(
      "format",
      {{"--tree", tree}, {"--own", own}, {"--json", json}, {"--openmetrics", open_metrics}});
  arguments.add_flag("--classes", classes);
  arguments.add_option("--rows", rows).type_name("N");
  arguments.add_option("TARGET", target);
  if (!arguments.read(argc, argv)) return 0;

  const Record record = load(target);
  if (json || open_metrics) {
    fputs((json ? stat_as_json(record) : as_open_metrics({&record, 1}, Ended::kWhole)).c_str(),
          stdout);
    return 0;
  }
  fputs(heading(record).c_str(), stdout);
  own ? print_own(record, rows) : print_tree(record, rows);
  print_limits(record);
  print_end(record);
  if (classes) print_classes(record, rows);
  return 0;
}

}  // namespace tally::tool
