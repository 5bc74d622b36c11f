// One gRPC call over a stream of an HTTP/2 connection, either side: messages, back-pressure, the
// status at the end. Internal to http/. Shared by the user's handle (GrpcHandle) and, while the
// stream lives, by itself; a handle that is gone hears nothing more.
#pragma once

#include "codec/grpc_frame.h"
#include "event/loop.h"
#include "http/grpc.h"

#include <memory>
#include <optional>
#include <string>

namespace postern::http {

class GrpcCall : public StreamObserver {
 public:
  GrpcCall(event::Loop& loop, std::size_t message_bytes_max)
      : reader_(message_bytes_max), loop_(loop) {}
  GrpcCall(const GrpcCall&) = delete;
  GrpcCall& operator=(const GrpcCall&) = delete;

  /// The share that keeps the call while its stream may call it.
  void own(std::shared_ptr<GrpcCall> self) { self_ = std::move(self); }

  // ---- the handle's half ----
  void send(std::string_view message);
  std::size_t unsentBytes() const { return pending_.size(); }
  virtual void close(GrpcStatus status) = 0;
  /// The handle is gone.
  virtual void abandon() = 0;
  const net::PeerInfo& peer() const { return peer_; }
  const net::Address& remote() const { return remote_; }

  // ---- StreamObserver ----
  void onData(base::Buffer& data, End end) override;
  void onWritable() override {
    full_ = false;
    pump();
  }

  GrpcCallbacks callbacks;

 protected:
  /// The peer's direction ended.
  virtual void onBodyEnd() = 0;
  /// The peer broke the framing, or a limit.
  virtual void failLocally(GrpcStatus status) = 0;
  /// Server: response headers go before the first message.
  virtual void beforeWrite() {}
  void pump();
  enum class Tell : bool { kLater, kNow };
  /// The call is over; on_close follows, as the last thing here or in a later turn.
  void finish(GrpcStatus status, Tell when);
  codec::GrpcReader reader_;
  event::Loop& loop_;
  Stream* stream_ = nullptr;  // null: not yet open, or over
  net::PeerInfo peer_;
  net::Address remote_;
  base::Buffer in_;
  base::Buffer pending_;            // framed messages the stream has no room for
  std::shared_ptr<GrpcCall> self_;  // while the stream may call
  bool half_closed_ = false;        // our direction: nothing is sent any more
  bool full_ = false;
  bool over_ = false;
  bool handle_gone_ = false;
};

/// What the user holds.
class GrpcHandle final : public GrpcStream {
 public:
  explicit GrpcHandle(std::shared_ptr<GrpcCall> call) : call_(std::move(call)) {}
  ~GrpcHandle() override { call_->abandon(); }
  void send(std::string_view message) override { call_->send(message); }
  std::size_t unsentBytes() const override { return call_->unsentBytes(); }
  void close(GrpcStatus status) override { call_->close(std::move(status)); }
  const net::PeerInfo& peer() const override { return call_->peer(); }
  const net::Address& remote() const override { return call_->remote(); }

 private:
  std::shared_ptr<GrpcCall> call_;
};

}  // namespace postern::http
