#include "process.h"

#include <pwd.h>

#include <cstdlib>
#include <fstream>
#include <sstream>

namespace tally::tool {

std::string read_proc(long pid, const char* name) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/" + name);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

std::optional<ProcessStatus> process_status(long pid) {
  ProcessStatus status;
  std::istringstream lines(read_proc(pid, "status"));
  bool is_there = false;
  for (std::string line; std::getline(lines, line);) {
    size_t tab = line.find(":\t");
    if (tab == line.npos) continue;
    const std::string key = line.substr(0, tab), value = line.substr(tab + 2);
    if (key == "Name") status.name = value;
    if (key == "State" && !value.empty()) status.state = value[0];
    if (key == "VmRSS") status.rss = strtoull(value.c_str(), nullptr, 10) * 1024;
    if (key == "Uid") {  // real, effective, ...
      char* end = nullptr;
      strtoul(value.c_str(), &end, 10);
      status.uid = uid_t(strtoul(end, nullptr, 10));
      is_there = true;
    }
  }
  bool has_ended = status.state == 'Z' || status.state == 'X';
  return is_there && !has_ended ? std::optional(status) : std::nullopt;
}

std::string user_name(uid_t uid) {
  const passwd* entry = getpwuid(uid);
  return entry != nullptr ? entry->pw_name : std::to_string(uid);
}

}  // namespace tally::tool
