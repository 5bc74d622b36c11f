// What both ends of an HTTP/2 connection share (RFC 9113): frames in, streams and their windows,
// frames out with one flush per turn. Internal to http/: H2Server and H2Client derive from it.
// Reading never waits for consumers (the windows bound what may come); consumed bytes open the
// windows again. After a call upward a function looks whether the session is closed before it goes
// on.
#pragma once

#include "base/buffer.h"
#include "base/error.h"
#include "codec/h2_reader.h"
#include "codec/h2_writer.h"
#include "codec/hpack.h"
#include "event/loop.h"
#include "http/h2_headers.h"
#include "http/h2_limits.h"
#include "http/h2_stream.h"
#include "http/h2_stream_table.h"
#include "net/transport.h"

#include <algorithm>
#include <array>
#include <memory>
#include <string>
#include <vector>

namespace postern::http {

struct H2Options {
  std::size_t header_bytes_max;
  std::size_t header_count_max;
  H2Limits h2;
};

/// How many of the frames in the output buffer are unsent, at most: two runs of frames, the older
/// one is forgotten when all of its bytes are gone.
class H2UnsentFrames {
 public:
  enum class Kind : bool { kData, kControl };
  void add(Kind kind) {
    ++newer_.all;
    if (kind == Kind::kControl) ++newer_.control;
  }
  /// After a write: `sent` bytes since the connection began, `unsent` wait.
  void moved(std::uint64_t sent, std::size_t unsent) {
    if (sent < boundary_ && unsent > 0) return;
    older_ = unsent == 0 ? Count{} : newer_;
    newer_ = {};
    boundary_ = sent + unsent;
  }
  std::uint32_t all() const { return older_.all + newer_.all; }
  std::uint32_t control() const { return older_.control + newer_.control; }

 private:
  struct Count {
    std::uint32_t all = 0;
    std::uint32_t control = 0;
  };
  Count older_;
  Count newer_;
  std::uint64_t boundary_ = 0;
};

/// How a stream number that is not in the table came to be there.
enum class H2Past : unsigned char { kIdle, kClosed, kResetByUs, kForgotten, kSkipped };

class H2Session : public net::TransportObserver, public event::Deferred {
 public:
  using Role = codec::H2FrameReader::Role;
  H2Session(event::Loop& loop, std::unique_ptr<net::Transport> transport, base::Buffer initial,
            Role role, const H2Options& options);
  ~H2Session() override;

  net::Transport& wire() { return *transport_; }
  const net::Transport& wire() const { return *transport_; }
  /// Of the connection: what the peer lets us send, and what we let it send.
  std::int64_t sendWindow() const { return send_window_; }
  std::int64_t receiveWindow() const { return receive_window_; }

  // ---- for H2Stream ----
  bool isServer() const { return role_ == Role::kServer; }
  void writeHeaders(H2Stream& stream, const HeaderMap& headers, End end);
  /// The stream has bytes, trailers or an end to send.
  void offer(H2Stream& stream);
  /// The observer asked for the next piece.
  void wanted(H2Stream& stream);
  /// The producer is done: a server stream is over for its observer.
  void producerEnded(H2Stream& stream);
  void resetByUs(H2Stream& stream, codec::H2Error code);
  /// Above it a stream is full: early when all streams together hold too much that is unsent.
  std::size_t streamUnsentMax() const {
    constexpr std::size_t kCrowdedBytes = 8 * 1024;
    const std::size_t most = options_.h2.stream_unsent_bytes_max;
    return unsent_bytes_ > options_.h2.unsent_bytes_max ? std::min(most, kCrowdedBytes) : most;
  }
  void countUnsent(std::ptrdiff_t change) { unsent_bytes_ += static_cast<std::size_t>(change); }

  // ---- net::TransportObserver ----
  void onConnected() override;
  void onReadable() override;
  void onWritable() override;
  /// After the end of what comes it is no news.
  void onError(base::Error error) override {
    if (!eof_) lost(error);
  }

 protected:
  /// A header block on a number that is not in the table. The fields are decoded; `too_large`: not
  /// all of them.
  virtual void onNewHeaders(std::uint32_t id, H2HeaderReader& fields, bool too_large) = 0;
  /// A header block on a number that is not in the table cannot be read; the connection ends next.
  virtual void onBrokenHeaders(std::uint32_t id, ResetReason reason) { (void)id, (void)reason; }
  virtual void onResponse(H2Stream& stream, H2HeaderReader& fields) = 0;
  virtual void onGoAway(std::uint32_t last_stream, codec::H2Error code) = 0;
  virtual void onSettings() {}
  virtual void onPingAck() {}
  /// End of a turn in which streams ended, or draining was asked for.
  virtual void onSettled() = 0;
  /// The peer ended its direction, or the connection is broken.
  virtual void onEnd(base::Error error) = 0;
  /// Bytes were read. `inside`: they end inside a frame or header block.
  virtual void onBytes(bool inside) { (void)inside; }
  /// Numbers never used so far.
  virtual bool isIdle(std::uint32_t id) const = 0;
  /// Client: the stream's first headers are about to be written; gives it a number.
  virtual void number(H2Stream&) {}
  /// Told once, after all streams; then the session destroys itself.
  virtual void onGone(base::Error error) = 0;
  virtual void tell(H2Event event) = 0;
  /// A stream left the table.
  virtual void onStreamGone(H2Stream&) {}
  /// Why streams that are running when the connection breaks are reset.
  virtual ResetReason lostReason(const H2Stream& stream) const = 0;

  void begin();
  H2Stream& addStream(std::unique_ptr<H2Stream> stream);
  std::unique_ptr<H2Stream> makeStream(std::uint32_t id);
  H2Stream* find(std::uint32_t id) const { return streams_.find(id); }
  void closeStream(H2Stream& stream);
  /// The first, of those that have a number and then of the others, for which it is true, or null.
  template <class Which>
  H2Stream* findStream(Which&& which) const {
    if (H2Stream* found = streams_.findIf(which); found != nullptr) return found;
    for (const auto& each : unsent_) {
      if (which(*each)) return each.get();
    }
    return nullptr;
  }
  void streamError(std::uint32_t id, codec::H2Error code,
                   ResetReason reason = ResetReason::kProtocol);
  /// A message that is wrong as HTTP ends its stream or, unless configured so, the connection.
  void invalidMessage(std::uint32_t id, const char* text,
                      ResetReason reason = ResetReason::kProtocol);
  void writeReset(std::uint32_t id, codec::H2Error code);
  void writePing(std::string_view payload, codec::H2PingKind kind);
  /// A stream came to its natural end: what it cost of the reset budget is given back.
  void creditReset();
  /// Client: a PING first, if nothing was heard for long.
  void pingIfSilent();
  void connectionError(codec::H2Error code, const char* text,
                       ResetReason reason = ResetReason::kProtocol);
  /// Ends everything but the connection, which lingers: our direction ends after what was written,
  /// then the peer's end is waited for. Without startLinger() it closes at once.
  void endGently(base::Error error, std::optional<ResetReason> reason);
  /// Server: arms what ends a connection that lingers. False: none may.
  virtual bool startLinger() { return false; }
  /// Ends everything. Streams learn `reason`, or what lostReason() says.
  void shut(base::Error error, std::optional<ResetReason> reason);
  void lost(base::Error error) { shut(error, std::nullopt); }
  void sendGoAway(std::uint32_t last_stream, codec::H2Error code, std::string_view debug = {});
  void tellEnded(H2Stream& stream);
  void remoteEnded(H2Stream& stream);
  void schedule() { turn_end_.schedule(); }
  void settleLater() {
    settle_ = true;
    schedule();
  }
  /// onSettled() again when what is unsent has moved.
  void settleWhenWritten() { settle_ = true; }
  /// One token of the reset budget; false: the budget is used up and the connection was closed.
  bool chargeReset();
  /// No frame is read or written any more; the transport may still linger.
  bool isClosed() const { return state_ >= State::kLinger; }
  bool lingers() const { return state_ == State::kLinger; }
  H2Past past(std::uint32_t id) const;
  /// For past(): the number leaves the table, or never entered it.
  void remember(std::uint32_t id, bool reset_by_us);

  event::Loop& loop_;
  std::unique_ptr<net::Transport> transport_;
  base::Buffer in_;
  base::Buffer out_;
  const H2Options options_;
  codec::H2FrameReader reader_;
  codec::HpackDecoder decoder_;
  codec::HpackEncoder encoder_;
  H2StreamTable streams_;
  std::vector<std::unique_ptr<H2Stream>> unsent_;  // client: opened, request not yet sent
  base::MonotonicTime last_activity_{};  // a stream ended, or the peer took what had to wait
  std::uint32_t last_peer_stream_ = 0;   // server: highest number the client used
  std::uint32_t new_streams_ = 0;        // since onReadable()
  bool eof_ = false;

 private:
  enum class State : unsigned char { kNew, kOpen, kLinger, kClosed };

  void linger();
  void resetStreams(std::optional<ResetReason> reason);
  void readSome();
  void ended(base::Error error);
  /// False: enough for this turn, `in_` may hold more.
  bool process();
  void handle(codec::H2FrameReader::Event event);
  void handleData();
  void handleHeaders();
  void handleReset();
  void handleSettings();
  void handleWindowUpdate();
  void handleUnknownData(std::uint32_t id, std::size_t bytes);
  void discard(std::size_t bytes);
  void giveBack(H2Stream& stream, std::size_t bytes);
  void measureRoundTrip(std::int64_t left);
  void onRoundTrip();
  void growWindows();
  void endOfTurn();
  void deliverReady();
  void deliver(H2Stream& stream);
  void flush();
  void fillOut();
  bool writeData(H2Stream& stream);
  void localEnded(H2Stream& stream);
  void refill();
  void tellFlood();
  bool checkFloods();
  void startKeepalive();
  void waitForKeepalive();
  void askPeer();
  void onKeepalive();

  struct Keepalive {
    Keepalive(event::Loop& loop, base::Function<void()> fire) : timer(loop, std::move(fire)) {}
    event::Timer timer;
    base::MonotonicTime heard{};  // any byte
    base::MonotonicTime asked{};  // the PING
    bool waiting = false;
  };

  const Role role_;
  event::Soon deliver_;
  event::TurnEnd turn_end_;
  base::IntrusiveList<H2Stream, H2ReadyTag> ready_;
  base::IntrusiveList<H2Stream, H2SendTag> sending_;
  base::IntrusiveList<H2Stream, H2WritableTag> writable_;
  std::vector<std::unique_ptr<H2Stream>> graveyard_;
  std::string block_;  // header block being written
  // The last numbers that left the table; the top bit: reset by us, late frames are expected.
  std::array<std::uint32_t, 64> closed_{};
  std::size_t closed_count_ = 0;
  std::uint32_t forgotten_ = 0;  // the highest number that left `closed_`
  std::int64_t send_window_ = 65535;
  std::int64_t receive_window_ = 65535;
  std::uint32_t give_back_ = 0;
  std::uint32_t window_growth_ = 1;  // times what the windows were at first
  // Of DATA, since the connection began: what came, and what is no longer held.
  std::uint64_t received_bytes_ = 0;
  std::uint64_t taken_bytes_ = 0;
  // The round trip that is measured: when it began (or the last one ended), what had come by then,
  // and what the peer might still send before it heard of the update.
  base::MonotonicTime measured_{};
  std::uint64_t received_before_ = 0;
  std::int64_t left_before_ = 0;
  std::uint32_t peer_initial_window_ = 65535;
  std::uint32_t reset_tokens_;
  H2UnsentFrames unsent_frames_;
  std::uint64_t sent_bytes_ = 0;
  std::size_t unsent_bytes_ = 0;  // in the streams' buffers
  std::unique_ptr<Keepalive> keepalive_;
  base::MonotonicTime refilled_{};
  std::size_t discarded_ = 0;  // while it lingers
  State state_ = State::kNew;
  bool measuring_ = false;
  bool settle_ = false;
  bool backlog_ = false;  // `in_` holds what the last turn left
  bool paused_ = false;   // too much unsent: nothing is read
  bool write_blocked_ = false;
  bool write_shut_ = false;
};

}  // namespace postern::http
