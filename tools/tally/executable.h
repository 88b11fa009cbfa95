// What the kernel and the dynamic linker will make of a file.
#pragma once

#include <string>

namespace tally::tool {

// The file that execvp(name) would run. Throws Failure: kNotFound if there is none, kCannotRun if
// it may not be run.
std::string find_program(const std::string& name);

// Throws what is to be said when execvp(name) failed with this errno.
[[noreturn]] void fail_to_run(const std::string& name, int error);

// The program in a script's first line; empty if the file is no script.
std::string interpreter_of(const std::string& script);

// Continues the program's name: " is statically linked: ..."; empty if LD_PRELOAD can work in it.
std::string why_not_preloadable(const std::string& program);

// Throws Failure (kConfiguration) if LD_PRELOAD cannot work in the program, or, if it is a script,
// in its interpreter: it is statically linked, has raised rights, or is for another machine. What
// cannot be read or understood passes, as it may run well.
void require_preloadable(const std::string& program);

// Tally is the program's malloc already, as it was linked with tally::malloc (and not stripped
// since): it needs no preload, and with one there would be two.
bool has_tally_inside(const std::string& program);

// Whether the dynamic linker could load the file into a program of the same kind as this one.
bool is_shared_library(const std::string& path);

}  // namespace tally::tool
