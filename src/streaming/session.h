// What all sessions share: the upgraded connection, the owner that keeps them, and the end. A
// session is over when it says so; it is destroyed at the end of that turn. Private to streaming.
#pragma once

#include "event/loop.h"
#include "streaming/backend.h"
#include "streaming/carrier.h"

#include <chrono>
#include <memory>

namespace postern::streaming {

class Session;

class SessionOwner {
 public:
  virtual ~SessionOwner() = default;
  /// The session has ended; takes it out and destroys it at the end of the turn.
  virtual void over(Session& session) = 0;
};

class Session : public event::Deferred, protected CarrierObserver {
 public:
  /// Everything was sent: a client gets this long to take it and close.
  static constexpr std::chrono::seconds kLinger{10};
  /// A SPDY client has this long to open the streams its request announced.
  static constexpr std::chrono::seconds kStreamsTimeout{30};

  Session(event::Loop& loop, SessionOwner& owner, std::unique_ptr<net::Transport> transport,
          Carrier::Framing framing)
      : loop_(loop),
        owner_(owner),
        carrier_(std::move(transport), framing, *this),
        timer_(loop, [this] { onTimeout(); }) {}
  virtual void begin(base::Buffer& unread) { carrier_.start(unread); }

 protected:
  virtual void onTimeout() { over(); }
  void onClosed() override { over(); }
  /// Nothing is left to do.
  void over() {
    timer_.cancel();
    carrier_.stop();
    owner_.over(*this);
  }

  event::Loop& loop_;
  SessionOwner& owner_;
  Carrier carrier_;
  event::Timer timer_;
};

struct ExecTarget {
  ExecBackend& backend;
  bool attach = false;
  ExecRequest request;
};

std::unique_ptr<Session> makeSpdyExec(event::Loop& loop, SessionOwner& owner,
                                      std::unique_ptr<net::Transport> transport, ExecTarget target);
enum class ChannelProtocol : unsigned char { kV4, kV5 };
std::unique_ptr<Session> makeWebSocketExec(event::Loop& loop, SessionOwner& owner,
                                           std::unique_ptr<net::Transport> transport,
                                           ChannelProtocol protocol, ExecTarget target);
/// `framing`: SPDY as it is, or in the messages of a WebSocket.
std::unique_ptr<Session> makePortForward(event::Loop& loop, SessionOwner& owner,
                                         std::unique_ptr<net::Transport> transport,
                                         Carrier::Framing framing, ExecBackend& backend,
                                         PodRef pod);

}  // namespace postern::streaming
