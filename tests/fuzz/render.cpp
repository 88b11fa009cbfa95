// An input is names of tags, with any bytes that tags may have, and what to allocate under them:
// the library's JSON is JSON that tells of each, into buffers of any size, and its table is text.
#include <cstring>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "input.hpp"
#include "tally/tally.h"

namespace tally::fuzz {
namespace {

using nlohmann::json;
using Print = size_t (*)(char* buffer, size_t bytes);

// The whole; and what fits of it where there is less room.
std::string text_of(Print print, size_t room) {
  const size_t length = print(nullptr, 0);
  std::string whole(length + 1, 'x');
  // A figure of the kernel's, resident memory, may have another number of digits by now.
  const size_t now = print(whole.data(), whole.size());
  FUZZ_CHECK(now + 40 > length && now < length + 40);
  whole.resize(std::min(now, length));
  std::vector<char> part(room % 4096 + 1, 'x');
  print(part.data(), part.size());
  FUZZ_CHECK(strnlen(part.data(), part.size()) == std::min(part.size() - 1, strlen(part.data())));
  FUZZ_CHECK(memchr(part.data(), 0, part.size()) != nullptr);
  return now <= length ? whole : std::string();
}

bool is_control(const std::string& text, size_t i) {
  const auto c = static_cast<unsigned char>(text[i]);
  const auto before = static_cast<unsigned char>(i == 0 ? 0 : text[i - 1]);
  return (c < 0x20 && c != '\n') || c == 0x7f || (before == 0xc2 && c >= 0x80 && c < 0xa0);
}

struct Tag {
  tally_tag id;
  void* block;
};

void check_json(size_t room, const std::vector<Tag>& tags) {
  const std::string text = text_of(tally_snapshot_json, room);
  if (text.empty()) return;
  const json all = json::parse(text, nullptr, false);
  FUZZ_CHECK(all.is_object());
  std::map<uint32_t, json> rows;
  for (const json& row : all["tags"]) rows[row["id"].get<uint32_t>()] = row;
  for (const Tag& tag : tags) {
    FUZZ_CHECK(rows.contains(tag.id));
    const json& row = rows[tag.id];
    char path[TALLY_TAG_PATH_MAX + 1];
    FUZZ_CHECK(tally_tag_name(tag.id, path, sizeof path) < sizeof path);
    const std::string name = row["name"].get<std::string>();
    // As it is, where it is UTF-8.
    FUZZ_CHECK(name == path || name.find("\xef\xbf\xbd") != std::string::npos);
    FUZZ_CHECK(row["live_bytes"].get<uint64_t>() >= tally_usable_size(tag.block));
  }
}

}  // namespace
}  // namespace tally::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tally::fuzz;
  Input input(data, size);
  const size_t room = input.number(2);
  std::vector<Tag> tags;
  while (!input.is_empty() && tags.size() < 16) {
    const uint64_t bytes = input.number(2);
    const tally_tag tag = tally_tag_create(input.line('\n').c_str());
    void* block = tag == TALLY_TAG_NONE ? nullptr : tally_malloc(tag, bytes);
    if (block != nullptr) tags.push_back({tag, block});
  }
  check_json(room, tags);
  const std::string text = text_of(tally_snapshot_text, room);
  for (size_t i = 0; i < text.size(); ++i) FUZZ_CHECK(!is_control(text, i));
  for (const Tag& tag : tags) {
    tally_free(tag.block);
    tally_tag_retire(tag.id);
  }
  return 0;
}
