#include "web_access.h"

#include <sys/random.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>

#include "failure.h"

namespace tally::tool {
namespace {

constexpr size_t kTokenLeast = 16;

std::string lower(std::string text) {
  for (char& c : text) c = static_cast<char>(tolower(static_cast<unsigned char>(c)));
  return text;
}

// Where its port begins: at ":80" of "name:80" and "[::1]:80".
size_t port_at(const std::string& host) {
  const size_t colon = host.rfind(':'), bracket = host.rfind(']');
  return colon == host.npos || (bracket != host.npos && colon < bracket) ? host.size() : colon;
}

bool is_known(const std::string& host, const std::string& local_address, const WebAccess& access) {
  const std::string name = host.substr(0, port_at(host)), port = host.substr(port_at(host));
  const bool is_own = name == "localhost" || name == "127.0.0.1" || name == "[::1]" ||
                      name == host_of_address(local_address);
  const bool is_own_port =
      port.empty() ? access.port == 80 : port.substr(1) == std::to_string(access.port);
  if (is_own && is_own_port) return true;
  return std::any_of(access.hosts.begin(), access.hosts.end(), [&](const std::string& known) {
    return lower(known) == host || lower(known) == name;
  });
}

// In a time that does not tell how much of it is right.
bool is_same(const std::string& one, const std::string& other) {
  unsigned difference = one.size() != other.size();
  for (size_t i = 0; i < std::min(one.size(), other.size()); ++i) {
    difference |= static_cast<unsigned char>(one[i] ^ other[i]);
  }
  return difference == 0;
}

bool is_of_another_site(const HttpRequest& request) {
  const std::string site = request.header("sec-fetch-site");
  return site == "cross-site" || site == "same-site";
}

}  // namespace

std::string host_of_address(const std::string& address) {
  if (address.starts_with("::ffff:")) return address.substr(strlen("::ffff:"));
  return address.find(':') == address.npos ? address : '[' + address + ']';
}

std::optional<HttpResponse> WebAccess::refusal(const HttpRequest& request) const {
  const std::string host = lower(request.header("host"));
  if (!is_known(host, request.local_address, *this)) {
    return http_error(421, "this server is not known as '" + host + "'; tally serve --host NAME " +
                               "tells it a name");
  }
  // A link that is followed is well, what another site's page fetches or frames is not.
  if (is_of_another_site(request) && request.header("sec-fetch-mode") != "navigate") {
    return http_error(403, "asked by a page of another site");
  }
  return std::nullopt;
}

std::optional<HttpResponse> WebAccess::refusal_of_control(const HttpRequest& request) const {
  if (token.empty()) return http_error(403, "read only: tally serve --allow-control is not");
  const std::string host = lower(request.header("host")), origin = lower(request.header("origin"));
  const bool is_own = origin.empty() || origin == "http://" + host || origin == "https://" + host;
  if (!is_own || is_of_another_site(request)) {
    return http_error(403, "asked by a page of another origin");
  }
  const std::string type = lower(request.header("content-type"));
  if (type.substr(0, type.find(';')) != "application/json") {
    return http_error(415, "expected the content type application/json");
  }
  if (!is_same(request.header("authorization"), "Bearer " + token)) {
    HttpResponse response = http_error(
        401, "expected the header 'Authorization: Bearer TOKEN' with the server's token");
    response.headers = {{"WWW-Authenticate", "Bearer"}};
    return response;
  }
  return std::nullopt;
}

std::string make_token() {
  unsigned char random[16];
  if (getrandom(random, sizeof random, 0) != ssize_t{sizeof random}) {
    throw Failure(kFailed, std::string("no random numbers: ") + strerror(errno));
  }
  constexpr char kDigits[] = "0123456789abcdef";
  std::string token;
  for (unsigned char byte : random) token += {kDigits[byte / 16], kDigits[byte % 16]};
  return token;
}

std::string read_token(const std::string& path) {
  auto fail = [&](const std::string& why) { throw Failure(kConfiguration, path + ": " + why); };
  struct stat status;
  if (stat(path.c_str(), &status) != 0) fail(strerror(errno));
  if ((status.st_mode & S_IROTH) != 0) fail("all users can read the token in it: chmod o= " + path);
  std::string token;
  std::ifstream file(path);
  std::getline(file, token);
  const bool is_plain =
      std::all_of(token.begin(), token.end(), [](char c) { return c > ' ' && c < '\x7f'; });
  if (token.size() < kTokenLeast || !is_plain) {
    fail("expected a token of " + std::to_string(kTokenLeast) +
         " characters or more, without spaces, as its first line");
  }
  return token;
}

}  // namespace tally::tool
