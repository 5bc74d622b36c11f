// The admin port with Envoy's paths and shapes. Listens where the bootstrap says; whoever reaches
// it may stop the proxy, so it belongs on loopback. Main thread.
#pragma once

#include "base/error.h"
#include "http/server.h"
#include "net/address.h"

#include <nlohmann/json_fwd.hpp>

#include <cstdint>
#include <memory>
#include <string>

namespace postern::proxy {

class Server;

class Admin {
 public:
  /// Listens at `address`, or on `inherited`, which the process before had there.
  static base::ConfigResult<std::unique_ptr<Admin>> start(Server& server,
                                                          const net::Address& address,
                                                          base::Fd inherited);
  ~Admin();
  Admin(const Admin&) = delete;
  Admin& operator=(const Admin&) = delete;
  const net::Address& address() const { return address_; }
  /// A copy of the listening socket, for the next process.
  base::Fd share() const;
  /// Leaves accepting to the next process, or takes it up again.
  void pause();
  void resume();

 private:
  explicit Admin(Server& server) : server_(server) {}
  bool allows(const http::Request& request) const;
  void handle(http::Request request, std::unique_ptr<http::Responder> responder);

  Server& server_;
  net::Address address_;
  base::Fd socket_;
  std::unique_ptr<http::Server> http_;
  std::unique_ptr<http::Server> paused_;  // lets its last connections finish
};

// ---- the larger answers; each ends the exchange ----

void answerStats(Server& server, const http::Request& request, bool prometheus,
                 http::Responder& responder);
void answerConfigDump(Server& server, const http::Request& request, http::Responder& responder);
void answerClusters(Server& server, const http::Request& request,
                    std::unique_ptr<http::Responder> responder);
void answerListeners(Server& server, const http::Request& request,
                     std::unique_ptr<http::Responder> responder);
void answerServerInfo(Server& server, http::Responder& responder);
void answerCerts(Server& server, http::Responder& responder);
void answerRuntime(Server& server, http::Responder& responder);
void answerLogging(const http::Request& request, http::Responder& responder);

/// {"socket_address": …} or {"pipe": …}.
nlohmann::json addressJson(const net::Address& address);
void respondText(http::Responder& responder, int status, std::string body);
void respondJson(http::Responder& responder, const nlohmann::json& body);

}  // namespace postern::proxy
