#include "post_mortem.h"

#include <sys/wait.h>

#include <cstring>
#include <string>

namespace tally::tool {
namespace {

// "SIGSEGV (Segmentation fault)".
std::string name_of(int signal) {
  const char* name = sigabbrev_np(signal);
  if (name == nullptr) return "signal " + std::to_string(signal);
  return std::string("SIG") + name + " (" + sigdescr_np(signal) + ")";
}

}  // namespace

void print_post_mortem(pid_t pid, int status, FILE* out) {
  fprintf(out, "tally: process %d was ended by %s%s\n", static_cast<int>(pid),
          name_of(WTERMSIG(status)).c_str(), WCOREDUMP(status) ? ", core dumped" : "");
}

}  // namespace tally::tool
