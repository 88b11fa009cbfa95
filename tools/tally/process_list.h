// All processes that have a record, at a glance.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "record.h"

namespace tally::tool {

struct ProcessRow {
  Record record;
  uid_t uid;
  uint64_t rss;  // of a process that lives that of now
};

// Those that live first, the largest first; and what is wrong with the records that cannot be read.
std::vector<ProcessRow> list_processes(std::vector<std::string>* unreadable);

// The tag that holds most itself; nullptr if there is none.
const record::TagRow* largest_tag(const Record& record);

nlohmann::ordered_json process_json(const ProcessRow& row);

}  // namespace tally::tool
