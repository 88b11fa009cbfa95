// The sampled heap profile of a record: which stacks allocated what lives, and what ever was.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "record/layout.h"

namespace tally::tool {

// As Reader::read_profile() found it, which calls require_sound(): from then on every index, count
// and name in it may be used as it stands. The amounts are whatever was there: sums of them may
// wrap. All is empty where nothing was sampled.
struct Profile {
  record::ProfileHead head = {};  // its time is that of the newest frame, if that is later
  std::vector<record::Site> sites;
  std::vector<record::Sample> samples;
  std::vector<record::Call> calls;  // [0] is the root
  std::vector<record::Module> modules;
  std::vector<char> texts;

  // False: TALLY_SAMPLE was off, or the process has only just started.
  bool is_on() const { return head.rate != 0; }

  // Of the amounts `mark`: when sampling began if there was none yet.
  int64_t mark_time() const { return head.mark_time != 0 ? head.mark_time : head.begun; }

  // A tag's path or a module's; empty if there is none.
  std::string_view name(uint32_t offset) const;

  // Throws Failure (kFailed), which names `source`, if an index or a count leads outside, or a tag
  // has no name.
  void require_sound(const std::string& source) const;
};

// How many blocks of this size, or of a size near it, one sample stands for: a block is sampled
// with probability 1 - exp(-bytes / rate).
double weight_of(uint64_t bytes, uint64_t rate);

}  // namespace tally::tool
