// What is told of a program that a signal ended.
#pragma once

#include <sys/types.h>

#include <cstdio>

namespace tally::tool {

// How it ended, by its status as waitpid() has it.
void print_post_mortem(pid_t pid, int status, FILE* out);

}  // namespace tally::tool
