// What `tally limit` is given, as TALLY_LIMITS has it: SIZE[:soft=SIZE][:wait=MS|:abort|:fail],
// where a SIZE is 512M, 1.5G, 90% or none.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "tally/tally.h"

namespace tally::tool {

struct LimitSettings {
  uint64_t soft = TALLY_LIMIT_NONE;
  uint64_t hard = TALLY_LIMIT_NONE;
  tally_policy policy = TALLY_POLICY_FAIL;
};

// `all_memory` says what shares are of, and is called if there is one. Throws std::invalid_argument
// with what was expected.
LimitSettings read_limit(const std::string& text, const std::function<uint64_t()>& all_memory);

// "512K", "1.5G", "100": none if it is no size.
std::optional<uint64_t> read_size(const std::string& text);

// What a process may have by its cgroup, else by the machine.
uint64_t memory_of(long pid);

// The path with its first /. Throws std::invalid_argument with what was expected.
std::string tag_path(const std::string& text);

}  // namespace tally::tool
