// Our HTTP/2 sessions against nghttp2's, both ends led by the input: requests and answers with
// bodies and trailers, resets, settings, windows, pings and goodbyes, at any moment and with the
// bytes between them held back at will. Then everything is finished, and both ends must have seen
// the same messages and the same errors, with windows that agree. nghttp2 must have found nothing
// wrong with what ours sent, and ours nothing with what nghttp2 sent. The first byte chooses the
// sides and how nghttp2 behaves; see Game::step for the rest.
#include "base/check.h"
#include "testing/h2_duel.h"

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <string_view>

namespace {

using namespace postern;  // NOLINT(google-build-using-namespace): a program of its own
using http::ResetReason;
using testing::Exchange;
using testing::OurStream;
using testing::Received;

constexpr int kStepsMax = 200;

class Input {
 public:
  explicit Input(std::string_view bytes) : bytes_(bytes) {}
  bool empty() const { return bytes_.empty(); }
  std::size_t next() {
    if (bytes_.empty()) return 0;
    const auto out = static_cast<unsigned char>(bytes_.front());
    bytes_.remove_prefix(1);
    return out;
  }

 private:
  std::string_view bytes_;
};

class Game : public testing::H2Duel {
 public:
  using H2Duel::H2Duel;
  void run(Input input) {
    for (int i = 0; i < kStepsMax && !input.empty() && !owner_.closed; ++i) {
      const std::size_t what = input.next();
      step(what, input.next());
      collect();
    }
    settle();
    compareWindows();
    finishAll();
    compareWindows();
    for (auto& [id, exchange] : exchanges_) {
      admitShrunkWindow(exchange);
      verify(exchange);
    }
    end();
  }

 private:
  void step(std::size_t what, std::size_t argument);
  void miscellany(std::size_t which, std::size_t argument);
  void finish(Exchange& exchange);
  void finishAll();

  // ---- what must hold ----
  void compareWindows();
  void admitShrunkWindow(Exchange& exchange);
  void verify(const Exchange& exchange);
  void verifyResets(const Exchange& exchange, const Received& theirs);

  bool shrunk_ = false;  // nghttp2's windows were set anew
};

// ---- what the input chooses ----

void Game::step(std::size_t what, std::size_t argument) {
  if (what % 16 == 0) return open(argument);
  if (what % 16 == 13) return void(toOurs(argument * 64));
  if (what % 16 == 14) return void(toTheirs(argument * 64));
  if (what % 16 == 15) return miscellany(what / 16, argument);
  if (exchanges_.empty()) return;
  Exchange& exchange =
      std::next(exchanges_.begin(), static_cast<std::ptrdiff_t>(what / 16 % exchanges_.size()))
          ->second;
  switch (what % 16) {
    case 1:
    case 2:
      return ourBody(exchange, argument * 97);
    case 3:
    case 4:
      return theirBody(exchange, argument * 97);
    case 5:
      return ourHead(exchange, argument);
    case 6:
      return theirHead(exchange, argument);
    case 7:
      return ourEnd(exchange, (argument & 1) != 0);
    case 8:
      return theirEnd(exchange, (argument & 1) != 0);
    case 9:
      return argument % 4 == 0 ? ourReset(exchange, argument / 4) : turn();
    case 10:
      return argument % 4 == 0 ? theirReset(exchange, argument / 4) : turn();
    case 11:
      ourRead(exchange);
      return turn();
    default:
      if (theirs_.isOpen(exchange.id)) theirs_.consume(exchange.id, argument * 97);
      return;
  }
}

void Game::miscellany(std::size_t which, std::size_t argument) {
  switch (which) {
    case 0:
    case 1:
      shrunk_ = true;
      return theirs_.setting(NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE,
                             static_cast<std::uint32_t>(argument * 600));
    case 2:
      return theirs_.setting(NGHTTP2_SETTINGS_HEADER_TABLE_SIZE,
                             static_cast<std::uint32_t>(argument * 32));
    case 3:
      limited_ = true;
      return theirs_.setting(NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS,
                             static_cast<std::uint32_t>(argument % 8 + 1));
    case 4:
      return theirs_.ping();
    case 5:
    case 6:
      if (++widened_ > 5) return;  // more of them is a flood
      if (which == 5) return theirs_.widen(0, static_cast<std::int32_t>(argument * 100 + 1));
      if (exchanges_.empty() || !theirs_.isOpen(exchanges_.begin()->first)) return;
      return theirs_.widen(exchanges_.begin()->first, static_cast<std::int32_t>(argument + 1));
    case 7:
    case 8:
      wire_.room = which == 7 ? argument * 50 : SIZE_MAX;
      if (wire_.observer != nullptr) wire_.observer->onWritable();
      return turn();
    case 9:
      if (argument % 4 != 0) return;
      leaving_ = true;
      return client_ ? out_->drain() : in_->drain();
    case 10:
      if (argument % 4 != 0) return;
      leaving_ = true;
      return theirs_.goAway();
    default:
      return turn();
  }
}

void Game::finish(Exchange& exchange) {
  client_ ? ourEnd(exchange, false) : theirEnd(exchange, false);
  if (OurStream* ours = exchange.ours; ours != nullptr && ours->stream != nullptr) {
    if (!client_) ourHead(exchange, 0);
    if (!client_ && ours->got.ended) ourEnd(exchange, false);
    ourRead(exchange);
  }
  theirs_.consume(exchange.id, SIZE_MAX);  // of a stream that is over, too: the connection's window
  if (!theirs_.isOpen(exchange.id)) return;
  if (client_) theirHead(exchange, 0);
  if (client_ && theirs_.received()[exchange.id].ended) theirEnd(exchange, false);
}

/// Requests to their ends, then answers, everything read.
void Game::finishAll() {
  if (!owner_.closed) theirs_.setting(NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 1 << 20);
  for (int i = 0; i < 60; ++i) {
    bool open = false;
    for (auto& [id, exchange] : exchanges_) {
      finish(exchange);
      open |= theirs_.isOpen(id) || (exchange.ours != nullptr && exchange.ours->stream != nullptr);
    }
    settle();
    if (!open) return;
  }
}

// ---- what must hold ----

/// With nothing on the way, what one end may send is what the other lets it send.
void Game::compareWindows() {
  if (owner_.closed || !theirs_.listens()) return;
  POSTERN_CHECK(session_->sendWindow() == theirs_.receiveWindow());
  POSTERN_CHECK(session_->receiveWindow() == theirs_.sendWindow());
  for (const auto& [id, exchange] : exchanges_) {
    if (exchange.ours == nullptr || exchange.ours->stream == nullptr || !theirs_.isOpen(id))
      continue;
    const http::H2Stream& stream = *exchange.ours->stream;
    const auto atLeastNone = [](std::int64_t window) { return std::max<std::int64_t>(0, window); };
    if (!stream.local_end_sent)
      POSTERN_CHECK(atLeastNone(stream.send_window) == theirs_.receiveWindow(id));
    if (!stream.remote_ended)
      POSTERN_CHECK(atLeastNone(stream.receive_window) == theirs_.sendWindow(id));
  }
}

/// nghttp2 resets a stream by itself when it has made its own windows smaller than what was on the
/// way (a sender cannot know, RFC 9113 6.9.3).
void Game::admitShrunkWindow(Exchange& exchange) {
  const auto sent = theirs_.resetsSent().find(exchange.id);
  const bool by_itself = shrunk_ && !exchange.by_theirs.reset &&
                         sent != theirs_.resetsSent().end() &&
                         sent->second == NGHTTP2_FLOW_CONTROL_ERROR;
  if (by_itself) exchange.by_theirs.reset = sent->second;
}

void Game::verify(const Exchange& exchange) {
  const Received none;
  const Received& theirs = theirs_.received()[exchange.id];
  const Received& ours = exchange.ours == nullptr ? none : exchange.ours->got;
  verifyResets(exchange, theirs);
  const bool refused =
      (exchange.ours != nullptr && exchange.ours->reset) || (!client_ && exchange.ours == nullptr);
  const bool disturbed = exchange.by_ours.reset || exchange.by_theirs.reset || refused;
  const bool request_whole = !disturbed && !exchange.early;
  sameMessage(exchange.by_ours, theirs, client_ ? request_whole : !disturbed);
  sameMessage(exchange.by_theirs, ours, client_ ? !disturbed : request_whole);
}

/// Each reset that one end saw has its cause at the other.
void Game::verifyResets(const Exchange& exchange, const Received& theirs) {
  const bool may_be_refused = leaving_ || limited_;
  if (exchange.ours == nullptr) POSTERN_CHECK(may_be_refused || exchange.by_theirs.reset);
  if (exchange.ours != nullptr && exchange.ours->reset) {
    const bool by_them = exchange.by_theirs.reset.has_value();
    const bool refusal = by_them ? *exchange.by_theirs.reset == NGHTTP2_REFUSED_STREAM : true;
    POSTERN_CHECK(by_them || may_be_refused);
    POSTERN_CHECK(*exchange.ours->reset ==
                  (refusal ? ResetReason::kRefused : ResetReason::kCancel));
  }
  if (!theirs.reset) return;
  if (exchange.by_ours.reset) {
    POSTERN_CHECK(theirs.reset == exchange.by_ours.reset);
  } else if (exchange.ours == nullptr) {
    POSTERN_CHECK(limited_ && *theirs.reset == NGHTTP2_REFUSED_STREAM);
  } else {
    // The rest of a request that was answered is not wanted (RFC 9113 8.1).
    POSTERN_CHECK(exchange.early && *theirs.reset == (client_ ? NGHTTP2_CANCEL : NGHTTP2_NO_ERROR));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 3) return 0;
  Game game(data[0]);
  game.run(Input({reinterpret_cast<const char*>(data) + 1, size - 1}));
  return 0;
}
