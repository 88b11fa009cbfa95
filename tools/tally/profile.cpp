#include "profile.h"

#include <cmath>
#include <cstring>

#include "failure.h"

namespace tally::tool {
namespace {

bool is_sound(const record::Call& call, size_t index, size_t modules) {
  const bool has_module = call.module == record::kNoModule || call.module < modules;
  return call.caller < index && has_module;
}

bool is_sound(const record::Module& module) {
  return module.start <= module.end && module.build_id_bytes <= sizeof module.build_id;
}

}  // namespace

std::string_view Profile::name(uint32_t offset) const {
  if (offset >= texts.size()) return {};
  const size_t most = texts.size() - offset;
  const size_t length = strnlen(texts.data() + offset, most);
  return length == most ? std::string_view() : std::string_view(texts.data() + offset, length);
}

void Profile::require_sound(const std::string& source) const {
  auto fail = [&source](const char* what, size_t index, const char* why) {
    throw Failure(kFailed, source + ": damaged: " + what + " " + std::to_string(index) +
                               " of its profile " + why);
  };
  for (size_t i = 0; i < modules.size(); ++i) {
    if (!is_sound(modules[i])) fail("module", i, "has no sound limits");
  }
  // The library's stacks have 96 frames. Each site shows all of its own: of ever longer ones there
  // would be no end.
  constexpr uint16_t kDepthMost = 256;
  std::vector<uint16_t> depths(calls.size());
  for (size_t i = 1; i < calls.size(); ++i) {
    if (!is_sound(calls[i], i, modules.size())) fail("call", i, "leads nowhere");
    depths[i] = uint16_t(depths[calls[i].caller] + 1);
    if (depths[i] > kDepthMost) fail("call", i, "lies deeper than any stack");
  }
  for (size_t i = 0; i < sites.size(); ++i) {
    if (sites[i].call >= calls.size()) fail("site", i, "has a stack that is not there");
    if (!name(sites[i].tag).starts_with('/')) fail("site", i, "has a tag without a name");
  }
  for (size_t i = 0; i < samples.size(); ++i) {
    if (samples[i].site >= sites.size()) fail("sample", i, "is of no site");
  }
}

double weight_of(uint64_t bytes, uint64_t rate) {
  if (bytes == 0 || rate == 0) return 1;
  return -1 / std::expm1(-static_cast<double>(bytes) / static_cast<double>(rate));
}

}  // namespace tally::tool
