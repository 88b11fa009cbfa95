// What the readers of options share: stretches of text, sizes, and complaints.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tally::core {

// A stretch of the environment; not terminated.
struct Text {
  const char* start;
  size_t length;

  bool is(const char* other) const;
};

// Where the first `c` is; the length if nowhere.
size_t find(Text text, char c);
// Cuts off what comes before the first `c`, and it; all if there is none.
Text next_part(Text* rest, char c);
// Without those at both ends.
Text without_spaces(Text text);
// The key is in lower case.
bool same_letters(Text name, const char* key);
bool has_only_digits(Text value);
bool read_number(Text value, uint64_t most, uint64_t* number);
// "64M", "1.5G", "4096", "2GiB"; at most 64T.
bool read_size(Text value, uint64_t* bytes);

// "tally: <prefix><what>: <text>" on stderr, a line.
// By the process that reports alone, if TALLY_REPORT_PID names one.
void remark(const char* prefix, Text what, const char* text);
// Likewise of what cannot be followed.
void complain(const char* prefix, Text what, const char* reason);
void complain_expected(const char* prefix, Text what, const char* accepts);
// There was a complaint.
bool has_complained();

}  // namespace tally::core
