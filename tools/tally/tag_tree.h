// The tags of a record as a tree, by their paths.
#pragma once

#include <functional>
#include <string_view>
#include <vector>

#include "record.h"

namespace tally::tool {

struct TagNode {
  const record::TagRow* tag;
  std::string_view path;
  std::string_view label;  // the path from the node above on: "blocks" of "/cache/blocks"
  unsigned depth;          // nodes above it
  bool has_children;
};

// Which of two tags beside each other comes first.
using TagOrder = std::function<bool(const record::TagRow& one, const record::TagRow& other)>;
// The largest footprint, with all below.
bool is_larger(const record::TagRow& one, const record::TagRow& other);

// Each tag before those below it; of those that come neither first, by path. A tag whose parent was
// left out is below the nearest that is there.
std::vector<TagNode> tag_tree(const Record& record, const TagOrder& comes_first = is_larger);

}  // namespace tally::tool
