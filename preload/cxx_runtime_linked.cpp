#include "cxx_runtime.h"

namespace tally::core {

std::new_handler current_new_handler() { return std::get_new_handler(); }
void throw_bad_alloc() { throw std::bad_alloc(); }

}  // namespace tally::core
