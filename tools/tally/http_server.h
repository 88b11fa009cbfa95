// HTTP/1.1, bounded in all that a client could ask for more of: connections, bytes, time.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace tally::tool {

struct HttpRequest {
  std::string method;                          // "HEAD" is told as "GET"
  std::string path;                            // decoded, without the query
  std::map<std::string, std::string> query;    // decoded; of several of a name the first
  std::map<std::string, std::string> headers;  // in lower case; of several of a name all, by commas
  std::string body;
  std::string local_address;  // that the client reached

  // "" if there is none.
  std::string header(const std::string& name) const {
    auto at = headers.find(name);
    return at == headers.end() ? "" : at->second;
  }
};

struct HttpResponse {
  unsigned status = 200;
  std::string content_type = "application/json";
  std::string body;
  std::vector<std::pair<std::string, std::string>> headers = {};  // in place of, or beside, those
                                                                  // that each answer has
};

// {"error": MESSAGE}
HttpResponse http_error(unsigned status, const std::string& message);

class HttpServer {
 public:
  static constexpr size_t kConnections = 64;  // more wait to be accepted
  static constexpr unsigned kThreads = 4;     // that answer
  static constexpr size_t kHeaderBytes = 16 * 1024;
  static constexpr size_t kBodyBytes = 16 * 1024;
  static constexpr unsigned kRequestSeconds = 5;    // until it is there as a whole
  static constexpr unsigned kResponseSeconds = 30;  // until the client has taken it

  // Called by several threads at once. What it throws is told with the status 500.
  using Handler = std::function<HttpResponse(const HttpRequest&)>;

  // Listens, at any free port if it is 0. Throws Failure (kFailed): `address` is none of this
  // machine's, or the port cannot be had.
  HttpServer(const std::string& address, uint16_t port, Handler handler);
  ~HttpServer();

  uint16_t port() const;

  // Answers until SIGINT or SIGTERM.
  void run();

 private:
  class Listener;
  std::unique_ptr<Listener> listener_;
};

}  // namespace tally::tool
