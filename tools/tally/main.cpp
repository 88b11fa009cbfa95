// tally COMMAND: everything that is done with Tally from a shell.
#include <cerrno>
#include <clocale>
#include <cstdio>
#include <cstring>
#include <exception>
#include <string>

#include "commands.h"
#include "failure.h"
#include "tally/tally.h"

namespace tally::tool {
namespace {

// As `tally help` lists them, each under its group's line.
enum class Group { kStart, kLook, kAct };

struct Command {
  const char* name;
  int (*run)(int argc, char** argv);
  Group group;
  const char* summary;  // continues "tally NAME ..."
};
constexpr Command kCommands[] = {
    {"run", run, Group::kStart, "runs a program with Tally as its malloc"},
    {"doctor", doctor, Group::kStart,
     "looks for what would make Tally not work, or its numbers strange"},
    {"ps", ps, Group::kLook, "lists the processes that have a record"},
    {"stat", stat, Group::kLook, "shows what a process holds, by tag, and what it may hold"},
    {"top", top, Group::kLook, "shows what a process holds, by tag, again and again"},
    {"ledger", ledger, Group::kLook, "explains the resident memory as the sum that it is"},
    {"frag", frag, Group::kLook, "shows what is taken and not in use, and what pins it"},
    {"profile", profile, Group::kLook, "shows which stacks allocated what, by samples"},
    {"leaks", leaks, Group::kLook, "shows what was not freed, the oldest and largest first"},
    {"diff", diff, Group::kLook, "shows what grew between two records or dumps"},
    {"report", report, Group::kLook, "makes a page of all that a record says"},
    {"serve", serve, Group::kLook, "shows it live: as a page, to Prometheus, as JSON"},
    {"limit", limit, Group::kAct, "sets what a tag may hold"},
    {"trim", trim, Group::kAct, "has the process give back what it does not use"},
};

const char* title(Group group) {
  switch (group) {
    case Group::kStart:
      return "start";
    case Group::kLook:
      return "look into a process, running or dead, or into a file";
    case Group::kAct:
      return "act on a running process";
  }
  return "";
}

const Command* find(const char* name) {
  for (const Command& command : kCommands) {
    if (strcmp(name, command.name) == 0) return &command;
  }
  return nullptr;
}

void print_usage(FILE* out) {
  fputs("usage: tally COMMAND [ARG...]\n", out);
  const Command* last = nullptr;
  for (const Command& command : kCommands) {
    if (last == nullptr || last->group != command.group) {
      fprintf(out, "\n%s:\n", title(command.group));
    }
    fprintf(out, "  %-10s %s\n", command.name, command.summary);
    last = &command;
  }
  fputs(
      "\n"
      "  help       this text; `tally help COMMAND` and `tally COMMAND --help` are about one\n"
      "  --version  the version\n",
      out);
}

int complain_of_unknown(const char* name) {
  std::string known;
  for (const Command& command : kCommands) known += std::string(command.name) + ", ";
  fprintf(stderr, "tally: unknown command '%s': the commands are %shelp\n", name, known.c_str());
  return kUsage;
}

int run_command(const char* name, int argc, char** argv) {
  const Command* command = find(name);
  if (command == nullptr) return complain_of_unknown(name);
  try {
    int status = command->run(argc, argv);
    if (fflush(stdout) != 0 || ferror(stdout) != 0) {
      throw Failure(kFailed, std::string("cannot write: ") + strerror(errno));
    }
    return status;
  } catch (const Failure& failure) {
    fprintf(stderr, "tally %s: %s\n", name, failure.what());
    return failure.status();
  } catch (const std::exception& error) {  // no memory, a folder that cannot be read, ...
    fprintf(stderr, "tally %s: %s\n", name, error.what());
    return kConfiguration;
  }
}

bool is_one_of(const char* text, const char* one, const char* two, const char* three) {
  return strcmp(text, one) == 0 || strcmp(text, two) == 0 || strcmp(text, three) == 0;
}

int main_of(int argc, char** argv) {
  if (argc < 2) {
    print_usage(stderr);
    return kUsage;
  }
  const char* name = argv[1];
  if (strcmp(name, "--version") == 0) {
    printf("tally %d.%d.%d\n", TALLY_VERSION_MAJOR, TALLY_VERSION_MINOR, TALLY_VERSION_PATCH);
    return 0;
  }
  if (!is_one_of(name, "help", "--help", "-h")) return run_command(name, argc - 1, argv + 1);
  if (argc == 2) {
    print_usage(stdout);
    return 0;
  }
  char help[] = "--help";
  char* arguments[] = {argv[2], help, nullptr};
  return run_command(argv[2], 2, arguments);
}

}  // namespace
}  // namespace tally::tool

int main(int argc, char** argv) {
  setlocale(LC_CTYPE, "");  // for what a terminal can show; numbers are written as in C
  return tally::tool::main_of(argc, argv);
}
