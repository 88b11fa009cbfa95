// tally top on a terminal.
#pragma once

#include <chrono>
#include <optional>
#include <string>

#include "screen.h"
#include "top_rows.h"
#include "watch.h"

namespace tally::tool {

// Shows what is watched until the user quits, or screen.signal() came.
void show_top(Screen& screen, Watch& watch, std::chrono::milliseconds interval, TopView view);

// Lets the user choose among the running processes that have a record: the file of one. None: quit.
std::optional<std::string> choose_record(Screen& screen);

}  // namespace tally::tool
