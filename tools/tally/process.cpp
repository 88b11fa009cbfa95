#include "process.h"

#include <pwd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace tally::tool {

std::string read_proc(long pid, const char* name) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/" + name);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

namespace {

// Where the first thread ended by pthread_exit, and others run, that of one of those.
std::string status_text(long pid) {
  std::string first = read_proc(pid, "status");
  if (first.find("\nState:\tZ") == first.npos) return first;
  std::error_code error;
  const std::string folder = "/proc/" + std::to_string(pid) + "/task";
  for (const auto& task : std::filesystem::directory_iterator(folder, error)) {
    const long tid = strtol(task.path().filename().c_str(), nullptr, 10);
    std::string text = read_proc(tid, "status");
    if (!text.empty() && text.find("\nState:\tZ") == text.npos) return text;
  }
  return first;
}

}  // namespace

std::optional<ProcessStatus> process_status(long pid) {
  ProcessStatus status;
  std::istringstream lines(status_text(pid));
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
