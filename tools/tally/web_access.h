// Who may ask the server what. A page of any site may have the browser send requests to it, under a
// name of its own that leads to this machine (DNS rebinding) or under the server's.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "http_server.h"

namespace tally::tool {

struct WebAccess {
  uint16_t port;                   // of the server
  std::vector<std::string> hosts;  // names of it beside localhost and its addresses; without a port
                                   // at any
  std::string token;               // that control needs; "": nobody has control

  // Why the request is not answered; none if it is.
  std::optional<HttpResponse> refusal(const HttpRequest& request) const;
  // Likewise one that changes something.
  std::optional<HttpResponse> refusal_of_control(const HttpRequest& request) const;
};

// An address as a client writes it before the port; of one of IPv4 within IPv6 the former.
std::string host_of_address(const std::string& address);

// One that nobody can guess.
std::string make_token();
// That in the file. Throws Failure (kConfiguration): it cannot be read, others than its user and
// group can, or it is too short.
std::string read_token(const std::string& path);

}  // namespace tally::tool
