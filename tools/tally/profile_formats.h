// What tally profile shows, in each of its formats.
#pragma once

#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

#include "profile.h"
#include "profile_view.h"
#include "record.h"
#include "symbols.h"
#include "text.h"

namespace tally::tool {

class Arguments;

// What all of them are made of.
struct ShownProfile {
  const Record& record;
  const Profile& profile;
  const View& view;
  Symbols& symbols;
};

// How much of it a table has; 0: all.
struct TableSize {
  size_t rows = 10;   // stacks
  size_t frames = 6;  // of each

  size_t rows_of(size_t count) const { return rows == 0 ? count : std::min(rows, count); }
};

// --rows and --frames.
void declare_size(Arguments& arguments, TableSize* size);

// What was not known of the symbols, a line each.
void print_complaints(const Symbols& symbols, const char* who, FILE* out);

// A table for people.
std::string profile_as_table(const ShownProfile& shown, const TableSize& size);
// A row of such a table: the cells, and the stack in the last column, down from there.
void add_stack(Table* table, std::vector<std::string> cells, const std::vector<std::string>& stack);

// A gzipped profile.proto, as Go's pprof and what came after it read it. Not of kLifetimes.
std::string profile_as_pprof(const ShownProfile& shown);

// "tag;outermost;...;innermost BYTES", a line a stack, as flamegraph.pl and speedscope read it. Not
// of kLifetimes.
std::string profile_as_folded(const ShownProfile& shown);

// JSON, which docs/TOOLS.md describes.
std::string profile_as_json(const ShownProfile& shown);

}  // namespace tally::tool
