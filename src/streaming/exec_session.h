// One exec or attach between a client's channels and a process's descriptors: copies both ways with
// back-pressure, passes on half-close and window sizes, and tells how it ended. Speaks no protocol:
// the owner (exec_channels) is its ExecPeer. One loop; destroying it lets go of the process.
#pragma once

#include "base/buffer.h"
#include "event/loop.h"
#include "streaming/backend.h"

#include <chrono>
#include <memory>
#include <string>
#include <string_view>

namespace postern::streaming {

enum class Output : unsigned char { kStdout, kStderr };

/// The client's side as the session sees it.
class ExecPeer {
 public:
  virtual ~ExecPeer() = default;
  virtual void output(Output channel, std::string_view bytes) = 0;
  /// The client does not keep up: produce nothing until ExecSession::onDrained.
  virtual bool full() const = 0;
  virtual void holdInput(bool hold) = 0;
  /// All output was given; `status` is a metav1.Status as JSON. The session does nothing more.
  virtual void finish(const std::string& status) = 0;
};

class ExecSession final : private StreamSession {
 public:
  /// Input the process has not taken: above it the client is held.
  static constexpr std::size_t kInputBytesMax = 1024 * 1024;
  /// The process ended, but something it started keeps its output open: silence that ends it.
  static constexpr std::chrono::milliseconds kDrainQuiet{1000};

  enum class Kind : unsigned char { kExec, kAttach };

  ExecSession(event::Loop& loop, ExecPeer& peer);
  ~ExecSession() override;
  void start(ExecBackend& backend, Kind kind, const ExecRequest& request);

  void onInput(std::string_view bytes);
  void onInputEnd();
  /// Bytes of the resize channel: JSON objects {"Width":80,"Height":24} in a row.
  void onResize(std::string_view bytes);
  void onDrained();

 private:
  struct Pipe {
    base::Fd fd;
    event::FdWatch watch;
    bool readable = false;  // reported, and not read to its end since
    /// The watch goes first: a duplicate would keep a closed descriptor's registration alive.
    void close() {
      watch.reset();
      fd.reset();
    }
  };

  void started(ProcessStreams streams) override;
  void exited(int code) override;
  void failed(std::string text) override;

  void watchOutput(Pipe& pipe, base::Fd fd, Output channel);
  void readOutput(Pipe& pipe, Output channel);
  void writeInput();
  void closeInput();
  void resize(std::string_view object);
  void settle();
  void finish(const std::string& status);

  event::Loop& loop_;
  ExecPeer& peer_;
  Kind kind_ = Kind::kExec;
  bool tty_ = false;
  std::unique_ptr<StreamProcess> process_;
  Pipe input_;
  Pipe output_;
  Pipe error_;
  base::Fd terminal_;
  base::Buffer unwritten_;
  std::string resize_text_;
  bool started_ = false;
  bool input_ended_ = false;
  bool input_held_ = false;
  bool input_broken_ = false;  // the process reads no more
  bool exited_ = false;
  bool finished_ = false;
  int exit_code_ = 0;
  event::Timer drain_;
};

/// {"metadata":{},"status":"Success"}, or a failure with reason NonZeroExitCode.
std::string exitStatus(int code);
/// A failure with reason InternalError.
std::string failureStatus(const std::string& text);

}  // namespace postern::streaming
