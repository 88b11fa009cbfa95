#include "limit_size.h"

#include <sys/sysinfo.h>

#include <algorithm>
#include <fstream>
#include <optional>
#include <sstream>
#include <stdexcept>

#include "process.h"

namespace tally::tool {
namespace {

// The library knows none above it.
constexpr uint64_t kMost = uint64_t{64} << 40;
// The record's word for a policy has 24 bits for the time.
constexpr uint64_t kMostWait = (1 << 24) - 1;

std::optional<uint64_t> number_in(const std::string& text, uint64_t most) {
  if (text.empty() || text.size() > 19 || text.find_first_not_of("0123456789") != text.npos) {
    return std::nullopt;
  }
  uint64_t number = std::stoull(text);
  return number <= most ? std::optional(number) : std::nullopt;
}

// "", "k", "KiB", "M", ...: a number of bits.
std::optional<unsigned> unit_in(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? char(c - 'A' + 'a') : c; });
  if (text.empty() || text == "b") return 0;
  size_t at = std::string("kmgt").find(text[0]);
  const std::string rest = text.substr(1);
  if (at == std::string::npos || (!rest.empty() && rest != "b" && rest != "ib"))
    return std::nullopt;
  return unsigned(10 * (at + 1));
}

}  // namespace

std::optional<uint64_t> read_size(const std::string& text) {
  size_t digits = std::min(text.find_first_not_of("0123456789"), text.size());
  auto whole = number_in(text.substr(0, digits), kMost);
  std::string unit = text.substr(digits), fraction;
  if (unit.starts_with('.')) {
    size_t end = std::min(unit.find_first_not_of("0123456789", 1), unit.size());
    fraction = unit.substr(1, end - 1);
    unit = unit.substr(end);
    if (fraction.empty() || fraction.size() > 6 || unit.empty()) return std::nullopt;
  }
  auto shift = unit_in(unit);
  if (!whole || !shift || *whole > kMost >> *shift) return std::nullopt;
  uint64_t scale = 1;
  for (size_t i = 0; i < fraction.size(); ++i) scale *= 10;
  uint64_t part = fraction.empty() ? 0 : (std::stoull(fraction) << *shift) / scale;
  uint64_t bytes = (*whole << *shift) + part;
  return bytes <= kMost ? std::optional(bytes) : std::nullopt;
}

namespace {

std::optional<uint64_t> limit_in(const std::string& text,
                                 const std::function<uint64_t()>& all_memory) {
  if (text == "none") return TALLY_LIMIT_NONE;
  if (!text.ends_with('%')) return read_size(text);
  auto percent = number_in(text.substr(0, text.size() - 1), 100);
  if (!percent) return std::nullopt;
  uint64_t all = all_memory();
  return all / 100 * *percent + all % 100 * *percent / 100;
}

uint64_t least_limit(const std::string& mount, const std::string& file, std::string group) {
  uint64_t least = UINT64_MAX;
  while (true) {
    std::ifstream text(std::string(mount).append(group).append(file));
    uint64_t bytes;
    if (text >> bytes) least = std::min(least, bytes);
    size_t slash = group.rfind('/');
    if (slash == group.npos) return least;
    group.resize(slash);
  }
}

}  // namespace

LimitSettings read_limit(const std::string& text, const std::function<uint64_t()>& all_memory) {
  auto expect = [](const char* what) { throw std::invalid_argument(what); };
  LimitSettings limit;
  std::istringstream parts(text);
  std::string part;
  std::getline(parts, part, ':');
  auto hard = limit_in(part, all_memory);
  if (!hard) expect("a size of at most 64T, such as 1.5G, a share, 0% to 100%, or none");
  limit.hard = *hard;
  while (std::getline(parts, part, ':')) {
    if (part == "fail") {
      limit.policy = TALLY_POLICY_FAIL;
    } else if (part == "abort") {
      limit.policy = TALLY_POLICY_ABORT;
    } else if (part.starts_with("soft=")) {
      auto soft = limit_in(part.substr(5), all_memory);
      if (!soft) expect("after soft= a size of at most 64T, such as 1.5G, a share, or none");
      limit.soft = *soft;
    } else if (part.starts_with("wait=")) {
      auto ms = number_in(part.substr(5), kMostWait);
      if (!ms) expect("after wait= milliseconds, 0 to 16777215");
      limit.policy = TALLY_POLICY_WAIT(*ms);
    } else {
      expect("after the limit :soft=SIZE, :wait=MS, :abort or :fail");
    }
  }
  if (limit.soft != TALLY_LIMIT_NONE && limit.soft > limit.hard) {
    expect("a soft limit that is not above the hard one");
  }
  return limit;
}

uint64_t memory_of(long pid) {
  struct sysinfo info = {};
  sysinfo(&info);
  uint64_t least = uint64_t{info.totalram} * info.mem_unit;
  std::istringstream lines(read_proc(pid, "cgroup"));
  for (std::string line; std::getline(lines, line);) {
    size_t path = line.find('/');
    if (path == line.npos) continue;
    if (line.starts_with("0::")) {
      least = std::min(least, least_limit("/sys/fs/cgroup", "/memory.max", line.substr(path)));
    } else if (line.find(":memory:") != line.npos) {
      least = std::min(
          least, least_limit("/sys/fs/cgroup/memory", "/memory.limit_in_bytes", line.substr(path)));
    }
  }
  return least;
}

std::string tag_path(const std::string& text) {
  if (text.empty()) throw std::invalid_argument("a tag's path, / for the whole process");
  std::string path = text.starts_with('/') ? "" : "/";
  path += text;
  if (path.size() > TALLY_TAG_PATH_MAX) {
    throw std::invalid_argument("a tag's path of at most 255 bytes, its first / included");
  }
  bool has_control = std::any_of(path.begin(), path.end(), [](char c) {
    return static_cast<unsigned char>(c) < 0x20 || c == 0x7f;
  });
  bool has_empty_name = path.find("//") != path.npos || (path.size() > 1 && path.ends_with('/'));
  if (has_control || has_empty_name) {
    throw std::invalid_argument("a tag's path, as cache/blocks, without an empty name");
  }
  if (path == "/tally" || path.starts_with("/tally/")) {
    throw std::invalid_argument("a tag of the program's, for /tally is Tally's own");
  }
  return path;
}

}  // namespace tally::tool
