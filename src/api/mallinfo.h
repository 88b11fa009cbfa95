// Of the malloc family, what only glibc has: its <malloc.h> declares the structs.
#pragma once

#include <malloc.h>

namespace tally::core::api {

struct mallinfo mallinfo();
struct mallinfo2 mallinfo2();

}  // namespace tally::core::api
