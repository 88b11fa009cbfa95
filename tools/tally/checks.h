// What `tally doctor` looks at.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

namespace tally::tool {

enum class Level { kOk, kNote, kProblem };

class Findings {
 public:
  struct Finding {
    Level level;
    std::string about;   // a word
    std::string text;    // what was found
    std::string advice;  // what to do or to know; may be empty
  };

  void ok(const char* about, const std::string& text) { add(Level::kOk, about, text, ""); }
  void note(const char* about, const std::string& text, const std::string& advice) {
    add(Level::kNote, about, text, advice);
  }
  void problem(const char* about, const std::string& text, const std::string& advice) {
    add(Level::kProblem, about, text, advice);
  }
  const std::vector<Finding>& all() const { return all_; }
  bool has_problem() const;

 private:
  void add(Level level, const char* about, const std::string& text, const std::string& advice) {
    all_.push_back({level, about, text, advice});
  }
  std::vector<Finding> all_;
};

// What would be so for any program that is started from here.
void check_system(Findings& findings);

// A program, as `tally run` would find it by this name.
void check_program(Findings& findings, const std::string& name);

// A process that runs.
void check_process(Findings& findings, pid_t pid);

// What the process's cgroup may have; of both of the above.
void check_memory_group(Findings& findings, pid_t pid);

// The text of a file of /proc or /sys, without white space at its end; empty if it cannot be read.
std::string content_of(const std::string& path);

}  // namespace tally::tool
