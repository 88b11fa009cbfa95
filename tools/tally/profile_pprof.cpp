// The format is profile.proto of github.com/google/pprof; its field numbers are below.
#include <zlib.h>

#include <map>
#include <new>
#include <protozero/pbf_writer.hpp>
#include <set>
#include <unordered_map>
#include <utility>

#include "profile_formats.h"

namespace tally::tool {
namespace {

using protozero::pbf_writer;
using NameAndFile = std::pair<std::string, std::string>;

// Field numbers, by message.
namespace field {
enum Profile {
  kSampleType = 1,
  kSample = 2,
  kMapping = 3,
  kLocation = 4,
  kFunction = 5,
  kStringTable = 6,
  kTimeNanos = 9,
  kDurationNanos = 10,
  kPeriodType = 11,
  kPeriod = 12,
  kComment = 13,
  kDefaultSampleType = 14,
};
enum ValueType { kType = 1, kUnit = 2 };
enum Sample { kLocationId = 1, kValue = 2, kLabel = 3 };
enum Label { kKey = 1, kStr = 2, kNum = 3, kNumUnit = 4 };
enum Mapping {
  kMappingId = 1,
  kMemoryStart = 2,
  kMemoryLimit = 3,
  kFilename = 5,
  kBuildId = 6,
  kHasFunctions = 7,
  kHasFilenames = 8,
  kHasLineNumbers = 9,
  kHasInlineFrames = 10,
};
enum Location { kLocationIdOf = 1, kMappingIdOf = 2, kAddress = 3, kLine = 4 };
enum Line { kFunctionId = 1, kLineNumber = 2 };
enum Function { kFunctionIdOf = 1, kName = 2, kSystemName = 3, kFile = 4 };
}  // namespace field

struct SampleType {
  const char* type;
  const char* unit;
};

// Go's four, in its order, where the view is of them.
std::vector<SampleType> sample_types(ViewKind kind) {
  switch (kind) {
    case ViewKind::kPeak:
      return {{"peak_objects", "count"}, {"peak_space", "bytes"}};
    case ViewKind::kGrowth:
      return {{"growth_objects", "count"}, {"growth_space", "bytes"}};
    case ViewKind::kStale:
      return {{"stale_objects", "count"}, {"stale_space", "bytes"}};
    default:
      return {{"alloc_objects", "count"},
              {"alloc_space", "bytes"},
              {"inuse_objects", "count"},
              {"inuse_space", "bytes"}};
  }
}

std::string hex_of(const record::Module& module) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (uint32_t i = 0; i < module.build_id_bytes; ++i) {
    text += kDigits[module.build_id[i] >> 4];
    text += kDigits[module.build_id[i] & 15];
  }
  return text;
}

// The size of the blocks of each site, as far as its live samples tell.
constexpr uint64_t kNone = 0, kSeveral = UINT64_MAX;
std::vector<uint64_t> sizes_of(const Profile& profile) {
  std::vector<uint64_t> sizes(profile.sites.size(), kNone);
  for (const record::Sample& sample : profile.samples) {
    uint64_t& size = sizes[sample.site];
    size = size == kNone || size == sample.bytes ? sample.bytes : kSeveral;
  }
  return sizes;
}

std::string gzipped(const std::string& text) {
  constexpr int kGzip = 16;  // on top of the window's bits
  z_stream stream = {};
  if (deflateInit2(&stream, Z_DEFAULT_COMPRESSION, Z_DEFLATED, MAX_WBITS + kGzip, 8,
                   Z_DEFAULT_STRATEGY) != Z_OK) {
    throw std::bad_alloc();
  }
  std::string out(deflateBound(&stream, text.size()), 0);
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  deflate(&stream, Z_FINISH);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

class Pprof {
 public:
  explicit Pprof(const ShownProfile& shown) : shown_(shown), sizes_(sizes_of(shown.profile)) {
    string_of("");  // the first, by the format
  }

  std::string text() {
    const record::ProfileHead& head = shown_.profile.head;
    const std::vector<SampleType> types = sample_types(shown_.view.kind);
    for (const SampleType& type : types) add_value_type(field::kSampleType, type);
    for (const ViewRow& row : shown_.view.rows) add_sample(row);
    add_mappings();
    for (const auto& [function, id] : functions_) add_function(function, id);
    out_.add_int64(field::kTimeNanos, head.time);
    out_.add_int64(field::kDurationNanos, static_cast<int64_t>(age_at(head.time, head.begun)));
    add_value_type(field::kPeriodType, {"space", "bytes"});
    out_.add_int64(field::kPeriod, static_cast<int64_t>(head.rate));
    const bool is_allocated = shown_.view.kind == ViewKind::kAllocated;
    out_.add_int64(field::kDefaultSampleType,
                   string_of(is_allocated ? "alloc_space" : types.back().type));
    out_.add_int64(field::kComment, string_of("tally: " + command_of(shown_.record.head)));
    // Names may hold any bytes, and strings of protobuf are UTF-8: readers refuse what is none.
    for (const std::string* text : strings_) {
      out_.add_string(field::kStringTable, printable(*text));
    }
    return gzipped(data_);
  }

 private:
  int64_t string_of(const std::string& text) {
    auto [at, is_new] = string_ids_.try_emplace(text, strings_.size());
    if (is_new) strings_.push_back(&at->first);
    return static_cast<int64_t>(at->second);
  }

  void add_value_type(uint32_t tag, const SampleType& type) {
    pbf_writer value(out_, tag);
    value.add_int64(field::kType, string_of(type.type));
    value.add_int64(field::kUnit, string_of(type.unit));
  }

  void add_sample(const ViewRow& row) {
    std::vector<uint64_t> locations;
    for (uint32_t call : shown_.symbols.stack_of(row.site->call)) {
      locations.push_back(location_of(call));
    }
    std::vector<int64_t> values;
    auto add = [&values](const record::Amount& amount) {
      values.push_back(static_cast<int64_t>(amount.objects));
      values.push_back(static_cast<int64_t>(amount.bytes));
    };
    const bool has_all = sample_types(shown_.view.kind).size() == 4;
    if (has_all) add(row.site->allocated);
    add(has_all ? row.site->live : row.amount);
    pbf_writer sample(out_, field::kSample);
    sample.add_packed_uint64(field::kLocationId, locations.begin(), locations.end());
    sample.add_packed_int64(field::kValue, values.begin(), values.end());
    add_labels(sample, *row.site);
  }

  void add_labels(pbf_writer& sample, const record::Site& site) {
    {
      pbf_writer label(sample, field::kLabel);
      label.add_int64(field::kKey, string_of("tag"));
      label.add_int64(field::kStr, string_of(std::string(shown_.profile.name(site.tag))));
    }
    const uint64_t size = sizes_[static_cast<size_t>(&site - shown_.profile.sites.data())];
    if (size == kNone || size == kSeveral) return;
    pbf_writer label(sample, field::kLabel);
    label.add_int64(field::kKey, string_of("bytes"));
    label.add_int64(field::kNum, static_cast<int64_t>(size));
    label.add_int64(field::kNumUnit, string_of("bytes"));
  }

  // A location is a call, its id one more than the call's, as 0 is none.
  uint64_t location_of(uint32_t call) {
    const uint64_t id = call + uint64_t{1};
    if (!located_.insert(call).second) return id;
    const record::Call& of = shown_.profile.calls[call];
    const std::vector<Frame>& frames = shown_.symbols.frames_of(call);
    pbf_writer location(out_, field::kLocation);
    location.add_uint64(field::kLocationIdOf, id);
    if (call != 0 && of.module != record::kNoModule) {
      location.add_uint64(field::kMappingIdOf, of.module + uint64_t{1});
      mapped_[of.module] |= !frames[0].file.empty();
    }
    if (call != 0) location.add_uint64(field::kAddress, of.address - 1);
    for (const Frame& frame : frames) {
      auto [at, is_new] =
          functions_.try_emplace({frame.function, frame.file}, functions_.size() + 1);
      pbf_writer line(location, field::kLine);
      line.add_uint64(field::kFunctionId, at->second);
      line.add_int64(field::kLineNumber, frame.line);
    }
    return id;
  }

  // The first is the program, as pprof takes it.
  void add_mappings() {
    const std::string_view program = text_of(shown_.record.head.executable);
    auto is_program = [&](uint32_t index) {
      return shown_.profile.name(shown_.profile.modules[index].path) == program;
    };
    for (bool of_program : {true, false}) {
      for (const auto& [module, has_lines] : mapped_) {
        if (is_program(module) == of_program) add_mapping(module, has_lines);
      }
    }
  }

  void add_mapping(uint32_t index, bool has_lines) {
    const record::Module& module = shown_.profile.modules[index];
    pbf_writer mapping(out_, field::kMapping);
    mapping.add_uint64(field::kMappingId, index + uint64_t{1});
    mapping.add_uint64(field::kMemoryStart, module.start);
    mapping.add_uint64(field::kMemoryLimit, module.end);
    mapping.add_int64(field::kFilename, string_of(std::string(shown_.profile.name(module.path))));
    mapping.add_int64(field::kBuildId, string_of(hex_of(module)));
    mapping.add_bool(field::kHasFunctions, true);  // it need not be looked up again
    mapping.add_bool(field::kHasFilenames, has_lines);
    mapping.add_bool(field::kHasLineNumbers, has_lines);
    mapping.add_bool(field::kHasInlineFrames, has_lines);
  }

  void add_function(const NameAndFile& function, uint64_t id) {
    pbf_writer out(out_, field::kFunction);
    out.add_uint64(field::kFunctionIdOf, id);
    out.add_int64(field::kName, string_of(function.first));
    out.add_int64(field::kSystemName, string_of(function.first));
    out.add_int64(field::kFile, string_of(function.second));
  }

  const ShownProfile& shown_;
  std::string data_;
  pbf_writer out_{data_};
  std::unordered_map<std::string, size_t> string_ids_;
  std::vector<const std::string*> strings_;
  std::vector<uint64_t> sizes_;      // by site
  std::set<uint32_t> located_;       // calls
  std::map<uint32_t, bool> mapped_;  // modules; whether lines of it are known
  std::map<NameAndFile, uint64_t> functions_;
};

}  // namespace

std::string profile_as_pprof(const ShownProfile& shown) { return Pprof(shown).text(); }

}  // namespace tally::tool
