// The tags of a record as a tree, by their paths.
#pragma once

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

// Each tag before those below it, and of those beside each other the largest footprint, with all
// below, first. A tag whose parent was left out is below the nearest that is there.
std::vector<TagNode> tag_tree(const Record& record);

}  // namespace tally::tool
