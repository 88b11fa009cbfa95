// Snapshots as text: JSON, and a table for people.
#pragma once

#include "base/text.h"
#include "tally/tally.h"

namespace tally::core {

void render_json(const tally_snapshot_t& snapshot, TextWriter& out);
void render_table(const tally_snapshot_t& snapshot, TextWriter& out);

// The sizes of blocks that take most, a line each.
void render_classes(const tally_snapshot_t& snapshot, TextWriter& out);
// "1.50 MiB": three digits say enough.
void put_bytes(TextWriter& out, uint64_t bytes);

using Render = void (*)(const tally_snapshot_t&, TextWriter&);
// Of a fresh snapshot. The length of the whole, as snprintf; 0: no memory.
size_t render_to_buffer(Render render, char* buffer, size_t capacity);
// An errno, or 0.
int render_to_fd(Render render, int fd);

}  // namespace tally::core
