// In the objects that programs take out of the static libraries: with them comes the C API, even
// where libtally_api.a has been asked for it before.
#pragma once

extern "C" __attribute__((visibility("default"))) const char tally_api_anchor;
__attribute__((used)) static const char* const g_api_anchor = &tally_api_anchor;
