// The main function of the programs that are Google Benchmark's.
#pragma once

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "allocator_check.h"

// Its options are Google Benchmark's and --allocator=NAME, or BENCH_ALLOCATOR of the environment:
// what must be live, see allocator_check.h; without it the live one is only shown.
// register_more() adds benchmarks to those that are there.
template <class RegisterMore>
int run_benchmarks(int argc, char** argv, RegisterMore register_more) {
  const char* expected = std::getenv("BENCH_ALLOCATOR");
  char** const end = std::remove_if(argv + 1, argv + argc, [&](const char* arg) {
    constexpr char kOption[] = "--allocator=";
    if (std::strncmp(arg, kOption, sizeof kOption - 1) != 0) return false;
    expected = arg + sizeof kOption - 1;
    return true;
  });
  argc = static_cast<int>(end - argv);
  if (expected != nullptr) require_allocator(expected);
  benchmark::AddCustomContext("allocator", live_allocator());
  register_more();
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
