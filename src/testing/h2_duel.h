// An HTTP/2 session of ours and one of nghttp2's, joined in memory, and all that either end can be
// told to do; what makes no sense at the moment is not done. See http/h2_session_nghttp2_fuzz.cc,
// which leads it and compares. One loop; header only, for targets that link nghttp2.
#pragma once

#include "http/h2_client.h"
#include "http/h2_server.h"
#include "http/h2_session.h"
#include "testing/h2_exchange.h"
#include "testing/h2_script.h"
#include "testing/nghttp2_peer.h"

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <iterator>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

namespace postern::testing {

using codec::H2Error;

class H2Duel {
 public:
  static constexpr std::size_t kExchangesMax = 20;

  explicit H2Duel(std::size_t kind)
      : client_((kind & 1) != 0),
        theirs_(client_ ? Nghttp2Peer::Role::kServer : Nghttp2Peer::Role::kClient,
                (kind & 2) != 0 ? Nghttp2Peer::Windows::kByHand : Nghttp2Peer::Windows::kAuto,
                (kind & 4) != 0 ? 7 : 0) {
    http::H2Limits limits;
    if ((kind & 8) != 0) limits.stream_window_bytes = limits.connection_window_bytes = 65535;
    if ((kind & 16) != 0) limits.header_table_bytes = 64;
    if ((kind & 32) != 0) limits.concurrent_streams_max = 3;
    limited_ = (kind & 32) != 0;
    auto transport = std::make_unique<MemoryTransport>(wire_);
    if (client_) {
      out_ = http::startH2Client(loop_, std::move(transport), {.h2 = limits}, owner_);
      session_ = dynamic_cast<http::H2Session*>(out_);
      wire_.observer->onConnected();
    } else {
      in_ = http::startH2Server(loop_, std::move(transport), {}, {.h2 = limits}, owner_);
      session_ = dynamic_cast<http::H2Session*>(in_);
    }
    theirs_.setting(NGHTTP2_SETTINGS_ENABLE_PUSH, 0);
  }

  // ---- actions ----
  void open(std::size_t kind);
  void ourHead(Exchange& exchange, std::size_t kind);
  void theirHead(Exchange& exchange, std::size_t kind);
  void ourBody(Exchange& exchange, std::size_t bytes);
  void theirBody(Exchange& exchange, std::size_t bytes);
  static void ourRead(Exchange& exchange) {
    OurStream* ours = exchange.ours;
    if (ours != nullptr && ours->stream != nullptr && !ours->got.ended) ours->stream->read();
  }
  void ourEnd(Exchange& exchange, bool trailers);
  void theirEnd(Exchange& exchange, bool trailers);
  void ourReset(Exchange& exchange, std::size_t kind);
  void theirReset(Exchange& exchange, std::size_t kind);

  // ---- the wire ----
  bool toOurs(std::size_t most);
  bool toTheirs(std::size_t most);
  void turn();
  void collect();
  void settle();
  void end();

 protected:
  bool oursMaySend(const Exchange& exchange) const {
    return exchange.ours != nullptr && exchange.ours->stream != nullptr &&
           !exchange.by_ours.ended && !exchange.by_ours.head.empty();
  }
  bool theirsMaySend(const Exchange& exchange) {
    return theirs_.isOpen(exchange.id) && !exchange.by_theirs.ended && !exchange.by_theirs.reset &&
           !exchange.by_theirs.head.empty();
  }

  const bool client_;  // ours
  Wire wire_;
  event::Loop loop_;
  OurEnd owner_;
  Nghttp2Peer theirs_;
  std::string to_ours_;
  http::H2Session* session_ = nullptr;
  http::ClientConnection* out_ = nullptr;
  http::ServerConnection* in_ = nullptr;
  std::map<std::int32_t, Exchange> exchanges_;
  bool limited_ = false;
  bool leaving_ = false;  // somebody said goodbye
  int widened_ = 0;
};

inline void H2Duel::open(std::size_t kind) {
  if (exchanges_.size() >= kExchangesMax) return;
  Exchange made;
  Sent& sent = client_ ? made.by_ours : made.by_theirs;
  const bool end = kind % 4 == 0;
  if (client_) {
    if (!out_->canOpen()) return;
    sent.head = requestHead(kind, made, sent);
    made.ours = &owner_.add(true);
    made.ours->stream = static_cast<http::H2Stream*>(&out_->open(*made.ours));
    made.ours->stream->sendHeaders(mapOf(sent.head), end ? End::kYes : End::kNo);
    made.id = static_cast<std::int32_t>(made.ours->stream->id);
  } else {
    if (!theirs_.mayRequest()) return;
    sent.head = requestHead(kind, made, sent);
    made.id = theirs_.request(sent.head, end);
  }
  sent.ended = end;
  exchanges_.emplace(made.id, std::move(made));
}

inline void H2Duel::ourHead(Exchange& exchange, std::size_t kind) {
  if (client_ || exchange.ours == nullptr || exchange.ours->stream == nullptr) return;
  Sent& sent = exchange.by_ours;
  if (!sent.head.empty()) return;
  if (kind % 8 == 5) {
    sent.interim.push_back(kInterim);
    return void(exchange.ours->stream->sendHeaders(mapOf(kInterim), End::kNo));
  }
  sent.head = answerHead(kind, exchange, sent);
  if (!exchange.bodiless)
    return void(exchange.ours->stream->sendHeaders(mapOf(sent.head), End::kNo));
  exchange.early = !exchange.ours->got.ended;
  sent.ended = true;
  std::exchange(exchange.ours->stream, nullptr)->sendHeaders(mapOf(sent.head), End::kYes);
}

inline void H2Duel::theirHead(Exchange& exchange, std::size_t kind) {
  Sent& sent = exchange.by_theirs;
  const Received& got = theirs_.received()[exchange.id];
  if (!client_ || got.head.empty() || !theirs_.isOpen(exchange.id) || sent.reset ||
      !sent.head.empty())
    return;
  if (kind % 8 == 5) {
    sent.interim.push_back(kInterim);
    return theirs_.interim(exchange.id, kInterim);
  }
  sent.head = answerHead(kind, exchange, sent);
  sent.ended = exchange.bodiless;
  exchange.early = sent.ended && !got.ended;
  theirs_.respond(exchange.id, sent.head, exchange.bodiless);
}

inline void H2Duel::ourBody(Exchange& exchange, std::size_t bytes) {
  if (!oursMaySend(exchange) || exchange.ours->full) return;
  base::Buffer piece(bodyOf(exchange.by_ours, bytes));
  exchange.ours->full = exchange.ours->stream->sendData(piece, End::kNo) == http::Flow::kFull;
}

inline void H2Duel::theirBody(Exchange& exchange, std::size_t bytes) {
  if (theirsMaySend(exchange)) theirs_.send(exchange.id, bodyOf(exchange.by_theirs, bytes));
}

inline void H2Duel::ourEnd(Exchange& exchange, bool trailers) {
  if (!oursMaySend(exchange) || exchange.ours->full) return;
  Sent& sent = exchange.by_ours;
  OurStream& ours = *exchange.ours;
  base::Buffer rest(bodyOf(sent, sent.left.value_or(0)));
  http::H2Stream& stream = *ours.stream;
  sent.ended = true;
  if (!client_) {
    exchange.early = !ours.got.ended;
    ours.stream = nullptr;
  }
  if (!trailers || exchange.connect) return void(stream.sendData(rest, End::kYes));
  sent.trailers = kTrailers;
  stream.sendData(rest, End::kNo);
  stream.sendTrailers(mapOf(kTrailers));
}

inline void H2Duel::theirEnd(Exchange& exchange, bool trailers) {
  if (!theirsMaySend(exchange)) return;
  Sent& sent = exchange.by_theirs;
  theirs_.send(exchange.id, bodyOf(sent, sent.left.value_or(0)));
  if (trailers && !exchange.connect) sent.trailers = kTrailers;
  sent.ended = true;
  if (client_) exchange.early = !theirs_.received()[exchange.id].ended;
  theirs_.finish(exchange.id, sent.trailers);
}

inline void H2Duel::ourReset(Exchange& exchange, std::size_t kind) {
  constexpr std::pair<ResetReason, H2Error> kResets[] = {
      {ResetReason::kCancel, H2Error::kCancel},
      {ResetReason::kRefused, H2Error::kRefusedStream},
      {ResetReason::kProtocol, H2Error::kProtocol},
      {ResetReason::kOverflow, H2Error::kEnhanceYourCalm},
      {ResetReason::kTimeout, H2Error::kCancel}};
  if (exchange.ours == nullptr || exchange.ours->stream == nullptr) return;
  const auto& [reason, code] = kResets[kind % std::size(kResets)];
  exchange.by_ours.reset = static_cast<std::uint32_t>(code);
  std::exchange(exchange.ours->stream, nullptr)->reset(reason);
}

inline void H2Duel::theirReset(Exchange& exchange, std::size_t kind) {
  constexpr H2Error kCodes[] = {H2Error::kNone, H2Error::kProtocol, H2Error::kInternal,
                                H2Error::kRefusedStream, H2Error::kCancel};
  if (!theirs_.isOpen(exchange.id) || exchange.by_theirs.reset) return;
  exchange.by_theirs.reset = static_cast<std::uint32_t>(kCodes[kind % std::size(kCodes)]);
  theirs_.reset(exchange.id, *exchange.by_theirs.reset);
}

// ---- the wire ----

inline void H2Duel::turn() {
  loop_.runOnce();
  wire_.answerEnd();
  collect();
}

/// New streams of ours, and what nghttp2 has to say.
inline void H2Duel::collect() {
  for (OurStream* each : std::exchange(owner_.fresh, {})) {
    const auto at = exchanges_.find(each->id);
    POSTERN_CHECK(at != exchanges_.end() && at->second.ours == nullptr);
    at->second.ours = each;
  }
  theirs_.takeOutput(to_ours_);
  if (!theirs_.violation().empty()) std::fprintf(stderr, "%s\n", theirs_.violation().c_str());
  POSTERN_CHECK(theirs_.violation().empty());
}

inline bool H2Duel::toOurs(std::size_t most) {
  const std::size_t count = std::min(most, to_ours_.size());
  wire_.to_us.append(std::string_view(to_ours_).substr(0, count));
  to_ours_.erase(0, count);
  if (wire_.observer != nullptr && !wire_.to_us.empty()) wire_.observer->onReadable();
  turn();
  return count > 0;
}

inline bool H2Duel::toTheirs(std::size_t most) {
  const std::size_t count = std::min(most, wire_.written.size());
  theirs_.receive(std::string_view(wire_.written).substr(0, count));
  wire_.written.erase(0, count);
  collect();
  return count > 0;
}

/// Until nothing moves any more.
inline void H2Duel::settle() {
  wire_.room = SIZE_MAX;
  for (int still = 0, i = 0; still < 3; ++i) {
    POSTERN_CHECK(i < 5000);
    if (wire_.observer != nullptr) wire_.observer->onWritable();
    turn();
    const bool there = toTheirs(SIZE_MAX);
    const bool back = toOurs(SIZE_MAX);
    still = there || back ? 0 : still + 1;
  }
}

inline void H2Duel::end() {
  if (!owner_.closed) client_ ? out_->close() : in_->close();
  turn();
  POSTERN_CHECK(owner_.closed);
  toTheirs(SIZE_MAX);
  POSTERN_CHECK(theirs_.goAwayReceived().value_or(0) == 0);
}

}  // namespace postern::testing
