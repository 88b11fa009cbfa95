#include "profile.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <zlib.h>

#include <cmath>
#include <filesystem>
#include <protozero/pbf_reader.hpp>
#include <random>
#include <span>

#include "failure.h"
#include "leak_report.h"
#include "profile_formats.h"
#include "profile_view.h"
#include "record_file.hpp"
#include "record_reader.h"
#include "symbols.h"
#include "target.h"

namespace tally::tool {
namespace {

namespace fs = std::filesystem;
using test::RecordFile;

constexpr int64_t kSecond = 1'000'000'000;
constexpr uint64_t kRate = 512 * 1024;

class SampledProfile : public testing::Test {
 protected:
  SampledProfile() {
    folder_ = mkdtemp(folder_.data());
    path_ = folder_ + "/4711.tally";
    file_.add_tag("/", 1000, 4096);
    file_.add_tag("/cache", 0, 0);
    file_.profile.rate = kRate;
    file_.profile.taken = 100;
    file_.profile.time = file_.frame.time;
    file_.profile.begun = file_.frame.time - 300 * kSecond;
    file_.profile.mark_time = file_.frame.time - 180 * kSecond;
    const uint32_t module =
        file_.add_module("/usr/bin/no such server", 0x1000, 0x9000, 0x1000, "\x12\xab");
    const uint32_t main = file_.add_call(0, 0x2000, module);
    const uint32_t fill = file_.add_call(main, 0x3000, module);
    const uint32_t jitted = file_.add_call(main, 0x70000000, record::kNoModule);
    file_.add_site(fill, "/cache/blocks", {100, 1'000'000}, {300, 3'000'000});
    file_.add_site(jitted, "/cachet", {10, 2'000'000});
    file_.add_site(0, "/", {1, 500});
    file_.sites[0].peak = {200, 2'000'000};
    file_.sites[0].mark = {20, 300'000};
    file_.sites[0].lifetimes[0] = 150;
    file_.sites[0].lifetimes[4] = 50;
    file_.sites[1].mark = {11, 2'200'000};  // it shrank
    add_sample(0, 10'000, 100);
    add_sample(0, 10'000, 100);
    add_sample(0, 10'000, 1);
    add_sample(1, 200'000, 30);
  }
  ~SampledProfile() override { fs::remove_all(folder_); }

  void add_sample(uint32_t site, uint64_t bytes, int64_t age_s) {
    file_.samples.push_back({site, 1, bytes, bytes, file_.profile.time - age_s * kSecond});
  }
  Profile read(const std::string& bytes) const {
    RecordFile::write(path_, bytes);
    return Reader(path_).read_profile();
  }
  Profile read() { return read(file_.bytes()); }

  void fails(const std::string& bytes, const std::string& message) const {
    try {
      read(bytes);
      FAIL() << message;
    } catch (const Failure& failure) {
      EXPECT_EQ(failure.status(), kFailed);
      EXPECT_EQ(failure.what(), path_ + ": damaged: " + message);
    }
  }

  std::string folder_ = fs::temp_directory_path() / "tally-XXXXXX";
  std::string path_;
  RecordFile file_;
};

TEST_F(SampledProfile, IsReadFromEitherPlace) {
  for (uint64_t sequence : {1, 2}) {
    const Profile profile = read(file_.bytes(sequence));
    EXPECT_TRUE(profile.is_on());
    EXPECT_EQ(profile.head.rate, kRate);
    ASSERT_EQ(profile.sites.size(), 3u);
    EXPECT_EQ(profile.name(profile.sites[0].tag), "/cache/blocks");
    ASSERT_EQ(profile.calls.size(), 4u);
    EXPECT_EQ(profile.calls[2].caller, 1u);
    ASSERT_EQ(profile.modules.size(), 1u);
    EXPECT_EQ(profile.name(profile.modules[0].path), "/usr/bin/no such server");
    ASSERT_EQ(profile.samples.size(), 4u);
    EXPECT_EQ(profile.samples[3].bytes, 200'000u);
    EXPECT_EQ(profile.name(UINT32_MAX), "");
  }
}

TEST_F(SampledProfile, MayNotBeThere) {
  file_.profile.rate = 0;
  EXPECT_FALSE(read().is_on());
  Reader reader(path_);
  try {
    require_profile(reader);
    FAIL();
  } catch (const Failure& failure) {
    EXPECT_EQ(failure.what(), path_ +
                                  ": process 4711 was not sampled: start it by tally run PROGRAM, "
                                  "or with TALLY_SAMPLE=512K");
  }
}

TEST_F(SampledProfile, IsAsOldAsTheNewestFrame) {
  file_.frame.time += 60 * kSecond;
  EXPECT_EQ(read().head.time, file_.frame.time);
}

TEST_F(SampledProfile, IsTheOneBeforeIfItIsTorn) {
  std::string all = file_.bytes(4);
  file_.profile.taken = 5;
  const std::string newer = file_.profile_bytes(5);
  RecordFile::put(&all, record::kAtProfile[1], newer);
  EXPECT_EQ(read(all).head.taken, 5u);
  for (size_t at = 0; at < newer.size(); at += 24) {
    std::string torn = all;
    torn[record::kAtProfile[1] + at] ^= 1;
    ASSERT_EQ(read(torn).head.taken, 100u) << at;
  }
  all[record::kAtProfile[0] + 60] ^= 1;
  all[record::kAtProfile[1] + 60] ^= 1;
  const std::string neither = "neither of its profiles is whole, with its texts";
  fails(all, neither);
  // A tag's name that was put there for a later one.
  all = file_.bytes(4);
  const uint64_t cell = file_.sites[0].tag / record::kNameCell;
  all[record::kAtTexts + record::kNamesBytes + cell * 8] = 4;
  EXPECT_EQ(read(all).head.seal.sequence, 4u);
  all[record::kAtTexts + record::kNamesBytes + cell * 8] = 5;
  fails(all, neither);
}

TEST_F(SampledProfile, ChecksWhatASealVouchesFor) {
  auto sealed = [this](auto change) {
    std::string bytes = file_.profile_bytes(1);
    change(reinterpret_cast<record::ProfileHead*>(bytes.data()));
    RecordFile::seal(bytes.data(), bytes.size(), 1);
    std::string all = file_.bytes();
    RecordFile::put(&all, record::kAtProfile[1], bytes);
    return all;
  };
  const std::string rows = "its profile has other rows than it says";
  fails(sealed([](record::ProfileHead* head) { head->site_count = UINT32_MAX; }), rows);
  fails(sealed([](record::ProfileHead* head) { head->sample_count -= 1; }), rows);
  const std::string more = "its profile has more calls, modules or texts than a record has";
  fails(sealed([](record::ProfileHead* head) { head->call_count = record::kCallsMax + 1; }), more);
  fails(sealed([](record::ProfileHead* head) { head->module_count = UINT32_MAX; }), more);
  fails(sealed([](record::ProfileHead* head) { head->texts_bytes = record::kNamesBytes + 1; }),
        more);
  fails(sealed([](record::ProfileHead* head) { head->call_count = 2; }),
        "site 0 of its profile has a stack that is not there");
  fails(sealed([](record::ProfileHead* head) { head->module_count = 0; }),
        "call 1 of its profile leads nowhere");
  fails(sealed([](record::ProfileHead* head) { head->texts_bytes = 30; }),
        "site 0 of its profile has a tag without a name");

  auto with = [this](auto change) {
    RecordFile other = file_;
    change(&other);
    return other.bytes();
  };
  fails(with([](RecordFile* file) { file->calls[2].caller = 2; }),
        "call 2 of its profile leads nowhere");
  // Each of 8,192 sites would tell of 65,535 frames.
  auto deep = [](uint32_t frames) {
    return [frames](RecordFile* file) {
      for (uint32_t i = 0; i < frames; ++i) {
        file->add_call(i == 0 ? 0 : uint32_t(file->calls.size() - 1), 0x10010, 0);
      }
    };
  };
  const size_t calls = file_.calls.size();
  fails(with(deep(257)),
        "call " + std::to_string(calls + 256) + " of its profile lies deeper than any stack");
  RecordFile::write(path_, with(deep(256)));
  EXPECT_EQ(Reader(path_).read_profile().calls.size(), calls + 256);
  fails(with([](RecordFile* file) { file->samples[3].site = 3; }),
        "sample 3 of its profile is of no site");
  fails(with([](RecordFile* file) { file->modules[0].build_id_bytes = 33; }),
        "module 0 of its profile has no sound limits");
  fails(with([](RecordFile* file) { std::swap(file->modules[0].start, file->modules[0].end); }),
        "module 0 of its profile has no sound limits");
}

TEST_F(SampledProfile, WeighsSamples) {
  EXPECT_NEAR(weight_of(512 * 1024, 512 * 1024), 1 / (1 - std::exp(-1)), 1e-12);
  EXPECT_NEAR(weight_of(16, kRate), kRate / 16.0, 0.6);  // a small block stands for rate / size
  EXPECT_DOUBLE_EQ(weight_of(uint64_t{1} << 40, kRate), 1);
  EXPECT_EQ(weight_of(0, kRate), 1);
  EXPECT_EQ(weight_of(16, 0), 1);
}

struct Expected {
  uint32_t site;
  uint64_t objects, bytes;
};
void expect_rows(const Profile& profile, const ViewOptions& options,
                 const std::vector<Expected>& expected, const Profile* before = nullptr) {
  const View view = view_of(profile, options, before);
  ASSERT_EQ(view.rows.size(), expected.size()) << name_of(options.kind);
  uint64_t bytes = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    EXPECT_EQ(view.rows[i].site, &profile.sites[expected[i].site]) << i;
    EXPECT_EQ(view.rows[i].amount.objects, expected[i].objects) << i;
    EXPECT_EQ(view.rows[i].amount.bytes, expected[i].bytes) << i;
    bytes += expected[i].bytes;
  }
  EXPECT_EQ(view.total.bytes, bytes);
}

TEST_F(SampledProfile, HasViews) {
  const Profile profile = read();
  auto options = [](ViewKind kind, uint64_t stale_s = 0) {
    return ViewOptions{.kind = kind, .stale_ns = stale_s * kSecond};
  };
  expect_rows(profile, options(ViewKind::kLive),
              {{1, 10, 2'000'000}, {0, 100, 1'000'000}, {2, 1, 500}});
  expect_rows(profile, options(ViewKind::kAllocated),
              {{0, 300, 3'000'000}, {1, 10, 2'000'000}, {2, 1, 500}});
  expect_rows(profile, options(ViewKind::kPeak), {{0, 200, 2'000'000}});
  expect_rows(profile, options(ViewKind::kGrowth), {{0, 80, 700'000}, {2, 1, 500}});
  expect_rows(profile, options(ViewKind::kLifetimes), {{0, 200, 2'000'000}});
  // Two samples of site 0, each for 1 / (1 - exp(-10000 / 524288)) blocks.
  expect_rows(profile, options(ViewKind::kStale, 50), {{0, 106, 1'058'608}});
  EXPECT_EQ(view_of(profile, options(ViewKind::kLive)).rows[1].samples, 3u);
  EXPECT_EQ(view_of(profile, options(ViewKind::kStale, 50)).rows[0].samples, 2u);
}

TEST_F(SampledProfile, IsOfATagAndThoseBelow) {
  const Profile profile = read();
  expect_rows(profile, {.kind = ViewKind::kLive, .tag = "/cache"}, {{0, 100, 1'000'000}});
  expect_rows(profile, {.kind = ViewKind::kLive, .tag = "/cachet"}, {{1, 10, 2'000'000}});
  const Record record = Reader(path_).read();
  EXPECT_EQ(require_tag_of(record, profile, "cache/blocks"), "/cache/blocks");  // of the profile
  EXPECT_EQ(require_tag_of(record, profile, "cache"), "/cache");
  EXPECT_THROW(require_tag_of(record, profile, "cach"), Failure);
}

TEST_F(SampledProfile, TellsWhatCameBetweenTwo) {
  const Profile before = read();
  file_.sites[0].live = {150, 1'500'000};
  file_.sites[0].allocated = {400, 4'000'000};
  file_.sites[1].live = {5, 1'000'000};
  std::swap(file_.sites[0], file_.sites[2]);  // in whatever order
  file_.samples.clear();
  const Profile after = read(file_.bytes(2));
  expect_rows(after, {.kind = ViewKind::kGrowth}, {{2, 50, 500'000}}, &before);
  expect_rows(after, {.kind = ViewKind::kAllocated}, {{2, 100, 1'000'000}}, &before);
}

TEST_F(SampledProfile, FoldsStacks) {
  const Profile profile = read();
  const Record record = Reader(path_).read();
  Symbols symbols(profile);
  const View view = view_of(profile, {});
  EXPECT_EQ(profile_as_folded({record, profile, view, symbols}),
            "/cachet;no such server+0xfff;0x6fffffff 2000000\n"
            "/cache/blocks;no such server+0xfff;no such server+0x1fff 1000000\n"
            "/;(unknown) 500\n");
  EXPECT_EQ(symbols.complaints(),
            std::vector<std::string>{
                "functions are not known of files that are not there: /usr/bin/no such server"});
}

// The paths of a profile's mappings, in its order.
std::vector<std::string> mappings_of(const std::string& pprof) {
  std::string text(1 << 16, 0);
  z_stream stream = {};
  inflateInit2(&stream, MAX_WBITS + 16);  // gzip's
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(pprof.data()));
  stream.avail_in = static_cast<uInt>(pprof.size());
  stream.next_out = reinterpret_cast<Bytef*>(text.data());
  stream.avail_out = static_cast<uInt>(text.size());
  EXPECT_EQ(inflate(&stream, Z_FINISH), Z_STREAM_END);
  text.resize(stream.total_out);
  inflateEnd(&stream);
  std::vector<std::string> strings, paths;
  std::vector<size_t> names;
  for (protozero::pbf_reader profile(text); profile.next();) {
    if (profile.tag() == 6) {  // string_table
      strings.push_back(profile.get_string());
    } else if (profile.tag() == 3) {  // mapping
      protozero::pbf_reader mapping = profile.get_message();
      if (mapping.next(5)) names.push_back(static_cast<size_t>(mapping.get_int64()));
    } else {
      profile.skip();
    }
  }
  for (size_t name : names) paths.push_back(strings.at(name));
  return paths;
}

TEST_F(SampledProfile, HasTheProgramFirstForPprof) {
  const uint32_t program = file_.add_module("/usr/bin/server", 0x10000, 0x20000, 0x10000);
  const uint32_t library = file_.add_module("/lib/libc.so.6", 0x30000, 0x40000, 0x30000);
  const uint32_t main = file_.add_call(0, 0x30010, library);
  file_.add_site(file_.add_call(main, 0x10010, program), "/", {1, 500});
  const Profile profile = read();
  const Record record = Reader(path_).read();
  Symbols symbols(profile);
  const View view = view_of(profile, {});
  EXPECT_EQ(
      mappings_of(profile_as_pprof({record, profile, view, symbols})),
      (std::vector<std::string>{"/usr/bin/server", "/usr/bin/no such server", "/lib/libc.so.6"}));
}

// Readers of protobuf refuse a string that is no UTF-8.
TEST_F(SampledProfile, HasNamesOfAnyBytesAsTextForPprof) {
  const uint32_t library = file_.add_module("/lib/caf\xe9\xc2\x9b\xc3\xa9.so", 0x30000, 0x40000, 0);
  file_.add_site(file_.add_call(0, 0x30010, library), "/", {1, 500});
  const Profile profile = read();
  const Record record = Reader(path_).read();
  Symbols symbols(profile);
  const View view = view_of(profile, {});
  const std::vector<std::string> mappings =
      mappings_of(profile_as_pprof({record, profile, view, symbols}));
  EXPECT_EQ(mappings.back(), "/lib/caf???\xc3\xa9.so");
}

// As RecordReader.SurvivesWhateverIsInTheFile.
TEST_F(SampledProfile, SurvivesWhateverIsInTheFile) {
  const std::string all = file_.bytes(2);
  const std::string whole = file_.profile_bytes(2);
  std::mt19937_64 random(7);
  RecordFile::write(path_, all);
  File file(open(path_.c_str(), O_WRONLY | O_CLOEXEC));
  auto put = [&](std::string bytes, uint64_t offset) {
    ASSERT_EQ(pwrite(file.descriptor(), bytes.data(), bytes.size(), off_t(offset)),
              ssize_t(bytes.size()));
  };
  auto scribbled = [&](std::string bytes) {
    for (uint64_t n = random() % 3; n != 0; --n) {
      bytes[random() % bytes.size()] = static_cast<char>(random());
    }
    return bytes;
  };
  size_t read = 0, refused = 0;
  for (int round = 0; round < 10'000; ++round) {
    std::string profile = scribbled(whole);
    if (random() % 4 != 0) RecordFile::seal(profile.data(), profile.size(), 2);
    put(profile, record::kAtProfile[0]);
    put(scribbled(file_.texts), record::kAtTexts);
    put(scribbled(RecordFile::rows_of(file_.calls)), record::kAtCalls);
    put(scribbled(RecordFile::rows_of(file_.modules)), record::kAtModules);
    try {
      Reader reader(path_);
      const Record record = reader.read();
      const Profile found = require_profile(reader);
      Symbols symbols(found);
      for (ViewKind kind : {ViewKind::kLive, ViewKind::kStale, ViewKind::kLifetimes}) {
        const View view = view_of(found, {.kind = kind, .stale_ns = 50 * uint64_t{kSecond}});
        const ShownProfile shown = {record, found, view, symbols};
        EXPECT_FALSE(profile_as_table(shown, {}).empty());
        EXPECT_FALSE(profile_as_json(shown).empty());
        EXPECT_FALSE(profile_as_pprof(shown).empty());
        profile_as_folded(shown);
      }
      EXPECT_FALSE(leak_report(record, found, symbols, "/", {}).empty());
      ++read;
    } catch (const Failure&) {
      ++refused;
    }
  }
  EXPECT_GT(read, 1000u);
  EXPECT_GT(refused, 1000u);
}

}  // namespace
}  // namespace tally::tool
