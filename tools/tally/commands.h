// The commands of `tally`, a line each; main.cpp has their table.
//
// A command gets the arguments from its own name on and returns the exit status; it throws Failure.
// Its --help is a text of its own on stdout, of which the man page is made too, and is written so:
//
//   usage: tally NAME [OPTION...] ARG          one or more such lines, aligned
//
//   What it does, in paragraphs.
//
//     --option VALUE   what it is for          two spaces before an option and two or more behind
//                      and its next line
//
//     tally NAME example                       two spaces before an example
//
//   exit status: a line that goes on here, or
//     2    the command line cannot be understood
#pragma once

namespace tally::tool {

// Runs a program with Tally as its malloc.
int run(int argc, char** argv);
// Lists the processes that have a record.
int ps(int argc, char** argv);
// Shows everything that a record says.
int stat(int argc, char** argv);
// Explains RSS.
int ledger(int argc, char** argv);
// Sets a tag's limits in a running process.
int limit(int argc, char** argv);
// Has a running process give back what it does not use.
int trim(int argc, char** argv);

// Looks for what would make Tally not work, or its numbers strange.
int doctor(int argc, char** argv);

// What is taken and not in use, and what pins it.
int frag(int argc, char** argv);

// Which stacks allocated what.
int profile(int argc, char** argv);

// What lives, and whether it looks like a leak.
int leaks(int argc, char** argv);

// What grew between two records or dumps.
int diff(int argc, char** argv);

// What a process holds, again and again.
int top(int argc, char** argv);

// All of a record as a page.
int report(int argc, char** argv);

// The same over HTTP, of all processes.
int serve(int argc, char** argv);

}  // namespace tally::tool
