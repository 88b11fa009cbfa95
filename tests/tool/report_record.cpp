// Writes a record for the tests of the page.
//
// usage: report_record FILE small|big|hostile|plain
//   small    a few tags and stacks, each figure known
//   big      24 hours of 200 tags, and 5,000 stacks
//   hostile  as small, with names that would be HTML or end a script
//   plain    as small, without a profile
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <ctime>
#include <random>
#include <string>

#include "record_file.hpp"

namespace {

using namespace tally;

constexpr uint64_t kKiB = 1024, kMiB = 1 << 20;
constexpr int64_t kSecond = 1'000'000'000;

class ReportRecord : public test::RecordFile {
 public:
  std::vector<record::Point> recent, minutes;
  std::vector<record::Event> events;
  record::ProfileHead profile = {};
  std::vector<record::Module> modules;
  std::vector<record::Call> calls = {{0, 0, record::kNoModule}};
  std::vector<record::Site> sites;
  std::vector<record::Sample> samples;

  ReportRecord() {
    timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    frame.time = now.tv_sec * kSecond;
    head.created = frame.time - 86400 * kSecond;
    frame.uptime = 90000 * uint64_t{kSecond};
  }

  uint32_t name(const std::string& text) {
    for (const record::TagRow& tag : tags) {
      if (names.c_str() + tag.name == text) return tag.name;
    }
    names += text + '\0';
    return static_cast<uint32_t>(names.size() - text.size() - 1);
  }

  void add_up() {
    for (record::TagRow& tag : tags) {
      const std::string path = names.c_str() + tag.name;
      for (const record::TagRow& other : tags) {
        const std::string below = names.c_str() + other.name;
        if (&tag == &other || (path != "/" && !below.starts_with(path + "/"))) continue;
        tag.total.live_bytes += other.own.live_bytes;
        tag.total.live_blocks += other.own.live_blocks;
        tag.total.alloc_count += other.own.alloc_count;
        tag.total.footprint_bytes += other.own.footprint_bytes;
        tag.total.peak_footprint_bytes += other.own.peak_footprint_bytes;
      }
    }
  }

  uint32_t add_module(const std::string& path) {
    record::Module module = {};
    module.start = module.bias = 0x7f0000000000 + modules.size() * 0x1000000;
    module.end = module.start + 0x1000000;
    module.path = name(path);
    modules.push_back(module);
    return static_cast<uint32_t>(modules.size() - 1);
  }

  // The frame of the function at `offset` in the module; its name is "module+0xoffset".
  uint32_t add_call(uint32_t caller, uint32_t module, uint64_t offset) {
    calls.push_back({modules[module].start + offset + 1, caller, module});
    return static_cast<uint32_t>(calls.size() - 1);
  }

  record::Site& add_site(uint32_t call, const std::string& tag) {
    record::Site site = {};
    site.call = call;
    site.tag = name(tag);
    sites.push_back(site);
    return sites.back();
  }

  void write_to(const std::string& path) {
    std::string all = bytes();
    put_ring(&all, record::kAtRecent, record::kRecentPoints, recent);
    put_ring(&all, record::kAtMinutes, record::kMinutePoints, minutes);
    put_ring(&all, record::kAtEvents, record::kEventsMax, events);
    if (!sites.empty()) put_profile(&all);
    write(path, all);
  }

 private:
  template <class Entry>
  static void put_ring(std::string* all, uint64_t offset, size_t count,
                       std::vector<Entry>& entries) {
    for (size_t i = 0; i < entries.size(); ++i) {
      seal(&entries[i], sizeof(Entry), i + 1);
      put(all, offset + (i + 1) % count * sizeof(Entry), of(&entries[i], sizeof(Entry)));
    }
  }

  void put_profile(std::string* all) {
    profile.call_count = static_cast<uint32_t>(calls.size());
    profile.module_count = static_cast<uint32_t>(modules.size());
    profile.texts_bytes = static_cast<uint32_t>(names.size());
    profile.site_count = static_cast<uint32_t>(sites.size());
    profile.sample_count = static_cast<uint32_t>(samples.size());
    profile.bytes = sizeof profile + sites.size() * sizeof(record::Site) +
                    samples.size() * sizeof(record::Sample);
    std::string piece = of(&profile, sizeof profile) +
                        of(sites.data(), sites.size() * sizeof(record::Site)) +
                        of(samples.data(), samples.size() * sizeof(record::Sample));
    seal(piece.data(), piece.size(), 1);
    put(all, record::kAtProfile[1], piece);
    put(all, record::kAtTexts, names);
    put(all, record::kAtCalls, of(calls.data(), calls.size() * sizeof(record::Call)));
    put(all, record::kAtModules, of(modules.data(), modules.size() * sizeof(record::Module)));
  }

  static std::string of(const void* from, size_t bytes) {
    return {static_cast<const char*>(from), bytes};
  }
};

record::Point point_of(const ReportRecord& file, int64_t time, auto live_of) {
  record::Point point = {};
  point.time = time;
  std::vector<record::PointTag> all;
  for (const record::TagRow& tag : file.tags) {
    const uint64_t live = live_of(tag);
    all.push_back({tag.name, uint32_t(live / kKiB), uint32_t(live / kKiB * 5 / 4)});
    point.live += live;
  }
  point.footprint = point.live / 4 * 5;
  point.rss = point.footprint + 20 * kMiB;
  std::stable_sort(all.begin(), all.end(), [](const auto& one, const auto& other) {
    return one.footprint_kib > other.footprint_kib;
  });
  point.tag_count = std::min<uint32_t>(record::kPointTagsMax, all.size());
  std::copy_n(all.begin(), point.tag_count, point.tags);
  return point;
}

void add_class(ReportRecord& file, uint32_t tag, uint32_t size, uint64_t live, uint32_t slabs,
               uint32_t sparse) {
  record::ClassRow row = {};
  row.tag = tag;
  row.block_size = size;
  row.live_blocks = live;
  row.slabs = slabs;
  row.footprint = uint64_t{slabs} * 64 * kKiB;
  row.capacity_blocks = row.footprint / size;
  row.sparse_slabs = row.fill[1] = sparse;
  row.fill[9] = slabs - sparse;
  row.sparse_free = uint64_t{sparse} * 56 * kKiB;
  file.classes.push_back(row);
}

void begin_profile(ReportRecord& file) {
  file.profile.time = file.frame.time;
  file.profile.begun = file.head.created;
  file.profile.rate = 512 * kKiB;
  file.profile.peak_time = file.frame.time - 3600 * kSecond;
  file.profile.mark_time = file.frame.time - 40000 * kSecond;
  file.profile.taken = 9999;
}

// Below `decorate` names go into HTML of a page.
ReportRecord make_small(const std::string& decoration, bool has_profile) {
  ReportRecord file;
  const std::string cache = "/cache" + decoration;
  file.add_tag("/", kMiB, 2 * kMiB);
  file.add_tag(cache, 0, 0);
  file.add_tag(cache + "/blocks", 40 * kMiB, 50 * kMiB).hard_limit = 52 * kMiB;
  file.tags.back().refused_count = 3;
  file.add_tag("/net", 6 * kMiB, 8 * kMiB);
  file.add_tag("/tally", kMiB, kMiB);
  file.add_up();
  record::Ledger& ledger = file.frame.ledger;
  ledger.rss = 80 * kMiB;
  ledger.live = 47 * kMiB;
  ledger.in_slabs = 13 * kMiB;
  ledger.dirty = 3 * kMiB;
  ledger.metadata = kMiB;
  ledger.shared = 10 * kMiB;
  add_class(file, 2, 1024, 40000, 800, 200);
  add_class(file, 3, 64, 90000, 128, 8);
  add_class(file, 0, 64, 16000, 16, 0);
  for (int i = 0; i < 60; ++i) {
    file.minutes.push_back(
        point_of(file, file.frame.time - (70 - i) * 60 * kSecond,
                 [i](const auto& tag) { return tag.own.live_bytes / 120 * (i + 1); }));
  }
  for (int i = 0; i < 600; ++i) {
    file.recent.push_back(
        point_of(file, file.frame.time - (599 - i) * kSecond,
                 [i](const auto& tag) { return tag.own.live_bytes / 1200 * (600 + i + 1); }));
  }
  auto add_event = [&file](record::EventKind kind, const std::string& tag, int64_t before) {
    record::Event event = {};
    event.time = file.frame.time - before * kSecond;
    event.kind = kind;
    strcpy(event.tag, tag.c_str());
    event.asked = 4096;
    event.held = 52 * kMiB;
    event.soft = TALLY_LIMIT_NONE;
    event.hard = 52 * kMiB;
    file.events.push_back(event);
  };
  add_event(record::EventKind::kLimitSet, cache + "/blocks", 1800);
  add_event(record::EventKind::kFailed, cache + "/blocks", 300);
  if (!has_profile) return file;

  begin_profile(file);
  const uint32_t program = file.add_module("/usr/bin/server" + decoration);
  const uint32_t library = file.add_module("/usr/lib/libquery.so.2");
  const uint32_t main = file.add_call(0, program, 0x1000);
  const uint32_t serve = file.add_call(main, program, 0x2000);
  const uint32_t parse = file.add_call(serve, library, 0x300);
  const uint32_t store = file.add_call(serve, program, 0x4000);
  auto add = [&file](uint32_t call, const std::string& tag, uint64_t allocated, uint64_t live,
                     uint64_t mark, int64_t age) {
    record::Site& site = file.add_site(call, tag);
    site.allocated = {allocated / kKiB, allocated};
    site.live = {live / kKiB, live};
    site.peak = {live / kKiB / 2, live / 2};
    site.mark = {mark / kKiB, mark};
    site.lifetimes[2] = (allocated - live) / kKiB;
    const uint32_t index = static_cast<uint32_t>(file.sites.size() - 1);
    for (uint64_t i = 0; i < live / file.profile.rate; ++i) {
      file.samples.push_back({index, 4711, 1024, 1000, file.frame.time - age * kSecond});
    }
  };
  add(parse, cache + "/blocks", 90 * kMiB, 30 * kMiB, 10 * kMiB, 7200);
  add(store, cache + "/blocks", 12 * kMiB, 10 * kMiB, 10 * kMiB, 80000);
  add(parse, "/net", 60 * kMiB, 6 * kMiB, 7 * kMiB, 5);
  add(0, "/", 2 * kMiB, kMiB, kMiB, 86000);
  return file;
}

ReportRecord make_big() {
  ReportRecord file;
  std::mt19937_64 random(7);
  auto below = [&random](uint64_t most) { return random() % most; };
  const char* kGroups[] = {"cache", "net",   "store", "index", "session",
                           "query", "queue", "log",   "lib",   "plugin"};
  file.add_tag("/", kMiB, 2 * kMiB);
  for (const char* group : kGroups) file.add_tag(std::string("/") + group, 64 * kKiB, 128 * kKiB);
  for (size_t i = 0; file.tags.size() < 199; ++i) {
    const uint64_t live = kMiB / 8 + (below(64) * below(64) * below(64)) * 200;
    file.add_tag(std::string("/") + kGroups[i % 10] + "/part-" + std::to_string(i / 10), live,
                 live / 4 * 5 + 64 * kKiB);
  }
  file.add_tag("/tally", 4 * kMiB, 4 * kMiB);
  file.tags[12].hard_limit = file.tags[12].own.footprint_bytes / 9 * 10;
  file.add_up();
  record::Ledger& ledger = file.frame.ledger;
  for (const record::TagRow& tag : file.tags) {
    ledger.live += tag.own.live_bytes;
    ledger.in_slabs += tag.own.footprint_bytes - tag.own.live_bytes;
  }
  ledger.metadata = 4 * kMiB;
  ledger.dirty = 11 * kMiB;
  ledger.shared = 24 * kMiB;
  ledger.rss = ledger.live + ledger.in_slabs + 60 * kMiB;
  auto wave = [](double days) {
    return [days](const record::TagRow& tag) {
      const double phase = tag.id * 0.7;
      const double grows = tag.id % 9 == 0 ? days : 0.6 + 0.25 * std::sin(days * 6.28 * 2 + phase);
      return uint64_t(double(tag.own.live_bytes) *
                      std::max(0.05, grows + 0.1 * std::sin(days * 300 + phase)));
    };
  };
  for (int i = 0; i < 1440; ++i) {
    file.minutes.push_back(
        point_of(file, file.frame.time - (1440 - i) * 60 * kSecond, wave(i / 1440.0)));
  }
  for (int i = 0; i < 600; ++i) {
    file.recent.push_back(
        point_of(file, file.frame.time - (600 - i) * kSecond, wave(1 - (600 - i) / 86400.0)));
  }
  for (int i = 0; i < 120; ++i) {
    record::Event event = {};
    event.time = file.frame.time - int64_t(below(86000)) * kSecond;
    event.kind = static_cast<record::EventKind>(i % 8 == 0 ? 2 : i % 30 == 1 ? 5 : 1);
    strcpy(event.tag, file.names.c_str() + file.tags[12].name);
    event.asked = 1 << below(20);
    event.held = event.hard = file.tags[12].hard_limit;
    event.soft = TALLY_LIMIT_NONE;
    file.events.push_back(event);
  }
  std::sort(file.events.begin(), file.events.end(),
            [](const auto& one, const auto& other) { return one.time < other.time; });
  for (uint32_t tag = 1; tag < 199; ++tag) {
    for (uint32_t size = 16 << below(3); size < 32768;
         size = size * 2 + (size > 512 ? size / 2 : 0)) {
      const uint32_t slabs = 1 + below(200);
      const uint64_t room = uint64_t{slabs} * 64 * kKiB / size;
      add_class(file, tag, size, room / 4 + below(room), slabs, below(slabs));
    }
  }

  begin_profile(file);
  const uint32_t program = file.add_module("/usr/bin/server");
  for (int i = 1; i < 40; ++i) {
    file.add_module("/usr/lib/libpart" + std::to_string(i) + ".so." + std::to_string(i % 4));
  }
  std::vector<uint32_t> depth = {0, 1};
  file.add_call(0, program, 0x1000);
  for (int i = 0; i < 5000; ++i) {
    uint32_t call = 1 + below(std::min<uint64_t>(file.calls.size() - 1, 4000));
    for (uint64_t more = 3 + below(6); more > 0 && depth[call] < 40; --more) {
      const uint32_t module = below(3) == 0 ? below(40) : file.calls[call].module;
      depth.push_back(depth[call] + 1);
      call = file.add_call(call, module, below(80) * 0x140 + 0x40);
    }
    record::Site& site = file.add_site(call, file.names.c_str() + file.tags[below(199)].name);
    const uint64_t live = below(100) * below(100) * below(100) * kKiB / 8;
    site.live = {live / 200, live};
    site.allocated = {live / 200 * (1 + below(40)), live * (1 + below(40))};
    site.peak = {live / 150, live / 3 * 4};
    site.mark = {live / 300, below(4) == 0 ? 0 : live};
    for (uint64_t& blocks : site.lifetimes) blocks = below(1000) * below(100);
  }
  for (uint32_t i = 0; i < record::kSamplesMax; ++i) {
    file.samples.push_back(
        {uint32_t(below(5000)), uint32_t(4711 + below(8)), uint64_t{16} << below(12), 16,
         file.frame.time - int64_t(std::pow(double(below(86000)), 1.0)) * kSecond});
  }
  return file;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string kind = argc == 3 ? argv[2] : "";
  if (kind == "small" || kind == "plain") {
    make_small("", kind == "small").write_to(argv[1]);
  } else if (kind == "hostile") {
    ReportRecord file = make_small("<img src=x onerror=alert(1)></script><!--\xe2\x80\xa8", true);
    constexpr char kCommand[] = "<script>document.title='owned'</script>\0--\"'&\xff";
    file.head.command_bytes = sizeof kCommand;
    memcpy(file.head.command, kCommand, sizeof kCommand);
    file.write_to(argv[1]);
  } else if (kind == "big") {
    make_big().write_to(argv[1]);
  } else {
    fputs("usage: report_record FILE small|big|hostile|plain\n", stderr);
    return 2;
  }
  return 0;
}
