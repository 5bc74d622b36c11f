// One exchange on an HTTP/2 connection: buffers and flow-control windows of both directions.
// Internal to http/. Owned by its H2Session; after its end it stays until the end of the turn, so
// that an observer's frame may still touch it.
#pragma once

#include "base/buffer.h"
#include "base/clock.h"
#include "base/intrusive_list.h"
#include "codec/h2_frame.h"
#include "http/stream.h"

#include <cstdint>
#include <memory>
#include <optional>

namespace postern::http {

class H2Session;

struct H2ReadyTag;     // has something for its observer, who asked for it
struct H2SendTag;      // has something to send, and its own window allows it
struct H2WritableTag;  // was full and has room again

class H2Stream final : public Stream,
                       public base::ListHook<H2ReadyTag>,
                       public base::ListHook<H2SendTag>,
                       public base::ListHook<H2WritableTag> {
 public:
  H2Stream(H2Session& session, std::uint32_t number, std::int64_t send, std::int64_t receive)
      : send_window(send), receive_window(receive), id(number), session_(session) {}

  // ---- Stream ----
  void setObserver(StreamObserver* told) override {
    if (!over) observer = told;
  }
  Flow sendHeaders(const HeaderMap& headers, End end) override;
  Flow sendData(base::Buffer& data, End end) override;
  Flow sendTrailers(const HeaderMap& trailers) override;
  void read() override;
  void reset(ResetReason reason) override;
  std::unique_ptr<net::Transport> takeTransport(base::Buffer&) override { return nullptr; }
  const net::Transport& transport() const override;
  std::size_t bytesHeld() const override { return in.size() + out.size(); }
  int httpVersion() const override { return 2; }

  // The rest is for the session; plain data, because all rules about it live there.
  bool canSendData() const { return send_window > 0 || out.empty(); }

  StreamObserver* observer = nullptr;
  base::Buffer in;   // received, not yet asked for
  base::Buffer out;  // to send; windows or the connection hold it back
  std::unique_ptr<HeaderMap> trailers_in;
  std::unique_ptr<HeaderMap> trailers_out;
  std::optional<std::uint64_t> body_left;  // of the content-length still to come
  std::int64_t send_window;
  std::int64_t receive_window;          // what the peer may still send
  base::MonotonicTime sent_at{};        // when `out` last moved
  std::uint32_t held_header_bytes = 0;  // server: of the request
  std::uint32_t give_back = 0;          // consumed, not yet told by WINDOW_UPDATE
  std::uint32_t id;                     // client: 0 until the request is sent
  unsigned char informational = 0;      // client: answers before the final one
  bool wants_body = false;              // read() was called
  bool head_seen = false;               // client: the final response headers came
  bool head_sent = false;               // final headers of ours were sent
  bool head_request = false;            // HEAD: the answer has no body
  bool bodiless = false;        // server: our answer has no body whatever the producer sends
  bool remote_ended = false;    // END_STREAM came
  bool local_ended = false;     // the producer is done
  bool local_end_sent = false;  // END_STREAM was written
  bool full = false;            // Flow::kFull was returned
  bool over = false;            // no further call to the observer
  bool closed = false;          // no longer in the session's table

 private:
  Flow flow();
  H2Session& session_;
};

}  // namespace postern::http
