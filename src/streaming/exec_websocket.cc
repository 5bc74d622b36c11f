// Exec and attach over WebSocket: one channel per first byte of each binary message. v5 adds the
// message 255 N, by which the client ends channel N; in v4 its input lasts as long as the
// connection.
#include "streaming/exec_session.h"
#include "streaming/session.h"

#include <utility>

namespace postern::streaming {
namespace {

enum Channel : std::uint8_t {
  kStdin = 0,
  kStdout = 1,
  kStderr = 2,
  kError = 3,
  kResize = 4,
  kClose = 255,
};

class WebSocketExec final : public Session, private ExecPeer {
 public:
  WebSocketExec(event::Loop& loop, SessionOwner& owner, std::unique_ptr<net::Transport> transport,
                ChannelProtocol protocol, ExecTarget target)
      : Session(loop, owner, std::move(transport), Carrier::Framing::kWebSocket),
        protocol_(protocol),
        target_(std::move(target)),
        exec_(loop, *this) {}

  void begin(base::Buffer& unread) override {
    Session::begin(unread);
    exec_.start(target_.backend,
                target_.attach ? ExecSession::Kind::kAttach : ExecSession::Kind::kExec,
                target_.request);
  }

 private:
  // ---- from the connection ----
  void onBytes(std::string_view message) override {
    if (message.empty()) return;
    const auto channel = static_cast<std::uint8_t>(message.front());
    message.remove_prefix(1);
    switch (channel) {
      case kStdin:
        return exec_.onInput(message);
      case kResize:
        return exec_.onResize(message);
      case kClose:
        if (protocol_ == ChannelProtocol::kV5 && message.size() == 1 && message.front() == kStdin) {
          exec_.onInputEnd();
        }
        return;
      default:
        return;  // Kubernetes discards what comes on channels that are not the client's
    }
  }
  void onDrained() override { exec_.onDrained(); }

  // ---- from the process ----
  void output(Output channel, std::string_view bytes) override {
    send(channel == Output::kStdout ? kStdout : kStderr, bytes);
  }
  bool full() const override { return carrier_.full(); }
  void holdInput(bool hold) override { hold ? carrier_.pause() : carrier_.resume(); }
  void finish(const std::string& status) override {
    send(kError, status);
    carrier_.sendClose();
    carrier_.resume();  // to see the client's answer
    timer_.arm(kLinger);
  }

  void send(Channel channel, std::string_view bytes) {
    const char head = static_cast<char>(channel);
    carrier_.send(std::string_view(&head, 1), bytes);
  }

  ChannelProtocol protocol_;
  ExecTarget target_;
  ExecSession exec_;
};

}  // namespace

std::unique_ptr<Session> makeWebSocketExec(event::Loop& loop, SessionOwner& owner,
                                           std::unique_ptr<net::Transport> transport,
                                           ChannelProtocol protocol, ExecTarget target) {
  return std::make_unique<WebSocketExec>(loop, owner, std::move(transport), protocol,
                                         std::move(target));
}

}  // namespace postern::streaming
