// What `tally serve` answers: docs/TOOLS.md lists the paths.
#pragma once

#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "http_server.h"
#include "process_list.h"
#include "profile_cache.h"
#include "profile_formats.h"
#include "web_access.h"

namespace tally::tool {

class WebApi {
 public:
  explicit WebApi(WebAccess access) : access_(std::move(access)) {}

  // May be called by several threads at once.
  HttpResponse answer(const HttpRequest& request);

 private:
  struct Route;
  static const Route kRoutes[];

  HttpResponse page(const HttpRequest& request, const std::string& pid);
  HttpResponse metrics(const HttpRequest& request, const std::string& pid);
  HttpResponse targets(const HttpRequest& request, const std::string& pid);
  HttpResponse processes(const HttpRequest& request, const std::string& pid);
  HttpResponse process(const HttpRequest& request, const std::string& pid);
  HttpResponse report(const HttpRequest& request, const std::string& pid);
  HttpResponse history(const HttpRequest& request, const std::string& pid);
  HttpResponse profile(const HttpRequest& request, const std::string& pid);
  HttpResponse pprof(const HttpRequest& request, const std::string& pid);
  HttpResponse set_limit(const HttpRequest& request, const std::string& pid);
  HttpResponse trim(const HttpRequest& request, const std::string& pid);

  HttpResponse answer(const Route& route, const HttpRequest& request, const std::string& pid);
  std::vector<ProcessRow> list();

  using Format = std::string (*)(const ShownProfile&);
  std::string profile_text(const HttpRequest& request, const std::string& pid, Format format);

  const WebAccess access_;
  ProfileCache profiles_;
  std::mutex mutex_;
  std::set<std::string> complaints_;  // that were printed
};

}  // namespace tally::tool
