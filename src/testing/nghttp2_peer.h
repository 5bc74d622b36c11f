// The other end of an HTTP/2 connection, played by nghttp2: it sends what it is told and keeps what
// it received, and where it sees the protocol broken it says so. Bytes in, bytes out, no I/O. For
// the comparison of our sessions with that library (http/h2_session_nghttp2_fuzz.cc); only targets
// that link nghttp2 may include it.
#pragma once

#include "base/buffer.h"
#include "base/check.h"

#include <nghttp2/nghttp2.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace postern::testing {

using Fields = std::vector<std::pair<std::string, std::string>>;

/// What one end received of one exchange.
struct Received {
  std::vector<Fields> interim;
  Fields head;
  std::string body;
  Fields trailers;
  bool ended = false;
  std::optional<std::uint32_t> reset;  // by the peer, with this code
};

class Nghttp2Peer {
 public:
  enum class Role : bool { kClient, kServer };
  /// kByHand: windows open again only by consume().
  enum class Windows : bool { kAuto, kByHand };

  Nghttp2Peer(Role role, Windows windows, std::size_t padding)
      : windows_(windows), padding_(padding) {
    nghttp2_session_callbacks* calls = nullptr;
    nghttp2_option* options = nullptr;
    POSTERN_CHECK(nghttp2_session_callbacks_new(&calls) == 0 && nghttp2_option_new(&options) == 0);
    setCallbacks(calls);
    nghttp2_option_set_no_auto_window_update(options, windows == Windows::kByHand ? 1 : 0);
    const int made = role == Role::kClient
                         ? nghttp2_session_client_new2(&session_, calls, this, options)
                         : nghttp2_session_server_new2(&session_, calls, this, options);
    POSTERN_CHECK(made == 0);
    nghttp2_session_callbacks_del(calls);
    nghttp2_option_del(options);
  }
  ~Nghttp2Peer() { nghttp2_session_del(session_); }
  Nghttp2Peer(const Nghttp2Peer&) = delete;
  Nghttp2Peer& operator=(const Nghttp2Peer&) = delete;

  void receive(std::string_view bytes) {
    const auto taken = nghttp2_session_mem_recv(
        session_, reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
    if (taken < 0) violation_ = nghttp2_strerror(static_cast<int>(taken));
  }
  /// Appends what is to be sent now.
  void takeOutput(std::string& out) {
    for (;;) {
      const std::uint8_t* bytes = nullptr;
      const auto count = nghttp2_session_mem_send(session_, &bytes);
      POSTERN_CHECK(count >= 0);
      if (count == 0) return;
      out.append(reinterpret_cast<const char*>(bytes), static_cast<std::size_t>(count));
    }
  }

  bool mayRequest() { return nghttp2_session_check_request_allowed(session_) != 0; }
  std::int32_t request(const Fields& head, bool end) {
    auto list = listOf(head);
    nghttp2_data_provider provider = this->provider();
    const std::int32_t id = nghttp2_submit_request(session_, nullptr, list.data(), list.size(),
                                                   end ? nullptr : &provider, nullptr);
    POSTERN_CHECK(id > 0);
    received_[id];
    return id;
  }
  void interim(std::int32_t id, const Fields& head) {
    auto list = listOf(head);
    nghttp2_submit_headers(session_, NGHTTP2_FLAG_NONE, id, nullptr, list.data(), list.size(),
                           nullptr);
  }
  void respond(std::int32_t id, const Fields& head, bool end) {
    auto list = listOf(head);
    nghttp2_data_provider provider = this->provider();
    nghttp2_submit_response(session_, id, list.data(), list.size(), end ? nullptr : &provider);
  }
  void send(std::int32_t id, std::string_view bytes) {
    outgoing_[id].bytes += bytes;
    nghttp2_session_resume_data(session_, id);
  }
  void finish(std::int32_t id, const Fields& trailers) {
    outgoing_[id].trailers = trailers;
    outgoing_[id].ended = true;
    nghttp2_session_resume_data(session_, id);
  }
  void reset(std::int32_t id, std::uint32_t code) {
    nghttp2_submit_rst_stream(session_, NGHTTP2_FLAG_NONE, id, code);
  }
  void setting(std::int32_t id, std::uint32_t value) {
    const nghttp2_settings_entry entry{id, value};
    POSTERN_CHECK(nghttp2_submit_settings(session_, NGHTTP2_FLAG_NONE, &entry, 1) == 0);
  }
  void ping() { nghttp2_submit_ping(session_, NGHTTP2_FLAG_NONE, nullptr); }
  void widen(std::int32_t id, std::int32_t by) {
    nghttp2_submit_window_update(session_, NGHTTP2_FLAG_NONE, id, by);
  }
  void goAway() {
    nghttp2_submit_goaway(session_, NGHTTP2_FLAG_NONE,
                          nghttp2_session_get_last_proc_stream_id(session_), NGHTTP2_NO_ERROR,
                          nullptr, 0);
  }
  /// The application has taken at most so many bytes of a stream's body.
  void consume(std::int32_t id, std::size_t most) {
    const std::size_t count = std::min(most, held_[id]);
    held_[id] -= count;
    if (windows_ == Windows::kByHand) nghttp2_session_consume(session_, id, count);
  }

  /// By stream number; a client has those that it asked for.
  std::map<std::int32_t, Received>& received() { return received_; }
  /// By stream number: with which code it was reset from here.
  const std::map<std::int32_t, std::uint32_t>& resetsSent() const { return resets_sent_; }
  /// Empty: none.
  const std::string& violation() const { return violation_; }
  std::optional<std::uint32_t> goAwayReceived() const { return goaway_; }
  /// In either direction.
  bool isOpen(std::int32_t id) {
    nghttp2_stream* stream = nghttp2_session_find_stream(session_, id);
    if (stream == nullptr) return false;
    const auto state = nghttp2_stream_get_state(stream);
    return state != NGHTTP2_STREAM_STATE_IDLE && state != NGHTTP2_STREAM_STATE_CLOSED;
  }
  /// False: it has left, and takes nothing more.
  bool listens() { return nghttp2_session_want_read(session_) != 0; }
  /// What may still come and be sent, of the connection and of a stream.
  std::int64_t receiveWindow() { return nghttp2_session_get_local_window_size(session_); }
  std::int64_t sendWindow() { return nghttp2_session_get_remote_window_size(session_); }
  std::int64_t receiveWindow(std::int32_t id) {
    return nghttp2_session_get_stream_local_window_size(session_, id);
  }
  std::int64_t sendWindow(std::int32_t id) {
    return nghttp2_session_get_stream_remote_window_size(session_, id);
  }

 private:
  struct Outgoing {
    std::string bytes;
    Fields trailers;
    bool ended = false;
  };
  static Nghttp2Peer& self(void* user) { return *static_cast<Nghttp2Peer*>(user); }
  static std::vector<nghttp2_nv> listOf(const Fields& fields) {
    const auto bytes = [](const std::string& text) {
      return reinterpret_cast<std::uint8_t*>(const_cast<char*>(text.data()));
    };
    std::vector<nghttp2_nv> out;
    for (const auto& [name, value] : fields)
      out.push_back({bytes(name), bytes(value), name.size(), value.size(), NGHTTP2_NV_FLAG_NONE});
    return out;
  }
  static nghttp2_data_provider provider() {
    nghttp2_data_provider out{};
    out.read_callback = [](nghttp2_session*, std::int32_t id, std::uint8_t* to, std::size_t room,
                           std::uint32_t* flags, nghttp2_data_source*, void* user) -> ssize_t {
      return self(user).readBody(id, to, room, *flags);
    };
    return out;
  }
  ssize_t readBody(std::int32_t id, std::uint8_t* to, std::size_t room, std::uint32_t& flags) {
    Outgoing& out = outgoing_[id];
    if (out.bytes.empty() && !out.ended) return NGHTTP2_ERR_DEFERRED;
    const std::size_t count = std::min(room, out.bytes.size());
    std::memcpy(to, out.bytes.data(), count);
    out.bytes.erase(0, count);
    if (!out.bytes.empty() || !out.ended) return static_cast<ssize_t>(count);
    flags |= NGHTTP2_DATA_FLAG_EOF;
    if (out.trailers.empty()) return static_cast<ssize_t>(count);
    flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
    auto list = listOf(out.trailers);
    POSTERN_CHECK(nghttp2_submit_trailer(session_, id, list.data(), list.size()) == 0);
    return static_cast<ssize_t>(count);
  }
  static void setCallbacks(nghttp2_session_callbacks* calls) {
    nghttp2_session_callbacks_set_on_header_callback(
        calls, [](nghttp2_session*, const nghttp2_frame*, const std::uint8_t* name, std::size_t n,
                  const std::uint8_t* value, std::size_t v, std::uint8_t, void* user) {
          self(user).block_.emplace_back(std::string(reinterpret_cast<const char*>(name), n),
                                         std::string(reinterpret_cast<const char*>(value), v));
          return 0;
        });
    nghttp2_session_callbacks_set_on_begin_headers_callback(
        calls, [](nghttp2_session*, const nghttp2_frame*, void* user) {
          self(user).block_.clear();  // of a stream that was refused meanwhile
          return 0;
        });
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(
        calls, [](nghttp2_session*, std::uint8_t, std::int32_t id, const std::uint8_t* bytes,
                  std::size_t size, void* user) {
          self(user).received_[id].body.append(reinterpret_cast<const char*>(bytes), size);
          self(user).held_[id] += size;
          return 0;
        });
    nghttp2_session_callbacks_set_on_frame_recv_callback(
        calls, [](nghttp2_session*, const nghttp2_frame* frame, void* user) {
          self(user).onFrame(*frame);
          return 0;
        });
    nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(
        calls, [](nghttp2_session*, const nghttp2_frame*, int code, void* user) {
          // Refused: more streams than a setting allows that was on its way.
          if (code != NGHTTP2_ERR_REFUSED_STREAM) self(user).violation_ = nghttp2_strerror(code);
          return 0;
        });
    nghttp2_session_callbacks_set_on_frame_send_callback(
        calls, [](nghttp2_session*, const nghttp2_frame* frame, void* user) {
          if (frame->hd.type == NGHTTP2_RST_STREAM)
            self(user).resets_sent_[frame->hd.stream_id] = frame->rst_stream.error_code;
          return 0;
        });
    nghttp2_session_callbacks_set_select_padding_callback(
        calls, [](nghttp2_session*, const nghttp2_frame* frame, std::size_t most, void* user) {
          return static_cast<ssize_t>(std::min(most, frame->hd.length + self(user).padding_));
        });
  }
  void onFrame(const nghttp2_frame& frame) {
    if (frame.hd.type == NGHTTP2_GOAWAY) goaway_ = frame.goaway.error_code;
    if (frame.hd.stream_id == 0) return;
    Received& into = received_[frame.hd.stream_id];
    if (frame.hd.type == NGHTTP2_RST_STREAM) into.reset = frame.rst_stream.error_code;
    if (frame.hd.type == NGHTTP2_HEADERS) {
      Fields block = std::exchange(block_, {});
      const bool interim =
          !block.empty() && block[0].first == ":status" && block[0].second[0] == '1';
      if (interim) {
        into.interim.push_back(std::move(block));
      } else {
        (into.head.empty() ? into.head : into.trailers) = std::move(block);
      }
    }
    const bool carries = frame.hd.type == NGHTTP2_HEADERS || frame.hd.type == NGHTTP2_DATA;
    if (carries && (frame.hd.flags & NGHTTP2_FLAG_END_STREAM) != 0) into.ended = true;
  }

  const Windows windows_;
  const std::size_t padding_;
  nghttp2_session* session_ = nullptr;
  std::map<std::int32_t, Received> received_;
  std::map<std::int32_t, Outgoing> outgoing_;
  std::map<std::int32_t, std::size_t> held_;  // bytes of bodies not yet consumed
  std::map<std::int32_t, std::uint32_t> resets_sent_;
  Fields block_;
  std::string violation_;
  std::optional<std::uint32_t> goaway_;
};

}  // namespace postern::testing
