// For g++: headers that are heavy to parse and to instantiate. Compiled, never run.
#include <map>
#include <string>
#include <vector>

std::map<std::string, std::vector<int>> table() { return {{"one", {1}}, {"two", {1, 2}}}; }

#ifndef SMOKE
#include <algorithm>
#include <functional>
#include <iostream>
#include <ranges>
#include <regex>
#include <unordered_map>
#include <variant>

using Value = std::variant<int, std::string, std::vector<double>, std::map<int, std::string>>;

size_t count(const std::string& text, const std::string& pattern) {
  const std::regex regex(pattern);
  return std::distance(std::sregex_iterator(text.begin(), text.end(), regex),
                       std::sregex_iterator());
}

size_t actions(const std::vector<std::string>& words) {
  std::unordered_map<std::string, std::function<size_t(const Value&)>> actions;
  actions["index"] = [](const Value& value) { return value.index(); };
  for (const auto& word : words) std::cout << word << actions["index"](word) << '\n';
  auto even = std::views::iota(0, 100) | std::views::filter([](int i) { return i % 2 == 0; });
  std::vector<int> numbers(even.begin(), even.end());
  std::ranges::sort(numbers);
  return count(words.front(), "[a-z]+") + numbers.size();
}
#endif
