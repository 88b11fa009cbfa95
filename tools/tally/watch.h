// A record that is read again and again.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "record.h"
#include "record_reader.h"

namespace tally::tool {

class Watch {
 public:
  // Reads what there is. Throws Failure, as all here.
  explicit Watch(Reader reader);
  void refresh();

  const Record& now() const { return now_; }
  // What now() is compared with: the frame before it; nullptr if there is none.
  const Record* before() const { return has_before_ ? &before_ : nullptr; }
  const std::vector<record::Point>& points() const { return points_; }

  // RSS: of a process that lives that of this moment.
  uint64_t rss() const { return rss_; }
  // Lines about the whole process: what it is, and what it holds.
  std::pair<std::string, std::string> summary() const;

 private:
  void read_rest();

  Reader reader_;
  Record now_, before_, next_;
  bool has_before_ = false;
  std::vector<record::Point> points_;
  uint64_t rss_ = 0;
};

}  // namespace tally::tool
