// A byte stream between two ends of one loop, in memory: bounded, so that writers meet
// back-pressure; what one end writes the other is told when no callback is
// running. Either end may go away or
// break at any moment. Loop thread; both ends must be gone before the loop.
#pragma once

#include "base/check.h"
#include "event/loop.h"
#include "net/transport.h"

#include <algorithm>
#include <cstddef>
#include <memory>
#include <utility>

namespace postern::testing {

class PipeEnd final : public net::Transport {
 public:
  static constexpr std::size_t kCapacity = 16 * 1024;

  static std::pair<std::unique_ptr<PipeEnd>, std::unique_ptr<PipeEnd>> makePair(event::Loop& loop) {
    auto shared = std::make_shared<Shared>();
    return {std::unique_ptr<PipeEnd>(new PipeEnd(loop, shared, 0)),
            std::unique_ptr<PipeEnd>(new PipeEnd(loop, shared, 1))};
  }
  ~PipeEnd() override {
    mine().self = nullptr;
    mine().ended = true;
    other().writable_wanted = false;
    if (other().self != nullptr) other().self->tell();
  }
  PipeEnd(const PipeEnd&) = delete;
  PipeEnd& operator=(const PipeEnd&) = delete;

  /// As if the network had gone: both observers get onError in a later turn.
  void breakBoth() {
    shared_->broken = true;
    for (Direction& each : shared_->ends) {
      if (each.self != nullptr) each.self->tell();
    }
  }

  /// As a socket that has connected.
  void tellConnected() { observer_->onConnected(); }

  void setObserver(net::TransportObserver* observer) override { observer_ = observer; }
  net::IoResult read(base::Buffer& into, std::size_t max) override {
    if (shared_->broken) return {net::IoStatus::kError};
    base::Buffer& bytes = other().bytes;
    const std::size_t count = std::min(max, bytes.size());
    if (count == 0) return {other().ended ? net::IoStatus::kEof : net::IoStatus::kAgain};
    into.append(bytes, count);
    if (other().writable_wanted && other().self != nullptr) other().self->tell();
    if (other().ended) tell();  // a short read says that the end will be told
    return {net::IoStatus::kOk, count};
  }
  net::IoResult write(base::Buffer& from) override {
    if (shared_->broken || other().self == nullptr) return {net::IoStatus::kError};
    const std::size_t count =
        std::min(from.size(), kCapacity - std::min(kCapacity, mine().bytes.size()));
    if (count > 0) {
      mine().bytes.append(from, count);
      other().self->tell();
    }
    mine().writable_wanted = !from.empty();
    return {from.empty() ? net::IoStatus::kOk : net::IoStatus::kAgain, count};
  }
  void resumeRead() override { tell(); }
  void shutdownWrite() override {
    mine().ended = true;
    if (other().self != nullptr) other().self->tell();
  }
  void resetOnClose() override {}
  base::Error error() const override { return {base::Errc::kReset, "the pipe broke"}; }
  const net::Address& local() const override { return address_; }
  const net::Address& remote() const override { return address_; }
  const net::PeerInfo& peer() const override { return peer_; }
  int fd() const override { return -1; }

 private:
  struct Direction {
    base::Buffer bytes;  // written by this end, not yet read by the other
    bool ended = false;
    bool writable_wanted = false;
    PipeEnd* self = nullptr;
  };
  struct Shared {
    Direction ends[2];
    bool broken = false;
  };
  PipeEnd(event::Loop& loop, std::shared_ptr<Shared> shared, int index)
      : shared_(std::move(shared)), index_(index), soon_(loop, [this] { onTurn(); }) {
    mine().self = this;
  }
  Direction& mine() { return shared_->ends[index_]; }
  Direction& other() { return shared_->ends[1 - index_]; }
  void tell() { soon_.schedule(); }
  void onTurn() {
    if (observer_ == nullptr) return;
    if (shared_->broken) {
      if (!std::exchange(told_broken_, true)) observer_->onError(error());
      return;
    }
    if (!mine().writable_wanted) return observer_->onReadable();
    mine().writable_wanted = false;
    tell();  // reading has its own turn: this object may be gone after the call
    observer_->onWritable();
  }

  std::shared_ptr<Shared> shared_;
  int index_;
  event::Soon soon_;
  bool told_broken_ = false;
  net::TransportObserver* observer_ = nullptr;
  net::Address address_;
  net::PeerInfo peer_;
};

}  // namespace postern::testing
