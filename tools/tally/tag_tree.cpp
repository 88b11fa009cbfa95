#include "tag_tree.h"

#include <algorithm>
#include <map>

namespace tally::tool {
namespace {

constexpr size_t kNone = SIZE_MAX;

// What lies between the root's path and another's has no / at its start.
std::string_view below(std::string_view path, std::string_view above) {
  return path.substr(above.size() + (above == "/" ? 0 : 1));
}

class Builder {
 public:
  Builder(const Record& record, const TagOrder& comes_first) : comes_first_(comes_first) {
    for (const record::TagRow& tag : record.tags()) {
      nodes_.push_back({&tag, record.name(tag), {}, 0, false});
    }
    for (size_t i = 0; i < nodes_.size(); ++i) by_path_.emplace(nodes_[i].path, i);
    children_.resize(nodes_.size());
    for (size_t i = 0; i < nodes_.size(); ++i) {
      size_t above = nearest_above(i);
      nodes_[i].label = above == kNone ? nodes_[i].path : below(nodes_[i].path, nodes_[above].path);
      (above == kNone ? tops_ : children_[above]).push_back(i);
    }
  }

  std::vector<TagNode> tree() {
    put_all(tops_, 0);
    return std::move(tree_);
  }

 private:
  size_t nearest_above(size_t node) const {
    std::string_view path = nodes_[node].path;
    while (path.size() > 1) {
      size_t slash = path.rfind('/');
      path = slash == 0 ? "/" : path.substr(0, slash);
      auto at = by_path_.find(path);
      if (at != by_path_.end()) return at->second;
    }
    return kNone;
  }

  // As deep as a path has names.
  void put_all(std::vector<size_t>& siblings, unsigned depth) {
    std::sort(siblings.begin(), siblings.end(), [this](size_t one, size_t other) {
      const record::TagRow &left = *nodes_[one].tag, &right = *nodes_[other].tag;
      if (comes_first_(left, right)) return true;
      return !comes_first_(right, left) && nodes_[one].path < nodes_[other].path;
    });
    for (size_t i : siblings) {
      nodes_[i].depth = depth;
      nodes_[i].has_children = !children_[i].empty();
      tree_.push_back(nodes_[i]);
      put_all(children_[i], depth + 1);
    }
  }

  const TagOrder& comes_first_;
  std::vector<TagNode> nodes_, tree_;
  std::map<std::string_view, size_t> by_path_;
  std::vector<std::vector<size_t>> children_;
  std::vector<size_t> tops_;
};

}  // namespace

bool is_larger(const record::TagRow& one, const record::TagRow& other) {
  return one.total.footprint_bytes > other.total.footprint_bytes;
}

std::vector<TagNode> tag_tree(const Record& record, const TagOrder& comes_first) {
  return Builder(record, comes_first).tree();
}

}  // namespace tally::tool
