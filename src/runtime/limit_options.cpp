#include "runtime/limit_options.h"

#include <string.h>

#include "base/text.h"
#include "heap/heap.h"
#include "memory/meta.h"
#include "os/os.h"
#include "stats/render.h"
#include "tag/tag.h"
#include "tally/tally.h"

namespace tally::core {
namespace {

// As the user gave them; empty if he did not.
constinit Text g_limit = {"", 0};
constinit Text g_limits = {"", 0};
constinit Text g_faults = {"", 0};

struct Limits {
  uint64_t soft = Account::kNoLimit;
  uint64_t hard = Account::kNoLimit;
  Policy policy;
  bool has_share = false;
};

// "64M" or "90%". A share is one of all that the process may have.
bool read_limit(Text value, uint64_t* bytes, bool* is_share) {
  if (value.length == 0 || value.start[value.length - 1] != '%') return read_size(value, bytes);
  uint64_t percent;
  if (!read_number({value.start, value.length - 1}, 100, &percent)) return false;
  bool of_cgroup;
  *bytes = os::memory_bytes(&of_cgroup) / 100 * percent;
  *is_share = true;
  return true;
}

bool has_key(Text* part, const char* key) {
  size_t at = find(*part, '=');
  if (at == part->length || !same_letters({part->start, at}, key)) return false;
  *part = {part->start + at + 1, part->length - at - 1};
  return true;
}

// What is wrong with "SIZE:soft=SIZE:wait=MS"; nullptr: nothing.
const char* read_limits(Text text, Limits* limits) {
  if (!read_limit(next_part(&text, ':'), &limits->hard, &limits->has_share)) return kLimitAccepts;
  while (text.length != 0) {
    Text part = next_part(&text, ':');
    uint64_t ms;
    if (part.is("fail")) {
      limits->policy = {};
    } else if (part.is("abort")) {
      limits->policy = {Policy::kAbort, 0};
    } else if (has_key(&part, "soft")) {
      if (!read_limit(part, &limits->soft, &limits->has_share)) return kLimitAccepts;
    } else if (has_key(&part, "wait")) {
      if (!read_number(part, UINT32_MAX, &ms)) return kLimitAccepts;
      limits->policy = {Policy::kWait, static_cast<uint32_t>(ms)};
    } else {
      return kLimitAccepts;
    }
  }
  bool is_upside_down = limits->soft != Account::kNoLimit && limits->soft > limits->hard;
  return is_upside_down ? "a soft limit that is not above the hard one" : nullptr;
}

// "cache", as a path that ends with 0. False: too long.
bool copy_tag(Text name, char (&path)[TALLY_TAG_PATH_MAX + 2]) {
  if (name.length >= sizeof path) return false;
  memcpy(path, name.start, name.length);
  path[name.length] = 0;
  return true;
}

// The tag, made if need be, and whether it was; nullptr: that cannot be, and was said.
Tag* tag_for(const char* option, Text name, bool* is_new) {
  char path[TALLY_TAG_PATH_MAX + 2];
  uint32_t id;
  *is_new = copy_tag(name, path) && lookup_tag(path, &id) != 0;
  if (copy_tag(name, path) && create_tag(path, &id) == 0 && id != kOwnTag) return find_tag(id);
  complain_expected(option, name, "the path of a tag that may be made, such as cache/blocks");
  return nullptr;
}

// "0.001": of 2^64 so many.
bool read_odds(Text value, uint64_t* odds) {
  double p = 0, unit = 1;
  bool has_digit = false, in_fraction = false;
  for (size_t i = 0; i < value.length; ++i) {
    char c = value.start[i];
    if (c == '.' && !in_fraction) {
      in_fraction = true;
    } else if (c >= '0' && c <= '9') {
      has_digit = true;
      if (in_fraction) unit /= 10;
      p = in_fraction ? p + (c - '0') * unit : p * 10 + (c - '0');
    } else {
      return false;
    }
  }
  if (!has_digit || p > 1) return false;
  *odds = p == 1 ? UINT64_MAX : static_cast<uint64_t>(p * 0x1p64);
  return true;
}

// What is wrong with "nth=N", "p=0.001:seed=N" or "above=BYTES"; nullptr: nothing.
const char* read_fault(Text text, Fault* fault) {
  static constexpr char kAccepts[] = "nth=N, p=0.001, seed=N or above=BYTES";
  if (text.length == 0) return kAccepts;
  while (text.length != 0) {
    Text part = next_part(&text, ':');
    bool ok = false;
    if (has_key(&part, "nth")) {
      ok = read_number(part, UINT64_MAX / 16, &fault->nth) && fault->nth != 0;
    } else if (has_key(&part, "seed")) {
      ok = read_number(part, UINT64_MAX / 16, &fault->seed);
    } else if (has_key(&part, "above")) {
      ok = read_size(part, &fault->above);
    } else if (has_key(&part, "p")) {
      ok = read_odds(part, &fault->odds);
    }
    if (!ok) return kAccepts;
  }
  return nullptr;
}

void apply_limit(const char* option, Tag* tag, Text text) {
  Limits limits;
  if (read_limits(text, &limits) != nullptr) return;  // said before
  set_limit(tag, limits.soft, limits.hard, limits.policy);
  bool of_cgroup;
  uint64_t all = limits.has_share ? os::memory_bytes(&of_cgroup) : 0;
  if (!limits.has_share || of_cgroup) return;
  char reason[96];
  TextWriter out(reason, sizeof reason - 1);
  put_bytes(out.put("no cgroup limit, so a share is one of the machine's memory, "), all);
  reason[out.used()] = 0;
  complain(option, text, reason);
}

// Looks at each part of a list: check(name, rest) says what is wrong with it, or nullptr.
template <class Check>
void check_list(const char* option, Text list, char separator, Check check) {
  while (list.length != 0) {
    Text part = next_part(&list, ',');
    Text rest = part;
    Text name = next_part(&rest, separator);
    if (part.length == 0) continue;
    if (const char* accepts = check(name, rest)) complain_expected(option, part, accepts);
  }
}

}  // namespace

bool set_limit_option(Text value) {
  Limits limits;
  const char* wrong = read_limits(value, &limits);
  if (wrong == nullptr) g_limit = value;
  if (wrong == nullptr || wrong == kLimitAccepts) return wrong == nullptr;
  complain_expected("TALLY_LIMIT ", value, wrong);
  return true;
}

bool set_limits_option(Text value) {
  g_limits = value;
  check_list("TALLY_LIMITS ", value, '=', [](Text, Text rest) {
    Limits limits;
    return read_limits(rest, &limits);
  });
  return true;
}

bool set_fault_option(Text value) {
  g_faults = value;
  check_list("TALLY_FAULT ", value, ':', [](Text, Text rest) {
    Fault fault;
    return read_fault(rest, &fault);
  });
  return true;
}

void apply_limits() {
  char made[512];
  TextWriter out(made, sizeof made - 1);
  // Faults first, as tags inherit them when they are made.
  check_list("", g_faults, ':', [](Text name, Text rest) -> const char* {
    Fault read;
    if (read_fault(rest, &read) != nullptr) return nullptr;
    bool is_new;
    Tag* tag = tag_for("TALLY_FAULT ", name, &is_new);
    auto* fault = static_cast<Fault*>(meta::allocate_forever(sizeof(Fault)));
    if (tag == nullptr || fault == nullptr) return nullptr;
    fault->nth = read.nth;
    fault->above = read.above;
    fault->odds = read.odds;
    fault->seed = read.seed;
    tag->fault = fault;
    tls.heap = &empty_heap;  // what this thread had at hand knows nothing of it
    return nullptr;
  });
  check_list("", g_limits, '=', [&](Text name, Text rest) -> const char* {
    Limits limits;
    if (read_limits(rest, &limits) != nullptr) return nullptr;
    bool is_new;
    Tag* tag = tag_for("TALLY_LIMITS ", name, &is_new);
    if (tag == nullptr) return nullptr;
    if (is_new) out.put(out.used() == 0 ? "made " : ", ").put(tag->name);
    apply_limit("TALLY_LIMITS ", tag, rest);
    return nullptr;
  });
  if (g_limit.length != 0) apply_limit("TALLY_LIMIT ", root_tag(), g_limit);
  if (out.used() == 0) return;
  made[out.used()] = 0;
  complain("TALLY_LIMITS", {"", 0}, made);
}

}  // namespace tally::core
