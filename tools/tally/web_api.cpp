#include "web_api.h"

#include <cstdio>
#include <optional>
#include <stdexcept>

#include "failure.h"
#include "json_text.h"
#include "limit_size.h"
#include "report_data.h"
#include "report_page.h"
#include "request.h"
#include "stat_formats.h"
#include "summary.h"
#include "target.h"
#include "text.h"

namespace tally::tool {
namespace {

using nlohmann::ordered_json;

constexpr char kOpenMetrics[] = "application/openmetrics-text; version=1.0.0; charset=utf-8";

// An answer that is not the one that was asked for.
struct Refused {
  unsigned status;
  std::string why;
};

// Without what makes it easy on the eye: it is large.
HttpResponse compact_response(const ordered_json& value) {
  return {.body = value.dump(-1, ' ', false, ordered_json::error_handler_t::replace)};
}

HttpResponse json_response(const ordered_json& value) { return {.body = json_text(value)}; }

// The process's record, by its id alone: a name would be that of a file.
Reader open_process(const std::string& pid) {
  if (pid.empty() || pid.find_first_not_of("0123456789") != pid.npos) {
    throw Refused{404, "'" + pid + "': expected a process id"};
  }
  std::string path;
  try {
    path = find_target(pid);
  } catch (const Failure& failure) {
    throw Refused{404, failure.what()};
  }
  return Reader(path);
}

// That of ?pid=PID, or of the only process that runs.
Reader open_asked_for(const HttpRequest& request) {
  auto at = request.query.find("pid");
  if (at != request.query.end()) return open_process(at->second);
  try {
    return open_record("");
  } catch (const Failure& failure) {
    throw Refused{404, std::string("expected ?pid=PID: ") + failure.what()};
  }
}

ViewKind view_kind(const std::string& name) {
  for (ViewKind kind :
       {ViewKind::kLive, ViewKind::kAllocated, ViewKind::kPeak, ViewKind::kGrowth}) {
    if (name == name_of(kind)) return kind;
  }
  throw Refused{400, "view '" + name + "': expected live, allocated, peak or growth"};
}

// One that runs, to be asked for something.
Reader open_running(const std::string& pid) {
  Reader reader = open_process(pid);
  if (!reader.is_live()) throw Refused{409, "process " + pid + " has ended"};
  return reader;
}

std::string text_in(const std::string& body, const char* key, const char* example) {
  const ordered_json object = ordered_json::parse(body, nullptr, false);
  const auto at = object.is_object() ? object.find(key) : object.end();
  if (!object.is_object() || at == object.end() || !at->is_string()) {
    throw Refused{400, std::string("expected a JSON object such as ") + example};
  }
  return at->get<std::string>();
}

ordered_json limit_json(uint64_t bytes) {
  return bytes == TALLY_LIMIT_NONE ? ordered_json(nullptr) : ordered_json(bytes);
}

// Where `path` is as `pattern` says, in which a * stands for a name between two /: that name, or ""
// without one.
std::optional<std::string> matched(std::string_view pattern, std::string_view path) {
  const size_t star = std::min(pattern.find('*'), pattern.size());
  if (star == pattern.size()) return path == pattern ? std::optional("") : std::nullopt;
  const std::string_view rest = pattern.substr(star + 1);
  if (path.size() <= star + rest.size() || !path.starts_with(pattern.substr(0, star)) ||
      !path.ends_with(rest)) {
    return std::nullopt;
  }
  const std::string_view name = path.substr(star, path.size() - star - rest.size());
  return name.find('/') == name.npos ? std::optional(std::string(name)) : std::nullopt;
}

}  // namespace

struct WebApi::Route {
  const char* method;
  const char* path;
  HttpResponse (WebApi::*answer)(const HttpRequest&, const std::string& pid);
};

const WebApi::Route WebApi::kRoutes[] = {
    {"GET", "/", &WebApi::page},
    {"GET", "/metrics", &WebApi::metrics},
    {"GET", "/api/v1/targets", &WebApi::targets},
    {"GET", "/api/v1/processes", &WebApi::processes},
    {"GET", "/api/v1/processes/*", &WebApi::process},
    {"GET", "/api/v1/processes/*/report", &WebApi::report},
    {"GET", "/api/v1/processes/*/history", &WebApi::history},
    {"GET", "/api/v1/processes/*/profile", &WebApi::profile},
    {"GET", "/api/v1/processes/*/profile.pb.gz", &WebApi::pprof},
    {"GET", "/profile.pb.gz", &WebApi::pprof},
    {"GET", "/debug/pprof/heap", &WebApi::pprof},    // as Go's programs have them, for what
    {"GET", "/debug/pprof/allocs", &WebApi::pprof},  // collects from those
    {"POST", "/api/v1/processes/*/limit", &WebApi::set_limit},
    {"POST", "/api/v1/processes/*/trim", &WebApi::trim},
};

HttpResponse WebApi::answer(const HttpRequest& request) {
  if (auto refusal = access_.refusal(request)) return *refusal;
  for (const Route& route : kRoutes) {
    auto pid = matched(route.path, request.path);
    if (pid) return answer(route, request, *pid);
  }
  return http_error(404, "no such path: " + request.path);
}

HttpResponse WebApi::answer(const Route& route, const HttpRequest& request,
                            const std::string& pid) {
  if (request.method != route.method) {
    HttpResponse response = http_error(405, std::string("expected the method ") + route.method);
    response.headers = {{"Allow", route.method}};
    return response;
  }
  if (request.method == "POST") {
    if (auto refusal = access_.refusal_of_control(request)) return *refusal;
  }
  try {
    return (this->*route.answer)(request, pid);
  } catch (const Refused& refused) {
    return http_error(refused.status, refused.why);
  }
}

// Of those with one id, which only root sees, the one that lives: all is asked by it. What cannot
// be read is said once.
std::vector<ProcessRow> WebApi::list() {
  std::vector<std::string> unreadable;
  std::vector<ProcessRow> rows = list_processes(&unreadable);
  std::set<int64_t> pids;
  std::erase_if(rows,
                [&](const ProcessRow& row) { return !pids.insert(row.record.head.pid).second; });
  const std::lock_guard lock(mutex_);
  for (const std::string& line : unreadable) {
    if (complaints_.insert(line).second) fprintf(stderr, "tally serve: %s\n", line.c_str());
  }
  return rows;
}

HttpResponse WebApi::page(const HttpRequest&, const std::string&) {
  if (!has_report_page()) {
    return {.status = 501,
            .content_type = "text/plain; charset=utf-8",
            .body = "This tally was built without the page: " + why_no_report_page() +
                    "\nAll else is there: /metrics, /api/v1/processes, /profile.pb.gz?pid=PID.\n"};
  }
  // What it loads and runs it says itself.
  return {.content_type = "text/html; charset=utf-8",
          .body = report_page({{"live", true}}),
          .headers = {{"Content-Security-Policy", "frame-ancestors 'none'"}}};
}

HttpResponse WebApi::metrics(const HttpRequest&, const std::string&) {
  std::vector<Record> records;
  for (ProcessRow& row : list()) records.push_back(std::move(row.record));
  return {.content_type = kOpenMetrics, .body = as_open_metrics(records, Ended::kDown)};
}

HttpResponse WebApi::processes(const HttpRequest&, const std::string&) {
  auto all = ordered_json::array();
  for (const ProcessRow& row : list()) all.push_back(process_json(row));
  return json_response(all);
}

// As Prometheus's discovery by HTTP wants it: with __param_pid each target is asked for
// /debug/pprof of its own process.
HttpResponse WebApi::targets(const HttpRequest& request, const std::string&) {
  auto all = ordered_json::array();
  for (const ProcessRow& row : list()) {
    if (!row.record.is_live) continue;
    const std::string pid = std::to_string(row.record.head.pid), name = process_name(row.record);
    all.push_back({{"targets", {request.header("host")}},
                   {"labels",
                    {{"__param_pid", pid},
                     {"pid", pid},
                     {"process", name},
                     {"service_name", name.empty() ? "unknown" : name}}}});
  }
  return json_response(all);
}

HttpResponse WebApi::process(const HttpRequest&, const std::string& pid) {
  return {.body = stat_as_json(open_process(pid).read())};
}

HttpResponse WebApi::report(const HttpRequest&, const std::string& pid) {
  Reader reader = open_process(pid);
  HttpResponse response;
  profiles_.with(reader, [&](const Profile& profile, Symbols& symbols) {
    response = compact_response(report_data(reader, profile, symbols));
  });
  return response;
}

HttpResponse WebApi::history(const HttpRequest&, const std::string& pid) {
  Reader reader = open_process(pid);
  return compact_response(history_data(reader));
}

std::string WebApi::profile_text(const HttpRequest& request, const std::string& pid,
                                 Format format) {
  auto asked = [&](const char* name, const char* otherwise) {
    auto at = request.query.find(name);
    return at == request.query.end() ? otherwise : at->second;
  };
  ViewOptions options;
  options.kind = view_kind(asked("view", "live"));
  Reader reader = pid.empty() ? open_asked_for(request) : open_process(pid);
  std::string text;
  profiles_.with(reader, [&](const Profile& profile, Symbols& symbols) {
    const Record record = reader.read();
    try {
      require_sampled(reader, profile);
      options.tag = require_tag_of(record, profile, asked("tag", "/"));
    } catch (const Failure& failure) {
      throw Refused{404, failure.what()};
    }
    text = format({record, profile, view_of(profile, options), symbols});
  });
  return text;
}

HttpResponse WebApi::profile(const HttpRequest& request, const std::string& pid) {
  return {.body = profile_text(request, pid, profile_as_json)};
}

HttpResponse WebApi::pprof(const HttpRequest& request, const std::string& pid) {
  return {.content_type = "application/octet-stream",
          .body = profile_text(request, pid, profile_as_pprof),
          .headers = {{"Content-Disposition", "attachment; filename=\"profile.pb.gz\""}}};
}

HttpResponse WebApi::set_limit(const HttpRequest& request, const std::string& pid) {
  constexpr char kExample[] = R"({"tag": "cache", "limit": "512M:soft=400M"})";
  const std::string tag = text_in(request.body, "tag", kExample);
  const std::string size = text_in(request.body, "limit", kExample);
  Reader reader = open_running(pid);
  std::string path, reading = tag;
  LimitSettings limit;
  try {
    path = tag_path(tag);
    reading = size;
    limit = read_limit(size, [&] { return memory_of(long(reader.head().pid)); });
  } catch (const std::invalid_argument& expected) {
    throw Refused{400, printable(reading) + ": expected " + expected.what()};
  }
  try {
    if (limit.hard == TALLY_LIMIT_NONE && limit.soft == TALLY_LIMIT_NONE) {
      require_tag(reader.read(), path);  // not made to have no limit
    }
  } catch (const Failure& failure) {
    throw Refused{404, failure.what()};
  }
  try {
    request_limit(reader, path, limit);
  } catch (const Failure& failure) {
    throw Refused{502, failure.what()};
  }
  return json_response({{"pid", reader.head().pid},
                        {"tag", path},
                        {"soft_limit_bytes", limit_json(limit.soft)},
                        {"hard_limit_bytes", limit_json(limit.hard)}});
}

HttpResponse WebApi::trim(const HttpRequest&, const std::string& pid) {
  Reader reader = open_running(pid);
  try {
    return json_response({{"pid", reader.head().pid}, {"bytes", request_trim(reader)}});
  } catch (const Failure& failure) {
    throw Refused{502, failure.what()};
  }
}

}  // namespace tally::tool
