// What ends the program before it has done its work.
#pragma once

#include <stdexcept>
#include <string>

namespace tally::tool {

inline constexpr int kFailed = 1;          // no such process, or its record cannot be read
inline constexpr int kUsage = 2;           // the command line cannot be understood
inline constexpr int kConfiguration = 78;  // EX_CONFIG: what was asked for cannot be had
inline constexpr int kCannotRun = 126;     // these two as env, nohup and timeout have them
inline constexpr int kNotFound = 127;

// main() prints "tally COMMAND: " and the message, and exits with the status.
class Failure : public std::runtime_error {
 public:
  Failure(int status, const std::string& message) : std::runtime_error(message), status_(status) {}
  int status() const { return status_; }

 private:
  int status_;
};

}  // namespace tally::tool
