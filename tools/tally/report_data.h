// All that the page (tools/tally/page) shows of one record, and `tally report --json` prints. It is
// computed here; the page only draws. Small, as it lies in the page: long lists are columns, or
// rows with the names of their columns once.
//
// Bytes are numbers, times milliseconds since 1970, TAG an index in `paths`, null where nothing is.
//
//   schema        1
//   tally_version of the library that wrote the record
//   process       {pid, command, executable, state ("running", "stopped", "dead", "ended"), live,
//                 time, created, uptime_ms, age_ms, interval_ms, backend, tag_by, rss, live_bytes,
//                 footprint_bytes, peak_footprint_bytes, blocks, allocs, foreign_frees,
//                 tags_left_out, classes_left_out}
//   findings      [{level ("bad", "warn", "good", "note"), section, text}], the gravest first;
//                 `section` is the part of the page that shows more
//   ledger        [{key, label, bytes (below 0: too much elsewhere), help}]; they add up to rss
//   rounding      bytes of the live blocks that callers did not ask for
//   paths         ["/cache/blocks", ...]: of all tags that anything here names
//   tags          {columns: [...], rows: [[...], ...]} in the order of the tree, each before those
//                 below it:
//                 tag, parent (row, or -1), depth, live, footprint, peak, blocks, allocs (all with
//                 what is below), own_live, own_footprint, own_blocks, own_allocs, soft, hard,
//                 pressure ("normal", "soft", "hard"), refused, waited
//   history       {recent, minutes}, each {time: [], rss: [], live: [], footprint: [],
//                 tags: [{tag, first, live: [], footprint: []}]}, oldest first; of tags in KiB of
//                 their own from the index `first` on, to the last where they were among the
//                 largest; 0 where not
//   events        {columns, rows}: time, kind ("soft", "failed", "waits", "aborts", "limit"), tag,
//                 asked, held, soft, hard, left_out
//   fragmentation {ratio, live, footprint, free, slabs, sparse_slabs, sparse_free, outside, advice,
//                 columns, rows}: tag, size, live_blocks, capacity, slabs, footprint, free,
//                 sparse_slabs, sparse_free, fill (slabs by tenths of their capacity in use)
//   profile       null if the record has none, else
//     {time, begun, rate, taken, lost, cut, peak_time, peak_footprint, mark_time,
//      complaints: []                                 sentences: what functions are not known
//      strings: [], functions: [[name, file, module (strings)], ...],
//      nodes: {parent: [], function: [], line: []}    frames as a tree; 0 is the root, of no frame
//      sites: {node: [], own: [], tag: [], allocated: [], live: [], peak: [], growth: [],
//              objects: {allocated: [], live: [], peak: [], growth: []}, lifetimes: [[], ...]},
//                                                     bytes and counts are estimates; `node` is the
//                                                     innermost frame, `own` the innermost one that
//                                                     is none of the C++ library's; growth may be
//                                                     below 0
//      lifetimes: []                                  the bounds of the sites' steps in ms
//      samples: {site: [], age: [], objects: [], bytes: []}}                live ones: age in ms,
//                                                     estimates of what each stands for
#pragma once

#include <nlohmann/json.hpp>

#include "record_reader.h"

namespace tally::tool {

struct Profile;
class Symbols;

// Of the newest frame. `profile` is what reader.read_profile() gave, `symbols` are of it: who asks
// again keeps both, so that nothing is looked up twice.
nlohmann::ordered_json report_data(Reader& reader, const Profile& profile, Symbols& symbols);

// `paths` and `history` alone.
nlohmann::ordered_json history_data(Reader& reader);

}  // namespace tally::tool
