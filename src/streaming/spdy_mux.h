// The streams of one SPDY/3.1 connection on the server's side: accepts what the client opens,
// answers pings, refuses what is out of order or too much. Without flow control, as the clients
// are: the carrier's back-pressure holds all streams at once. Owned by its session. One loop.
#pragma once

#include "codec/spdy3.h"
#include "streaming/carrier.h"

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

namespace postern::streaming {

struct SpdyStream {
  std::uint32_t id = 0;
  codec::SpdyHeaders headers;
  bool local_ended = false;   // we sent FIN
  bool remote_ended = false;  // the client sent FIN
  bool gone = false;          // reset by either side

  /// A header by its lower-case name, "" when absent.
  std::string_view header(std::string_view name) const;
};

/// Upward. A stream stays valid until SpdyMux::release or the mux's end.
class SpdyMuxObserver {
 public:
  virtual ~SpdyMuxObserver() = default;
  /// A new stream. False refuses it (it is gone then).
  virtual bool onStream(SpdyStream& stream) = 0;
  virtual void onData(SpdyStream& stream, std::string_view bytes) = 0;
  /// The client ended its direction.
  virtual void onEnd(SpdyStream& stream) = 0;
  virtual void onReset(SpdyStream& stream) = 0;
  /// The client wants to end the connection, or broke the protocol. Nothing follows.
  virtual void onGoAway() = 0;
};

class SpdyMux {
 public:
  static constexpr std::size_t kStreamsMax = 1000;  // open at once

  SpdyMux(Carrier& carrier, SpdyMuxObserver& observer) : carrier_(carrier), observer_(observer) {}

  void feed(std::string_view bytes);
  /// Sends data frames; nothing on a stream that ended or is gone.
  void send(SpdyStream& stream, std::string_view bytes);
  void end(SpdyStream& stream);
  void reset(SpdyStream& stream, codec::SpdyStatus status);
  void goAway();
  /// Forgets a stream (resets it if it is still open). The reference is invalid afterwards.
  void release(SpdyStream& stream);
  /// No more callbacks.
  void stop() { over_ = true; }

 private:
  void take(codec::SpdyFrame frame);
  void open(codec::SpdyFrame frame);
  SpdyStream* find(std::uint32_t id);

  Carrier& carrier_;
  SpdyMuxObserver& observer_;
  codec::SpdyParser parser_;
  codec::SpdyWriter writer_;
  std::map<std::uint32_t, SpdyStream> streams_;
  std::uint32_t last_ = 0;
  bool over_ = false;
};

}  // namespace postern::streaming
