// Exec and attach over SPDY/3.1, protocol v4.channel.k8s.io: one stream per channel, named by its
// header "streamtype".
#include "streaming/exec_session.h"
#include "streaming/session.h"
#include "streaming/spdy_mux.h"

#include <utility>

namespace postern::streaming {
namespace {

class SpdyExec final : public Session, private SpdyMuxObserver, private ExecPeer {
 public:
  SpdyExec(event::Loop& loop, SessionOwner& owner, std::unique_ptr<net::Transport> transport,
           ExecTarget target)
      : Session(loop, owner, std::move(transport), Carrier::Framing::kNone),
        target_(std::move(target)),
        mux_(carrier_, *this),
        exec_(loop, *this) {}

  void begin(base::Buffer& unread) override {
    timer_.arm(kStreamsTimeout);
    Session::begin(unread);
  }

 private:
  // ---- from the connection ----
  void onBytes(std::string_view bytes) override { mux_.feed(bytes); }
  void onDrained() override { exec_.onDrained(); }
  void onClosed() override { end(); }
  void onGoAway() override { end(); }
  void end() {
    mux_.stop();
    over();
  }

  // ---- from the client's streams ----
  bool onStream(SpdyStream& stream) override {
    SpdyStream** slot = slotOf(stream.header("streamtype"));
    if (slot == nullptr || *slot != nullptr) return false;
    *slot = &stream;
    if (complete()) {
      timer_.cancel();
      running_ = true;
      exec_.start(target_.backend, kind(), target_.request);
    }
    return true;
  }
  void onData(SpdyStream& stream, std::string_view bytes) override {
    if (&stream == stdin_) exec_.onInput(bytes);
    if (&stream == resize_) exec_.onResize(bytes);
  }
  void onEnd(SpdyStream& stream) override {
    if (&stream == stdin_) exec_.onInputEnd();
  }
  void onReset(SpdyStream& stream) override {
    if (&stream == stdin_) exec_.onInputEnd();
  }

  // ---- from the process ----
  void output(Output channel, std::string_view bytes) override {
    SpdyStream* stream = channel == Output::kStdout ? stdout_ : stderr_;
    if (stream != nullptr) mux_.send(*stream, bytes);
  }
  bool full() const override { return carrier_.full(); }
  void holdInput(bool hold) override { hold ? carrier_.pause() : carrier_.resume(); }
  void finish(const std::string& status) override {
    for (SpdyStream* stream : {stdout_, stderr_}) {
      if (stream != nullptr) mux_.end(*stream);
    }
    mux_.send(*error_, status);
    mux_.end(*error_);
    carrier_.resume();  // to see the client's end
    // The client closes first: ending now could overtake frames it has not handled.
    timer_.arm(kLinger);
  }

  ExecSession::Kind kind() const {
    return target_.attach ? ExecSession::Kind::kAttach : ExecSession::Kind::kExec;
  }
  /// Only what the request announced may be opened.
  SpdyStream** slotOf(std::string_view type) {
    const ExecRequest& request = target_.request;
    if (type == "error") return &error_;
    if (type == "stdin" && request.with_stdin) return &stdin_;
    if (type == "stdout" && request.with_stdout) return &stdout_;
    if (type == "stderr" && request.with_stderr) return &stderr_;
    if (type == "resize" && request.tty) return &resize_;
    return nullptr;
  }
  bool complete() const {
    const ExecRequest& request = target_.request;
    return !running_ && error_ != nullptr && (!request.with_stdin || stdin_ != nullptr) &&
           (!request.with_stdout || stdout_ != nullptr) &&
           (!request.with_stderr || stderr_ != nullptr) && (!request.tty || resize_ != nullptr);
  }

  ExecTarget target_;
  SpdyMux mux_;
  ExecSession exec_;
  // Streams are never released here: they live as long as the connection.
  SpdyStream* error_ = nullptr;
  SpdyStream* stdin_ = nullptr;
  SpdyStream* stdout_ = nullptr;
  SpdyStream* stderr_ = nullptr;
  SpdyStream* resize_ = nullptr;
  bool running_ = false;
};

}  // namespace

std::unique_ptr<Session> makeSpdyExec(event::Loop& loop, SessionOwner& owner,
                                      std::unique_ptr<net::Transport> transport,
                                      ExecTarget target) {
  return std::make_unique<SpdyExec>(loop, owner, std::move(transport), std::move(target));
}

}  // namespace postern::streaming
