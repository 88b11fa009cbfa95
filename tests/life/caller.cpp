// A library that allocates in each way there is. Built twice, under two names, so that the two are
// alike to the last byte of code.
#include "caller.hpp"

#include <cstdlib>
#include <cstring>
#include <new>

namespace {

// Not as the last step, which would be the caller's call.
template <class T>
T* kept(T* p) {
  asm volatile("" : "+r"(p));
  return p;
}

const Way ways[] = {
    {"malloc", [](size_t n) { return kept(malloc(n)); }},
    {"calloc", [](size_t n) { return kept(calloc(1, n)); }},
    {"realloc", [](size_t n) { return kept(realloc(nullptr, n)); }},
    {"reallocarray", [](size_t n) { return kept(reallocarray(nullptr, 1, n)); }},
    {"aligned_alloc", [](size_t n) { return kept(aligned_alloc(64, n)); }},
    {"memalign", [](size_t n) { return kept(memalign(256, n)); }},
    {"valloc", [](size_t n) { return kept(valloc(n)); }},
    {"pvalloc", [](size_t n) { return kept(pvalloc(n)); }},
    {"posix_memalign",
     [](size_t n) {
       void* p = nullptr;
       return posix_memalign(&p, 128, n) == 0 ? p : nullptr;
     }},
    {"new", [](size_t n) { return kept(::operator new(n)); }},
    {"new[]", [](size_t n) { return kept(::operator new[](n)); }},
    {"new nothrow", [](size_t n) { return kept(::operator new(n, std::nothrow)); }},
    {"new[] nothrow", [](size_t n) { return kept(::operator new[](n, std::nothrow)); }},
    {"new aligned", [](size_t n) { return kept(::operator new (n, std::align_val_t{64})); }},
    {"new[] aligned", [](size_t n) { return kept(::operator new[](n, std::align_val_t{64})); }},
    {"new aligned nothrow",
     [](size_t n) { return kept(::operator new (n, std::align_val_t{64}, std::nothrow)); }},
    {"new[] aligned nothrow",
     [](size_t n) { return kept(::operator new[](n, std::align_val_t{64}, std::nothrow)); }},
};

}  // namespace

extern "C" {

const Way* caller_ways(size_t* count) {
  *count = sizeof ways / sizeof *ways;
  return ways;
}

void* caller_allocate(size_t n) { return kept(malloc(n)); }
void* caller_resize(void* p, size_t n) { return kept(realloc(p, n)); }
void* caller_copy(const char* text) { return kept(strdup(text)); }
}
