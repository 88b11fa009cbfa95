#include "runtime/options.h"

#include <string.h>

#include <initializer_list>

#include "backend/backend.h"
#include "base/config.h"
#include "base/math.h"
#include "base/options.h"
#include "base/text.h"
#include "os/os.h"
#include "runtime/limit_options.h"
#include "runtime/parse.h"

namespace tally::core {
namespace {

bool is_one_of(Text value, const char* const (&words)[4]) {
  for (const char* word : words) {
    if (same_letters(value, word)) return true;
  }
  return false;
}

bool copy_path(Text value, char (&path)[kOptionPathMax]) {
  if (value.length == 0 || value.length >= kOptionPathMax) return false;
  memcpy(path, value.start, value.length);
  path[value.length] = 0;
  return true;
}

bool set_abort_conf(Text value) {
  if (!value.is("0") && !value.is("1")) return false;
  options.abort_conf = value.is("1");
  return true;
}

bool set_backend(Text value) {
  char name[16] = {};
  if (value.length >= sizeof name) return false;
  memcpy(name, value.start, value.length);
  const Backend* backend = backend::find(name);
  if (backend != nullptr) options.backend = backend->name;
  return backend != nullptr;
}

bool set_check(Text value) {
  if (!value.is("0") && !value.is("1")) return false;
  options.check = value.is("1");
  return true;
}

bool set_dump_path(Text value) { return copy_path(value, options.dump_path); }

bool set_dump_signal(Text value) {
  char name[16];
  if (value.length >= sizeof name) return false;
  for (size_t i = 0; i < value.length; ++i) {
    char c = value.start[i];
    name[i] = c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
  }
  name[value.length] = 0;
  int signal = os::parse_signal(name);
  if (signal != 0) options.dump_signal = signal;
  return signal != 0;
}

constexpr uint64_t kSampleRate = 512 * KiB;
constinit bool g_sample_is_set = false;

bool set_guard(Text value) {
  constexpr uint64_t kEvery = 50;
  constexpr uint64_t kMost = 1000000;
  uint64_t every;
  if (is_one_of(value, {"1", "yes", "true", "on"})) {
    every = kEvery;
  } else if (is_one_of(value, {"0", "no", "false", "off"})) {
    every = 0;
  } else {
    Text part = next_part(&value, '/');
    if (!part.is("1") || !read_number(value, kMost, &every) || every == 0) return false;
  }
  options.guard = static_cast<uint32_t>(every);
  return true;
}

bool set_on_corruption(Text value) {
  if (!value.is("abort") && !value.is("report")) return false;
  options.abort_on_corruption = value.is("abort");
  return true;
}

bool set_purge_ms(Text value) {
  uint64_t number;
  if (!read_number(value, 3600000, &number)) return false;
  options.purge_ms = static_cast<uint32_t>(number);
  return true;
}

bool set_log(Text value) { return copy_path(value, options.log_path); }

// So that samples have a place to be read from; unless the user says whether there is to be one.
constinit bool g_record_is_set = false;

bool set_record(Text value) {
  g_record_is_set = true;
  if (value.is("0")) {
    options.record = Record::kNo;
  } else if (value.is("1")) {
    options.record = Record::kYes;
  } else if (value.is("keep")) {
    options.record = Record::kKeep;
  } else {
    return false;
  }
  return true;
}

bool set_record_ms(Text value) {
  uint64_t number;
  if (!read_number(value, 3600000, &number)) return false;
  options.record_ms = static_cast<uint32_t>(number);
  return true;
}

bool set_reserve(Text value) {
  uint64_t bytes;
  if (!read_size(value, &bytes) || bytes > uint64_t{1} << 30) return false;
  options.reserve = bytes;
  return true;
}

bool set_report(Text value) {
  bool on = is_one_of(value, {"1", "yes", "true", "on"});
  bool off = is_one_of(value, {"0", "no", "false", "off"});
  if (on || off) {
    options.report_path[0] = 0;
  } else if (has_only_digits(value) || !copy_path(value, options.report_path)) {
    return false;
  }
  options.report = !off;
  return true;
}

bool set_report_pid(Text value) {
  uint64_t number;
  if (!read_number(value, INT32_MAX, &number)) return false;
  options.report_pid = static_cast<int64_t>(number);
  return true;
}

bool set_sample(Text value) {
  constexpr uint64_t kMost = uint64_t{1} << 40;
  uint64_t rate;
  if (is_one_of(value, {"1", "yes", "true", "on"})) {
    rate = kSampleRate;
  } else if (is_one_of(value, {"0", "no", "false", "off"})) {
    rate = 0;
  } else if (!read_size(value, &rate) || rate > kMost) {
    return false;
  }
  options.sample = rate;
  g_sample_is_set = true;
  return true;
}

bool set_tag_by(Text value) {
  for (TagBy rule : {TagBy::kNone, TagBy::kModule, TagBy::kThread}) {
    if (!value.is(name_of(rule))) continue;
    options.tag_by = rule;
    return true;
  }
  return false;
}

bool set_tags(Text value) { return copy_path(value, options.tags_path); }

bool set_thp(Text value) {
  if (value.is("never")) {
    options.thp = HugePages::kNever;
  } else if (value.is("auto")) {
    options.thp = HugePages::kAuto;
  } else if (value.is("always")) {
    options.thp = HugePages::kAlways;
  } else {
    return false;
  }
  return true;
}

bool set_zero(Text value) {
  if (!value.is("0") && !(kHardened && value.is("1"))) return false;
  options.zero = value.is("1");
  return true;
}

// The one list of options: messages follow it, and docs/OPTIONS.md is made of it and of the
// comments, "values; default: what it does". In alphabetical order.
struct Option {
  const char* key;
  bool (*set)(Text value);
  const char* accepts;
};
constexpr Option kOptions[] = {
    // `0`, `1`; `0`: end the program with status 78 where an option cannot be followed
    {"abort_conf", set_abort_conf, "0 or 1"},
    // `os`, `libc`, `jemalloc`, `mimalloc`; `os`: where chunks and the largest blocks come from
    {"backend", set_backend, "os, libc, jemalloc or mimalloc"},
    // `0`, `1`; `0`: check each free list whole as it is used again: finds blocks freed twice long
    // ago, and writes after free; up to 1.7 × slower
    {"check", set_check, "0 or 1"},
    // a path; `/tmp/tally-%p.json`: where the dump of `TALLY_DUMP_SIGNAL` goes; `%p` is the process
    // id
    {"dump_path", set_dump_path, "a path of at most 511 bytes, in which %p is the process id"},
    // `USR2`, `12`, …; none: on this signal, write JSON to `TALLY_DUMP_PATH`
    {"dump_signal", set_dump_signal, "a signal, such as USR2 or 12"},
    // `cache:nth=1000`, `/:p=0.001:seed=7`, `cache:above=4096`; none: allocations that fail, to
    // test what the program does then
    {"fault", set_fault_option, kFaultAccepts},
    // `1/N`, `1` for `1/50`, `0`; `0`: of N samples one lies against memory that nobody may access,
    // so that overflows and uses after free of it are found. Without a `TALLY_SAMPLE` that is
    // `512K`
    {"guard", set_guard, "1/N to guard one of N samples, 1 for 1/50, or 0 for none"},
    // `2G`, `90%`, `2G:soft=1.5G:wait=100`; none: what the process may hold, and what
    // happens then: `fail`, `wait=MS` or `abort`. A share is of the cgroup's limit, else of the
    // machine's memory
    {"limit", set_limit_option, kLimitAccepts},
    // `cache=512M:soft=400M,net/rx=64M`; none: the same of tags, which are made, and said so in a
    // line
    {"limits", set_limits_option, kLimitsAccepts},
    // an absolute path; stderr: where lines about limits go
    {"log", set_log, "a path of at most 511 bytes"},
    // `abort`, `report`; `abort`: after a double free or the like was reported: end, or go on
    {"on_corruption", set_on_corruption, "abort or report"},
    // 0 to 3600000; `1000`: how long free memory is kept before it goes back to the system
    {"purge_ms", set_purge_ms, "milliseconds, 0 to 3600000"},
    // `0`, `1`, `keep`; `0`: keep a record in `/dev/shm/tally-<uid>/<pid>.tally` that can be read
    // while the program runs, hangs, and after it was killed; a clean exit removes it, but for
    // `keep`
    {"record", set_record, "0, 1 or keep"},
    // 0 to 3600000; `0`: a thread of Tally's, of the least priority, publishes so often, and
    // purges; 0: no thread, the program's own publish as they allocate, once a second at most and
    // as memory grows
    {"record_ms", set_record_ms, "milliseconds, 0 to 3600000"},
    // `0`, `1`, a path; `0`: at exit, a table on stderr, or to a file: JSON if its name ends in
    // `.json`. `%p` is the process id. `no`, `yes` and the like are `0` and `1`
    {"report", set_report, "0, 1, or a path, in which %p is the process id"},
    // a process id; `0`: only that process reports at its end, not what it started: `tally run`
    // sets it. `0`: each does
    {"report_pid", set_report_pid, "the id of the one process that reports; 0: each does"},
    // a size; `64K`: the last bytes below a limit, a sixteenth of it at most, are for who handles a
    // failure
    {"reserve", set_reserve, "a size, such as 64K, at most 1G"},
    // a size, `1` for `512K`, `0`; `0`: sample the stacks that allocate, one in so many bytes in
    // the mean, for `tally profile`, `leaks` and `report`; a record is kept with them unless
    // `TALLY_RECORD=0` says otherwise. `tally run` sets `512K`
    {"sample", set_sample, "bytes between samples, such as 512K, 1 for that, or 0 for none"},
    // `module`, `thread`, `none`; `none`: what names the tag where the program does not: the shared
    // object whose code allocates, or the thread
    {"tag_by", set_tag_by, "module, thread or none"},
    // a path; none: a file with names of your own for the tags of `TALLY_TAG_BY`
    {"tags", set_tags, "the path of a file, of at most 511 bytes"},
    // `never`, `auto`, `always`; `never`: ask for huge pages: `auto` for what is taken beyond 128
    // MiB of heap
    {"thp", set_thp, "never, auto or always"},
    // `0`, `1`; `0`: `libtally-hardened.so` alone: all of what is freed is zeroed, not only what is
    // small
    {"zero", set_zero, kHardened ? "0 or 1" : "0, as only libtally-hardened.so zeroes"},
};

void complain_of_unknown(const char* prefix, Text name) {
  char known[512];
  TextWriter out(known, sizeof known - 1);
  out.put("unknown option (known: ");
  for (const Option& option : kOptions) {
    if (&option != kOptions) out.put(", ");
    out.put(option.key);
  }
  out.put(')');
  known[out.used()] = 0;
  complain(prefix, name, known);
}

// `pair` is the whole "name=value" or "key:value", of which the first `name` bytes are the name.
void apply(const char* prefix, Text pair, size_t name_length) {
  Text name = {pair.start, name_length};
  bool has_value = name_length < pair.length;
  Text value = {pair.start + name_length + 1, has_value ? pair.length - name_length - 1 : 0};
  for (const Option& option : kOptions) {
    if (!same_letters(name, option.key)) continue;
    if (!has_value || !option.set(value)) complain_expected(prefix, pair, option.accepts);
    return;
  }
  complain_of_unknown(prefix, name);
}

constexpr char kPrefix[] = "TALLY_";
constexpr size_t kPrefixLength = sizeof kPrefix - 1;

void read_conf(const char* conf) {
  Text rest = {conf, strlen(conf)};
  while (rest.length != 0) {
    Text pair = {rest.start, find(rest, ',')};
    size_t taken = min_of(pair.length + 1, rest.length);
    rest = {rest.start + taken, rest.length - taken};
    pair = without_spaces(pair);
    if (pair.length != 0) apply("TALLY_CONF ", pair, find(pair, ':'));
  }
}

}  // namespace

void read_options() {
  const char* const* environment = os::environment();
  if (environment == nullptr || os::is_secure()) return;
  for (int pass = 0; pass < 2; ++pass) {
    for (const char* const* at = environment; *at != nullptr; ++at) {
      if (strncmp(*at, kPrefix, kPrefixLength) != 0) continue;
      bool is_conf = strncmp(*at, "TALLY_CONF=", 11) == 0;
      if (is_conf && pass == 0) read_conf(*at + 11);
      if (is_conf || pass == 0) continue;
      Text pair = {*at + kPrefixLength, strlen(*at) - kPrefixLength};
      apply(kPrefix, pair, find(pair, '='));
    }
  }
  if (options.guard != 0 && options.sample == 0) {
    if (g_sample_is_set) {
      complain("TALLY_GUARD", {"", 0}, "no sample is guarded, as TALLY_SAMPLE is 0");
      options.guard = 0;
    } else {
      options.sample = kSampleRate;
    }
  }
  if (options.sample != 0 && !g_record_is_set) options.record = Record::kYes;
}

}  // namespace tally::core
