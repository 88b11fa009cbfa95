// What a part of a C++ program on a page may use without a word.
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <memory_resource>
#include <mutex>
#include <string>
#include <tally/tally.hpp>
#include <thread>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
