// Exchanges between an HTTP/2 session of ours and nghttp2's: what each end was told to send, what
// our end received, and when the two agree. See http/h2_session_nghttp2_fuzz.cc.
#pragma once

#include "base/check.h"
#include "http/client.h"
#include "http/h2_stream.h"
#include "http/server.h"
#include "testing/nghttp2_peer.h"

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace postern::testing {

using http::End;
using http::HeaderMap;
using http::ResetReason;

inline HeaderMap mapOf(const Fields& fields) {
  HeaderMap out;
  for (const auto& [name, value] : fields) out.add(name, value);
  return out;
}
inline Fields fieldsOf(const HeaderMap& map) {
  Fields out;
  map.each([&](std::string_view n, std::string_view v) { out.emplace_back(n, v); });
  return out;
}

/// What one end was told to send in one exchange.
struct Sent {
  std::vector<Fields> interim;
  Fields head;
  std::string body;
  Fields trailers;
  std::optional<std::size_t> left;  // of a body whose length was announced
  bool ended = false;
  std::optional<std::uint32_t> reset;
};

/// Our end of one exchange.
struct OurStream final : http::StreamObserver {
  http::H2Stream* stream = nullptr;  // null: not ours to touch any more
  std::int32_t id = 0;               // server
  bool client = false;
  bool full = false;
  Received got;
  std::optional<ResetReason> reset;

  void onHeaders(HeaderMap headers, End end) override {
    POSTERN_CHECK(got.head.empty() && !over());
    got.head = fieldsOf(headers);
    ended(end);
  }
  void onInformational(HeaderMap headers) override {
    POSTERN_CHECK(got.head.empty() && !over());
    got.interim.push_back(fieldsOf(headers));
  }
  void onData(base::Buffer& data, End end) override {
    POSTERN_CHECK(!got.head.empty() && !over());
    got.body += data.toString();
    data.clear();
    ended(end);
  }
  void onTrailers(HeaderMap trailers) override {
    POSTERN_CHECK(!got.head.empty() && !over());
    got.trailers = fieldsOf(trailers);
    ended(End::kYes);
  }
  void onWritable() override { full = false; }
  void onReset(ResetReason reason) override {
    POSTERN_CHECK(!reset && !(client && got.ended));
    reset = reason;
    stream = nullptr;
  }
  bool over() const { return got.ended || reset; }
  void ended(End end) {
    got.ended = end == End::kYes;
    if (got.ended && client) stream = nullptr;
  }
};

struct Exchange {
  std::int32_t id = 0;
  OurStream* ours = nullptr;  // null: ours never told of it
  Sent by_ours;
  Sent by_theirs;
  bool head = false;     // HEAD: the answer has no body
  bool connect = false;  // neither trailers nor a length
  bool bodiless = false;
  bool early = false;  // the answer was finished before the request was read
};

/// Both ends' owner of our streams.
struct OurEnd final : http::ServerObserver, http::ClientObserver {
  std::vector<std::unique_ptr<OurStream>> streams;
  std::vector<OurStream*> fresh;  // server: not yet in an exchange
  bool closed = false;
  OurStream& add(bool client) {
    streams.push_back(std::make_unique<OurStream>());
    streams.back()->client = client;
    return *streams.back();
  }
  http::StreamObserver* onStream(http::ServerConnection&, http::Stream& stream) override {
    fresh.push_back(&add(false));
    fresh.back()->stream = static_cast<http::H2Stream*>(&stream);
    fresh.back()->id = static_cast<std::int32_t>(fresh.back()->stream->id);
    return fresh.back();
  }
  http::StreamObserver* onInvalidRequest(http::ServerConnection&, http::Stream&) override {
    base::checkFailed(__FILE__, __LINE__, "ours calls a request of nghttp2 malformed");
  }
  void onClosed(http::ServerConnection&) override { closed = true; }
  void onConnected(http::ClientConnection&) override {}
  void onAvailable(http::ClientConnection&) override {}
  void onDraining(http::ClientConnection&) override {}
  void onClosed(http::ClientConnection&, base::Error) override { closed = true; }
  void onH2Event(http::H2Event event) override {
    POSTERN_CHECK(event != http::H2Event::kProtocolError &&
                  event != http::H2Event::kMessagingError);
  }
};

/// A request's head, and perhaps a length that its body will have.
inline Fields requestHead(std::size_t kind, Exchange& exchange, Sent& sent) {
  exchange.connect = kind % 8 == 7;
  if (exchange.connect) return {{":method", "CONNECT"}, {":authority", "host:1"}};
  constexpr const char* kMethods[] = {"GET", "POST", "POST", "HEAD"};
  exchange.head = kind % 4 == 3;
  Fields head{{":method", kMethods[kind % 4]},
              {":scheme", "http"},
              {":path", "/a"},
              {":authority", "host"}};
  if (kind % 4 == 2) {
    sent.left = kind / 4 * 37;
    head.emplace_back("content-length", std::to_string(*sent.left));
  }
  if ((kind & 8) != 0) {
    head.emplace_back("cookie", "a=1");
    head.emplace_back("cookie", "b=2");
  }
  if ((kind & 16) != 0) head.emplace_back("long", std::string(20'000, 'x'));
  if ((kind & 32) != 0) head.emplace_back("te", "trailers");
  head.emplace_back("number", std::to_string(kind));
  return head;
}

inline Fields answerHead(std::size_t kind, Exchange& exchange, Sent& sent) {
  constexpr const char* kStatuses[] = {"200", "404", "204", "304"};
  if (exchange.connect) return {{":status", "200"}};
  exchange.bodiless = exchange.head || kind % 4 >= 2;
  Fields head{{":status", kStatuses[kind % 4]}, {"number", std::to_string(kind)}};
  if ((kind & 8) != 0 && kind % 4 < 2) {
    if (!exchange.bodiless) sent.left = kind / 4 * 41;
    head.emplace_back("content-length", std::to_string(kind / 4 * 41));
  }
  return head;
}

inline const Fields kInterim{{":status", "103"}, {"link", "x"}};
inline const Fields kTrailers{{"checksum", "7"}, {"t", "v"}};

/// The next bytes of a body; they tell their place in it.
inline std::string bodyOf(Sent& sent, std::size_t bytes) {
  if (sent.left) bytes = std::min(bytes, *sent.left);
  std::string out;
  for (std::size_t i = 0; i < bytes; ++i)
    out += static_cast<char>('a' + (sent.body.size() + i) % 23);
  if (sent.left) *sent.left -= bytes;
  sent.body += out;
  return out;
}

/// Cookie crumbs may be joined on the way (RFC 9113 8.2.3).
inline Fields withoutCrumbs(const Fields& fields) {
  Fields out;
  std::string cookie;
  for (const auto& [name, value] : fields) {
    if (name == "cookie") {
      cookie += (cookie.empty() ? "" : "; ") + value;
    } else {
      out.emplace_back(name, value);
    }
  }
  if (!cookie.empty()) out.emplace_back("cookie", cookie);
  return out;
}

inline void sameMessage(const Sent& sent, const Received& got, bool whole) {
  POSTERN_CHECK(got.head.empty() || withoutCrumbs(got.head) == withoutCrumbs(sent.head));
  POSTERN_CHECK(got.interim.size() <= sent.interim.size() &&
                std::equal(got.interim.begin(), got.interim.end(), sent.interim.begin()));
  POSTERN_CHECK(sent.body.starts_with(got.body));
  POSTERN_CHECK(got.trailers.empty() || got.trailers == sent.trailers);
  POSTERN_CHECK(got.ended || !whole);
  POSTERN_CHECK(!got.ended || (sent.ended && got.body == sent.body &&
                               got.trailers == sent.trailers && got.interim == sent.interim));
}

}  // namespace postern::testing
