#include "output.hpp"

#include <zlib.h>

#include <cstdint>
#include <nlohmann/json.hpp>
#include <protozero/pbf_reader.hpp>
#include <regex>
#include <set>
#include <sstream>
#include <stdexcept>
#include <vector>

namespace tally::fuzz {
namespace {

void require(bool condition, const char* what) {
  if (!condition) throw std::runtime_error(what);
}

// UTF-8 by its definition, and none of its controls but ends of lines.
void check_characters(const std::string& text) {
  for (size_t i = 0; i < text.size();) {
    const auto first = static_cast<unsigned char>(text[i]);
    const size_t length = first < 0x80 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
    require(first < 0x80 || (first >= 0xc2 && first <= 0xf4), "not UTF-8");
    require(i + length <= text.size(), "UTF-8 that is cut");
    uint32_t character = length == 1 ? first : first & (0xff >> (length + 1));
    for (size_t k = 1; k < length; ++k) {
      const auto next = static_cast<unsigned char>(text[i + k]);
      require((next & 0xc0) == 0x80, "not UTF-8");
      character = character << 6 | (next & 0x3f);
    }
    require(length < 3 || character >= (length == 3 ? 0x800u : 0x10000u), "overlong UTF-8");
    require(character < 0xd800 || character > 0xdfff, "a surrogate in UTF-8");
    require(character <= 0x10ffff, "above Unicode");
    const bool is_control = character < 0x20 || (character >= 0x7f && character < 0xa0);
    require(!is_control || character == '\n', "a control character");
    i += length;
  }
}

std::string unzipped(const std::string& text) {
  z_stream stream = {};
  require(inflateInit2(&stream, MAX_WBITS + 16) == Z_OK, "zlib");
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = static_cast<uInt>(text.size());
  std::string out;
  int state = Z_OK;
  while (state == Z_OK) {
    char piece[16384];
    stream.next_out = reinterpret_cast<Bytef*>(piece);
    stream.avail_out = sizeof piece;
    state = inflate(&stream, Z_NO_FLUSH);
    out.append(piece, sizeof piece - stream.avail_out);
  }
  inflateEnd(&stream);
  require(state == Z_STREAM_END, "not gzip");
  return out;
}

// Of profile.proto, by its field numbers: that what is referred to is there.
class Pprof {
 public:
  explicit Pprof(const std::string& data) {
    protozero::pbf_reader profile(data);
    while (profile.next()) take(profile);
  }

  void check() const {
    require(!strings_.empty() && strings_[0].empty(), "the first string is not empty");
    for (const std::string& text : strings_) check_characters(text);
    for (uint64_t index : used_strings_) require(index < strings_.size(), "no such string");
    for (uint64_t id : used_locations_) require(locations_.contains(id), "no such location");
    for (uint64_t id : used_functions_) require(functions_.contains(id), "no such function");
    for (uint64_t id : used_mappings_) require(mappings_.contains(id), "no such mapping");
  }

 private:
  void take(protozero::pbf_reader& profile) {
    switch (profile.tag()) {
      case 1:  // sample_type
      case 11: {
        protozero::pbf_reader type(profile.get_message());
        while (type.next()) used_strings_.push_back(type.get_uint64());
        return;
      }
      case 2:
        return take_sample(profile.get_message());
      case 3:
        return take_numbers(profile.get_message(), &mappings_, {5, 6});
      case 4:
        return take_location(profile.get_message());
      case 5:
        return take_numbers(profile.get_message(), &functions_, {2, 3, 4});
      case 6:
        strings_.push_back(profile.get_string());
        return;
      case 13:  // comment
      case 14:  // default_sample_type
        used_strings_.push_back(profile.get_uint64());
        return;
      default:
        profile.skip();
    }
  }

  void take_sample(protozero::pbf_reader sample) {
    size_t values = 0;
    while (sample.next()) {
      if (sample.tag() == 1) {
        for (uint64_t id : sample.get_packed_uint64()) used_locations_.push_back(id);
      } else if (sample.tag() == 2) {
        values += sample.get_packed_int64().size();
      } else if (sample.tag() == 3) {
        protozero::pbf_reader label(sample.get_message());
        while (label.next()) {
          const bool is_string = label.tag() != 3;
          const uint64_t number = label.get_uint64();
          if (is_string) used_strings_.push_back(number);
        }
      } else {
        sample.skip();
      }
    }
    require(values == 2 || values == 4, "a sample without its values");
  }

  void take_location(protozero::pbf_reader location) {
    while (location.next()) {
      if (location.tag() == 1) {
        require(locations_.insert(location.get_uint64()).second, "a location is there twice");
      } else if (location.tag() == 2) {
        used_mappings_.push_back(location.get_uint64());
      } else if (location.tag() == 4) {
        protozero::pbf_reader line(location.get_message());
        while (line.next()) {
          line.tag() == 1 ? used_functions_.push_back(line.get_uint64()) : line.skip();
        }
      } else {
        location.skip();
      }
    }
  }

  // A message of an id and numbers, of which some are strings.
  void take_numbers(protozero::pbf_reader message, std::set<uint64_t>* ids,
                    const std::set<uint32_t>& strings) {
    while (message.next()) {
      const uint32_t tag = message.tag();
      const uint64_t number = message.get_uint64();
      if (tag == 1) require(number != 0 && ids->insert(number).second, "an id is there twice");
      if (strings.contains(tag)) used_strings_.push_back(number);
    }
  }

  std::vector<std::string> strings_;
  std::set<uint64_t> locations_, functions_, mappings_;
  std::vector<uint64_t> used_strings_, used_locations_, used_functions_, used_mappings_;
};

}  // namespace

void check_text(const std::string& text) {
  check_characters(text);
  require(text.empty() || text.back() == '\n', "the last line has no end");
}

// It throws what the parser says: no UTF-8 passes that is none.
void check_json(const std::string& text) {
  try {
    const auto value = nlohmann::json::parse(text);
    require(value.is_structured(), "neither an object nor an array");
  } catch (const nlohmann::json::exception& error) {
    throw std::runtime_error(error.what());
  }
}

void check_open_metrics(const std::string& text) {
  check_text(text);
  require(text.ends_with("# EOF\n"), "no end");
  static const std::regex sample(
      R"re(([a-z_]+)(\{[a-z_]+="([^"\\]|\\["\\])*"(,[a-z_]+="([^"\\]|\\["\\])*")*\})? -?[0-9.]+)re",
      std::regex::optimize);
  std::set<std::string> series;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("# ")) continue;
    require(line.size() < 4000, "a long line");  // which std::regex has no stack for
    require(std::regex_match(line, sample), "not a sample");
    require(series.insert(line.substr(0, line.rfind(' '))).second, "a series is there twice");
  }
}

void check_folded(const std::string& text) {
  check_text(text);
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    const size_t space = line.rfind(' ');
    require(line.starts_with('/') && space != std::string::npos, "not a stack");
    const std::string count = line.substr(space + 1);
    require(!count.empty() && count.find_first_not_of("0123456789") == count.npos, "no count");
  }
}

void check_pprof(const std::string& gzipped) {
  try {
    Pprof(unzipped(gzipped)).check();
  } catch (const protozero::exception& error) {
    throw std::runtime_error(std::string("not protobuf: ") + error.what());
  }
}

}  // namespace tally::fuzz
