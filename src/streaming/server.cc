#include "streaming/server.h"

#include "base/strings.h"
#include "streaming/session.h"

#include <openssl/sha.h>

#include <algorithm>
#include <map>
#include <optional>
#include <utility>
#include <variant>

namespace postern::streaming {
namespace {

constexpr const char* kSpdyUpgrade = "SPDY/3.1";
constexpr const char* kExecOverSpdy = "v4.channel.k8s.io";
constexpr const char* kPortForward = "portforward.k8s.io";
constexpr const char* kTunnelPrefix = "SPDY/3.1+";
constexpr std::size_t kSessionsMax = 1024;

struct Target {
  Purpose purpose = Purpose::kExec;
  PodRef pod;
  std::string container;
};

/// Nothing: the path is not ours.
std::optional<Target> parseTarget(std::string_view path) {
  std::vector<std::string> segments;
  for (std::string_view piece : base::split(path, '/')) {
    if (!piece.empty()) segments.push_back(base::percentDecode(piece).value_or(std::string(piece)));
  }
  if (segments.empty()) return std::nullopt;
  Target out;
  std::size_t after_pod = 1;  // segments behind the pod's name, without a uid
  if (segments[0] == "exec") {
    out.purpose = Purpose::kExec;
  } else if (segments[0] == "attach") {
    out.purpose = Purpose::kAttach;
  } else if (segments[0] == "portForward") {
    out.purpose = Purpose::kPortForward;
    after_pod = 0;
  } else {
    return std::nullopt;
  }
  const bool with_uid = segments.size() == 4 + after_pod;
  if (!with_uid && segments.size() != 3 + after_pod) return std::nullopt;
  out.pod = {segments[1], segments[2], with_uid ? segments[3] : std::string()};
  if (after_pod == 1) out.container = segments.back();
  return out;
}

std::vector<std::string> listOf(const http::HeaderMap& headers, std::string_view name) {
  std::vector<std::string> out;
  auto joined = headers.joined(name);
  if (!joined) return out;
  for (std::string_view piece : base::split(*joined, ',')) {
    std::string_view trimmed = base::trim(piece);
    if (!trimmed.empty()) out.emplace_back(trimmed);
  }
  return out;
}

bool offers(const std::vector<std::string>& offered, std::string_view protocol) {
  return std::find(offered.begin(), offered.end(), protocol) != offered.end();
}

/// RFC 6455 4.2.2: proof that the handshake was understood.
std::string acceptOf(std::string_view key) {
  const std::string text = std::string(key) + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
  unsigned char hash[SHA_DIGEST_LENGTH];
  SHA1(reinterpret_cast<const unsigned char*>(text.data()), text.size(), hash);
  return base::base64Encode(std::string_view(reinterpret_cast<const char*>(hash), sizeof hash));
}

void refuse(http::Responder& responder, int status, std::string text,
            http::HeaderMap headers = {}) {
  headers.set("content-type", "text/plain; charset=utf-8");
  responder.respond(status, std::move(headers), std::move(text) + "\n");
}

/// How the connection goes on, or why not.
struct Upgrade {
  bool websocket = false;
  std::string protocol;  // as agreed; a tunnelled one without its prefix
  http::HeaderMap headers;
};
struct NoUpgrade {
  int status = 400;
  std::string text;
  http::HeaderMap headers;
};

std::variant<Upgrade, NoUpgrade> agreeWebSocket(const http::Request& request, Purpose purpose) {
  auto key = base::base64Decode(request.headers.value("sec-websocket-key"));
  if (request.method != "GET" || !key || key->size() != 16) {
    return NoUpgrade{400, "unable to upgrade: malformed websocket handshake", {}};
  }
  if (request.headers.value("sec-websocket-version") != "13") {
    return NoUpgrade{426,
                     "unable to upgrade: websocket version 13 is wanted",
                     {{"sec-websocket-version", "13"}}};
  }
  const auto offered = listOf(request.headers, "sec-websocket-protocol");
  static const std::vector<std::string> channels{"v5.channel.k8s.io", "v4.channel.k8s.io"};
  static const std::vector<std::string> tunnels{std::string(kTunnelPrefix) + kPortForward};
  for (const std::string& protocol : purpose == Purpose::kPortForward ? tunnels : channels) {
    if (!offers(offered, protocol)) continue;
    return Upgrade{true,
                   protocol,
                   {{"upgrade", "websocket"},
                    {"sec-websocket-accept", acceptOf(request.headers.value("sec-websocket-key"))},
                    {"sec-websocket-protocol", protocol}}};
  }
  return NoUpgrade{403,
                   "unable to upgrade: unable to negotiate protocol: client supports [" +
                       base::join(offered, " ") + "]",
                   {}};
}

std::variant<Upgrade, NoUpgrade> agreeSpdy(const http::Request& request, Purpose purpose) {
  const auto offered = listOf(request.headers, "x-stream-protocol-version");
  const std::string wanted = purpose == Purpose::kPortForward ? kPortForward : kExecOverSpdy;
  if (!offers(offered, wanted)) {
    return NoUpgrade{403,
                     "unable to upgrade: unable to negotiate protocol: client supports [" +
                         base::join(offered, " ") + "], server accepts [" + wanted + "]",
                     {{"x-accepted-stream-protocol-versions", wanted}}};
  }
  return Upgrade{false, wanted, {{"upgrade", kSpdyUpgrade}, {"x-stream-protocol-version", wanted}}};
}

std::variant<Upgrade, NoUpgrade> agree(const http::Request& request, Purpose purpose) {
  std::string_view upgrade = request.headers.value("upgrade");
  if (base::equalsIgnoreCase(upgrade, "websocket")) return agreeWebSocket(request, purpose);
  if (base::equalsIgnoreCase(upgrade, kSpdyUpgrade)) return agreeSpdy(request, purpose);
  return NoUpgrade{400, "unable to upgrade: missing upgrade headers in request", {}};
}

bool flagOf(const http::Request& request, std::string_view name) {
  const std::string value = request.parameter(name);
  return value == "1" || value == "true";
}

class ServerImpl final : public Server, private SessionOwner {
 public:
  ServerImpl(event::Loop& loop, ExecBackend& backend) : loop_(loop), backend_(backend) {}

  bool handle(http::Request& request, std::unique_ptr<http::Responder>& responder) override {
    auto target = parseTarget(request.path);
    if (!target) return false;
    const http::Request taken = std::move(request);
    auto answer = std::move(responder);
    serve(*target, taken, *answer);
    return true;
  }
  std::size_t sessions() const override { return sessions_.size(); }

 private:
  void serve(const Target& target, const http::Request& request, http::Responder& responder) {
    if (request.method != "GET" && request.method != "POST") {
      return refuse(responder, 405, "method not allowed", {{"allow", "GET, POST"}});
    }
    ExecRequest exec;
    if (target.purpose != Purpose::kPortForward) {
      exec = {.pod = target.pod,
              .container = target.container,
              .command = request.parameters("command"),
              .with_stdin = flagOf(request, "input"),
              .with_stdout = flagOf(request, "output"),
              .with_stderr = flagOf(request, "error"),
              .tty = flagOf(request, "tty")};
      if (exec.tty) exec.with_stderr = false;
      if (!exec.with_stdin && !exec.with_stdout && !exec.with_stderr) {
        return refuse(responder, 400, "you must specify at least 1 of stdin, stdout, stderr");
      }
      if (target.purpose == Purpose::kExec && exec.command.empty()) {
        return refuse(responder, 400, "you must specify a command");
      }
    }
    if (auto refusal = backend_.check(target.purpose, target.pod, target.container)) {
      return refuse(responder, refusal->status, std::move(refusal->text));
    }
    auto agreed = agree(request, target.purpose);
    if (auto* no = std::get_if<NoUpgrade>(&agreed)) {
      return refuse(responder, no->status, std::move(no->text), std::move(no->headers));
    }
    if (sessions_.size() >= kSessionsMax) {
      return refuse(responder, 503, "too many streaming sessions");
    }
    begin(target, std::move(exec), std::get<Upgrade>(std::move(agreed)), responder);
  }

  void begin(const Target& target, ExecRequest exec, Upgrade upgrade, http::Responder& responder) {
    base::Buffer unread;
    auto transport = responder.upgrade(std::move(upgrade.headers), unread);
    if (!transport) return;  // the client is gone, or took not even the 101
    std::unique_ptr<Session> session;
    if (target.purpose == Purpose::kPortForward) {
      session = makePortForward(
          loop_, *this, std::move(transport),
          upgrade.websocket ? Carrier::Framing::kWebSocket : Carrier::Framing::kNone, backend_,
          target.pod);
    } else {
      ExecTarget what{backend_, target.purpose == Purpose::kAttach, std::move(exec)};
      if (upgrade.websocket) {
        session = makeWebSocketExec(
            loop_, *this, std::move(transport),
            upgrade.protocol.starts_with("v5") ? ChannelProtocol::kV5 : ChannelProtocol::kV4,
            std::move(what));
      } else {
        session = makeSpdyExec(loop_, *this, std::move(transport), std::move(what));
      }
    }
    Session& started = *session;
    sessions_.emplace(&started, std::move(session));
    started.begin(unread);
  }

  void over(Session& session) override {
    auto it = sessions_.find(&session);
    if (it == sessions_.end()) return;
    loop_.destroyLater(std::move(it->second));
    sessions_.erase(it);
  }

  event::Loop& loop_;
  ExecBackend& backend_;
  std::map<Session*, std::unique_ptr<Session>> sessions_;
};

}  // namespace

std::unique_ptr<Server> Server::make(event::Loop& loop, ExecBackend& backend) {
  return std::make_unique<ServerImpl>(loop, backend);
}

}  // namespace postern::streaming
