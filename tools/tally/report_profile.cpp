#include <cmath>
#include <tuple>
#include <unordered_map>

#include "report_parts.h"

namespace tally::tool {
namespace {

using nlohmann::ordered_json;

// The frames of all stacks as one tree from the outermost on, each function with its own line.
class FrameTree {
 public:
  explicit FrameTree(Symbols& symbols) : symbols_(symbols) {
    nodes_.push_back({0, 0, 0});
    // Of the root, which no frame is.
    functions_.push_back({strings_.index_of(""), strings_.index_of(""), strings_.index_of("")});
  }

  struct Stack {
    uint32_t node;  // the innermost frame
    uint32_t own;   // the innermost one that is none of the C++ library's, if there is one
  };
  Stack stack_of(uint32_t call) {
    auto [at, is_new] = stacks_.try_emplace(call);
    if (is_new) at->second = add(call);
    return at->second;
  }

  void put(ordered_json& profile) const {
    profile["strings"] = strings_.strings();
    ordered_json& functions = profile["functions"] = ordered_json::array();
    for (const Function& one : functions_) {
      functions.push_back({std::get<0>(one), std::get<1>(one), std::get<2>(one)});
    }
    ordered_json parent = ordered_json::array(), function = parent, line = parent;
    for (const Node& node : nodes_) {
      parent.push_back(node.parent);
      function.push_back(node.function);
      line.push_back(node.line);
    }
    profile["nodes"] = {{"parent", parent}, {"function", function}, {"line", line}};
  }

 private:
  using Function = std::tuple<uint32_t, uint32_t, uint32_t>;  // name, file, module
  struct Place {
    uint32_t function, line;
    bool is_librarys;
  };
  struct Node {
    uint32_t parent, function, line;
    bool operator<(const Node& other) const {
      return std::tie(parent, function, line) < std::tie(other.parent, other.function, other.line);
    }
  };

  Stack add(uint32_t call) {
    Stack found = {0, 0};
    const std::vector<uint32_t> stack = symbols_.stack_of(call);
    for (auto outer = stack.rbegin(); outer != stack.rend(); ++outer) {
      for (const Place& place : places_of(*outer)) {
        found.node = below(found.node, place.function, place.line);
        if (!place.is_librarys || found.own == 0) found.own = found.node;
      }
    }
    return found;
  }

  uint32_t below(uint32_t parent, uint32_t function, uint32_t line) {
    const Node node = {parent, function, line};
    auto [at, is_new] = node_.try_emplace(node, nodes_.size());
    if (is_new) nodes_.push_back(node);
    return at->second;
  }

  // Of the frames at a call, outermost first.
  const std::vector<Place>& places_of(uint32_t call) {
    auto [at, is_new] = places_.try_emplace(call);
    if (!is_new) return at->second;
    const std::string_view path = symbols_.module_of(call);
    const std::string_view name = path.substr(path.rfind('/') + 1);
    const std::vector<Frame>& frames = symbols_.frames_of(call);
    for (auto outer = frames.rbegin(); outer != frames.rend(); ++outer) {
      at->second.push_back(
          {function_of(outer->function, outer->file, name), outer->line, is_cxx_librarys(*outer)});
    }
    return at->second;
  }

  uint32_t function_of(std::string_view name, std::string_view file, std::string_view module) {
    const Function function = {strings_.index_of(name), strings_.index_of(file),
                               strings_.index_of(module)};
    auto [at, is_new] = function_.try_emplace(function, functions_.size());
    if (is_new) functions_.push_back(function);
    return at->second;
  }

  Symbols& symbols_;
  StringTable strings_;
  std::vector<Function> functions_;
  std::vector<Node> nodes_;
  std::map<Function, uint32_t> function_;
  std::map<Node, uint32_t> node_;
  std::unordered_map<uint32_t, std::vector<Place>> places_;  // by call, as these
  std::unordered_map<uint32_t, Stack> stacks_;
};

// May be below 0; whatever the file says.
int64_t difference(uint64_t one, uint64_t other) { return static_cast<int64_t>(one - other); }

struct Amounts {
  ordered_json allocated = ordered_json::array(), live = allocated, peak = allocated,
               growth = allocated;
  void add(uint64_t all, uint64_t now, uint64_t most, int64_t grown) {
    allocated.push_back(all);
    live.push_back(now);
    peak.push_back(most);
    growth.push_back(grown);
  }
};

ordered_json sites_of(const Profile& profile, FrameTree& tree, StringTable& paths) {
  ordered_json node = ordered_json::array(), own = node, tag = node, lifetimes = node;
  Amounts bytes, objects;
  for (const record::Site& site : profile.sites) {
    const FrameTree::Stack stack = tree.stack_of(site.call);
    node.push_back(stack.node);
    own.push_back(stack.own);
    tag.push_back(paths.index_of(profile.name(site.tag)));
    bytes.add(site.allocated.bytes, site.live.bytes, site.peak.bytes,
              difference(site.live.bytes, site.mark.bytes));
    objects.add(site.allocated.objects, site.live.objects, site.peak.objects,
                difference(site.live.objects, site.mark.objects));
    lifetimes.push_back(site.lifetimes);
  }
  return {{"node", node},
          {"own", own},
          {"tag", tag},
          {"allocated", bytes.allocated},
          {"live", bytes.live},
          {"peak", bytes.peak},
          {"growth", bytes.growth},
          {"objects",
           {{"allocated", objects.allocated},
            {"live", objects.live},
            {"peak", objects.peak},
            {"growth", objects.growth}}},
          {"lifetimes", lifetimes}};
}

ordered_json samples_of(const Profile& profile) {
  ordered_json site = ordered_json::array(), age = site, objects = site, bytes = site;
  for (const record::Sample& sample : profile.samples) {
    const double weight = weight_of(sample.bytes, profile.head.rate);
    site.push_back(sample.site);
    const int64_t then = sample.time, now = profile.head.time;
    age.push_back(then < 0 || then > now ? 0 : as_ms(now - then));
    objects.push_back(std::round(weight * 100) / 100);
    bytes.push_back(std::round(weight * double(sample.bytes)));
  }
  return {{"site", site}, {"age", age}, {"objects", objects}, {"bytes", bytes}};
}

}  // namespace

ordered_json report_profile(const Profile& profile, Symbols& symbols, StringTable& paths) {
  if (!profile.is_on()) return nullptr;
  const record::ProfileHead& head = profile.head;
  FrameTree tree(symbols);
  ordered_json sites = sites_of(profile, tree, paths);
  ordered_json all = {{"time", as_ms(head.time)},
                      {"begun", as_ms(head.begun)},
                      {"rate", head.rate},
                      {"taken", head.taken},
                      {"lost", head.lost},
                      {"cut", head.cut},
                      {"peak_time", as_ms(head.peak_time)},
                      {"peak_footprint", head.peak_footprint},
                      {"mark_time", as_ms(head.mark_time)},
                      {"complaints", symbols.complaints()}};  // of all frames above
  tree.put(all);
  all["sites"] = std::move(sites);
  ordered_json& lifetimes = all["lifetimes"] = ordered_json::array();
  for (uint64_t bound : record::kLifetimes) lifetimes.push_back(bound / 1'000'000);
  all["samples"] = samples_of(profile);
  return all;
}

}  // namespace tally::tool
