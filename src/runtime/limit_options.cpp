#include "runtime/limit_options.h"

#include <errno.h>
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

constexpr char kOwnAccepts[] = "a tag of the program's, for /tally is Tally's own";

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
  uint64_t all = os::memory_bytes(&of_cgroup);
  *bytes = all / 100 * percent + all % 100 * percent / 100;
  *is_share = true;
  return true;
}

bool has_key(Text* part, const char* key) {
  size_t at = find(*part, '=');
  if (at == part->length || !same_letters({part->start, at}, key)) return false;
  *part = {part->start + at + 1, part->length - at - 1};
  return true;
}

// What was expected where "SIZE:soft=SIZE:wait=MS" goes wrong; nullptr: nothing is wrong.
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
      bool ok = read_limit(part, &limits->soft, &limits->has_share);
      if (!ok) return "after soft= a size of at most 64T, such as 1.5G, or a share, 0% to 100%";
    } else if (has_key(&part, "wait")) {
      bool ok = read_number(part, UINT32_MAX, &ms);
      if (!ok) return "after wait= milliseconds, 0 to 4294967295";
      limits->policy = {Policy::kWait, static_cast<uint32_t>(ms)};
    } else {
      return "after the limit :soft=SIZE, :wait=MS, :abort or :fail";
    }
  }
  bool is_upside_down = limits->soft != Account::kNoLimit && limits->soft > limits->hard;
  return is_upside_down ? "a soft limit that is not above the hard one" : nullptr;
}

// Finds or makes the tag, and tells whether it is new. What was expected instead of its name, or
// nullptr.
const char* tag_for(Text name, Tag** tag, bool* is_new) {
  char path[TALLY_TAG_PATH_MAX + 2];
  uint32_t id = kNoTag;
  int error = name.length < sizeof path ? 0 : ENAMETOOLONG;
  if (error == 0) {
    memcpy(path, name.start, name.length);
    path[name.length] = 0;
    *is_new = lookup_tag(path, &id) != 0;
    error = create_tag(path, &id);
  }
  if (error != 0) return expected_path(error);
  *tag = find_tag(id);
  return id == kOwnTag ? kOwnAccepts : nullptr;
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

// What was expected where "nth=N", "p=0.001:seed=N" or "above=BYTES" goes wrong; nullptr: nothing.
const char* read_fault(Text text, Fault* fault) {
  bool has_seed = false, has_other = false;
  while (text.length != 0) {
    Text part = next_part(&text, ':');
    if (has_key(&part, "nth")) {
      bool ok = read_number(part, UINT64_MAX / 16, &fault->nth) && fault->nth != 0;
      if (!ok) return "after nth= a number from 1, as the first allocation is 1";
    } else if (has_key(&part, "above")) {
      if (!read_size(part, &fault->above)) return "after above= a size, such as 64K";
    } else if (has_key(&part, "p")) {
      if (!read_odds(part, &fault->odds)) return "after p= a probability, 0 to 1, such as 0.001";
    } else if (has_key(&part, "seed")) {
      if (!read_number(part, UINT64_MAX / 16, &fault->seed)) return "after seed= a number";
      has_seed = true;
      continue;
    } else {
      return kFaultAccepts;
    }
    has_other = true;
  }
  if (has_other) return nullptr;
  return has_seed ? "p=0.001 beside seed=, or nothing fails" : kFaultAccepts;
}

// The same of a part of TALLY_LIMITS, and of TALLY_FAULT.
const char* read_part(Text tag, Text rest, Limits* limits) {
  return tag.length == 0 || rest.length == 0 ? kLimitsAccepts : read_limits(rest, limits);
}
const char* read_part(Text tag, Text rest, Fault* fault) {
  return tag.length == 0 ? kFaultAccepts : read_fault(rest, fault);
}

// use(part, tag, rest) for each part of a list; it returns what it expected instead, or nullptr.
template <class Use>
void for_each_part(const char* option, Text list, char separator, Use use) {
  while (list.length != 0) {
    Text part = without_spaces(next_part(&list, ','));
    if (part.length == 0) continue;
    Text rest = part;
    Text tag = without_spaces(next_part(&rest, separator));
    const char* accepts = use(part, tag, without_spaces(rest));
    if (accepts != nullptr) complain_expected(option, part, accepts);
  }
}

// Complains of the parts that cannot be read.
template <class What>
void check_parts(const char* option, Text list, char separator) {
  for_each_part(option, list, separator, [](Text, Text tag, Text rest) {
    What what;
    return read_part(tag, rest, &what);
  });
}

constexpr char kLimitIs[] = "TALLY_LIMIT=";
constexpr char kLimitsHas[] = "TALLY_LIMITS ";
constexpr char kFaultHas[] = "TALLY_FAULT ";

void apply_limit(const char* option, Text said, Tag* tag, const Limits& limits) {
  set_limit(tag, limits.soft, limits.hard, limits.policy);
  bool of_cgroup;
  uint64_t all = limits.has_share ? os::memory_bytes(&of_cgroup) : 0;
  if (!limits.has_share || of_cgroup) return;
  char reason[96];
  TextWriter out(reason, sizeof reason - 1);
  put_bytes(out.put("no cgroup has a limit, so this is of the machine's memory, "), all);
  reason[out.used()] = 0;
  remark(option, said, reason);
}

void apply_faults() {
  // All tags before any fault, so that each has that of the nearest above it, whatever their order.
  for_each_part(kFaultHas, g_faults, ':', [](Text, Text name, Text rest) -> const char* {
    Fault fault;
    Tag* tag;
    bool is_new;
    return read_part(name, rest, &fault) == nullptr ? tag_for(name, &tag, &is_new) : nullptr;
  });
  for_each_part(kFaultHas, g_faults, ':', [](Text, Text name, Text rest) -> const char* {
    Fault read;
    Tag* tag;
    bool is_new;
    if (read_part(name, rest, &read) != nullptr || tag_for(name, &tag, &is_new) != nullptr) {
      return nullptr;
    }
    auto* fault = static_cast<Fault*>(meta::allocate_forever(sizeof(Fault)));
    if (fault == nullptr) return nullptr;
    fault->nth = read.nth;
    fault->above = read.above;
    fault->odds = read.odds;
    fault->seed = read.seed;
    tag->fault_plan.store(fault, std::memory_order_release);
    return nullptr;
  });
  for (uint32_t id = 0; id < tag_limit(); ++id) {
    Tag* tag = find_tag(id);
    if (tag == nullptr) continue;
    const Tag* nearest = tag;
    while (nearest->fault() == nullptr && nearest->parent() != nullptr) nearest = nearest->parent();
    tag->fault_plan.store(nearest->fault(), std::memory_order_release);
  }
  if (g_faults.length != 0) tls.heap = &empty_heap;  // what this thread has at hand knows of none
}

}  // namespace

const char* expected_path(int error) {
  if (error == ENAMETOOLONG) return "a tag's path of at most 255 bytes, its first / included";
  if (error == EINVAL) return "a tag's path, as cache/blocks, without an empty name";
  if (error == EPERM) return kOwnAccepts;
  return "fewer tags, or more memory";
}

bool set_limit_option(Text value) {
  Limits limits;
  const char* accepts = read_limits(value, &limits);
  if (accepts == nullptr) {
    g_limit = value;
  } else {
    complain_expected(kLimitIs, value, accepts);
  }
  return true;
}

bool set_limits_option(Text value) {
  g_limits = value;
  check_parts<Limits>(kLimitsHas, value, '=');
  return true;
}

bool set_fault_option(Text value) {
  g_faults = value;
  check_parts<Fault>(kFaultHas, value, ':');
  return true;
}

void apply_limits() {
  apply_faults();
  constexpr size_t kMore = sizeof ", and more";
  char made[512];
  TextWriter out(made, sizeof made - kMore);
  bool is_cut = false;
  for_each_part(kLimitsHas, g_limits, '=', [&](Text part, Text name, Text rest) -> const char* {
    Limits limits;
    if (read_part(name, rest, &limits) != nullptr) return nullptr;  // said before
    Tag* tag;
    bool is_new;
    if (const char* accepts = tag_for(name, &tag, &is_new)) return accepts;
    is_cut = is_cut || out.used() + sizeof "made , " + tag->name_length > sizeof made - kMore;
    if (is_new && !is_cut) out.put(out.used() == 0 ? "made " : ", ").put(tag->name);
    apply_limit(kLimitsHas, part, tag, limits);
    return nullptr;
  });
  Limits limits;
  if (g_limit.length != 0 && read_limits(g_limit, &limits) == nullptr) {
    apply_limit(kLimitIs, g_limit, root_tag(), limits);
  }
  if (out.used() == 0) return;
  strcpy(made + out.used(), is_cut ? ", and more" : "");
  remark("TALLY_LIMITS", {"", 0}, made);
}

}  // namespace tally::core
