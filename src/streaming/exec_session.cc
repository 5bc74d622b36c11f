#include "streaming/exec_session.h"

#include "base/log.h"
#include "json/json.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cerrno>
#include <utility>

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

namespace postern::streaming {
namespace {

constexpr std::size_t kExecReadBytes = 32 * 1024;
constexpr std::size_t kResizeBytesMax = 1024;
constexpr int kIovecs = 16;

base::LogComponent& execLog() {
  static base::LogComponent component("streaming");
  return component;
}

void makeNonBlocking(int fd) { ::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) | O_NONBLOCK); }

}  // namespace

std::string exitStatus(int code) {
  json::Json status = {{"metadata", json::Json::object()}, {"status", "Success"}};
  if (code != 0) {
    const std::string text = std::to_string(code);
    status["status"] = "Failure";
    status["reason"] = "NonZeroExitCode";
    status["message"] = "command terminated with exit code " + text;
    status["details"]["causes"] = json::Json::array({{{"reason", "ExitCode"}, {"message", text}}});
  }
  return status.dump();
}

std::string failureStatus(const std::string& text) {
  json::Json status = {{"metadata", json::Json::object()},
                       {"status", "Failure"},
                       {"reason", "InternalError"},
                       {"message", "Internal error occurred: " + text},
                       {"code", 500}};
  status["details"]["causes"] = json::Json::array({{{"message", text}}});
  return status.dump(-1, ' ', false, json::Json::error_handler_t::replace);
}

ExecSession::ExecSession(event::Loop& loop, ExecPeer& peer)
    : loop_(loop), peer_(peer), drain_(loop, [this] {
        // What is stalled by a slow client is not silent.
        if (peer_.full()) return drain_.arm(kDrainQuiet);
        output_.close();
        error_.close();
        settle();
      }) {}

ExecSession::~ExecSession() = default;

void ExecSession::start(ExecBackend& backend, Kind kind, const ExecRequest& request) {
  kind_ = kind;
  tty_ = request.tty;
  auto process =
      kind == Kind::kExec ? backend.exec(request, *this) : backend.attach(request, *this);
  if (!finished_) process_ = std::move(process);
}

void ExecSession::started(ProcessStreams streams) {
  if (finished_ || std::exchange(started_, true)) return;
  terminal_ = std::move(streams.terminal);
  if (streams.input) {
    makeNonBlocking(streams.input.get());
    input_.fd = std::move(streams.input);
    input_.watch = event::FdWatch(loop_, input_.fd.get(), [this](std::uint32_t ready) {
      if ((ready & (event::kWritable | event::kHangup)) != 0) writeInput();
    });
  } else {
    input_broken_ = true;
    unwritten_.clear();
  }
  watchOutput(output_, std::move(streams.output), Output::kStdout);
  watchOutput(error_, std::move(streams.error), Output::kStderr);
  std::string sizes = std::move(resize_text_);
  resize_text_.clear();
  onResize(sizes);
  writeInput();
}

void ExecSession::watchOutput(Pipe& pipe, base::Fd fd, Output channel) {
  if (!fd) return;
  makeNonBlocking(fd.get());
  pipe.fd = std::move(fd);
  pipe.watch = event::FdWatch(loop_, pipe.fd.get(), [this, &pipe, channel](std::uint32_t ready) {
    if ((ready & (event::kReadable | event::kHangup)) == 0) return;
    pipe.readable = true;
    readOutput(pipe, channel);
    settle();
  });
}

void ExecSession::readOutput(Pipe& pipe, Output channel) {
  while (!finished_ && pipe.fd && pipe.readable && !peer_.full()) {
    char bytes[kExecReadBytes];
    ssize_t n = ::read(pipe.fd.get(), bytes, sizeof bytes);
    if (n > 0) {
      if (exited_) drain_.arm(kDrainQuiet);
      peer_.output(channel, std::string_view(bytes, static_cast<std::size_t>(n)));
      continue;
    }
    if (n < 0 && errno == EINTR) continue;
    pipe.readable = false;
    if (n < 0 && errno == EAGAIN) return;
    pipe.close();  // the end; a terminal without processes says so by EIO
  }
}

void ExecSession::onDrained() {
  readOutput(output_, Output::kStdout);
  readOutput(error_, Output::kStderr);
  settle();
}

void ExecSession::onInput(std::string_view bytes) {
  if (input_broken_ || input_ended_ || finished_) return;
  unwritten_.append(bytes);
  if (started_) writeInput();
  if (unwritten_.size() > kInputBytesMax && !std::exchange(input_held_, true)) {
    peer_.holdInput(true);
  }
}

void ExecSession::onInputEnd() {
  if (std::exchange(input_ended_, true) || !started_) return;
  writeInput();
}

void ExecSession::writeInput() {
  while (!unwritten_.empty() && input_.fd) {
    iovec pieces[kIovecs];
    int count = unwritten_.peek(pieces, kIovecs);
    ssize_t n = ::writev(input_.fd.get(), pieces, count);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EAGAIN) break;
    if (n < 0) {
      closeInput();
      break;
    }
    unwritten_.drain(static_cast<std::size_t>(n));
  }
  // The end of input closes a pipe. A terminal has no half-close: its input stays as it is.
  if (input_ended_ && unwritten_.empty() && input_.fd && !tty_) closeInput();
  if (input_held_ && unwritten_.size() < kInputBytesMax / 2) {
    input_held_ = false;
    peer_.holdInput(false);
  }
}

void ExecSession::closeInput() {
  input_.close();
  input_broken_ = true;
  unwritten_.clear();
}

void ExecSession::onResize(std::string_view bytes) {
  resize_text_.append(bytes);
  std::size_t end = resize_text_.find('}');
  while (started_ && end != std::string::npos) {
    resize(std::string_view(resize_text_).substr(0, end + 1));
    resize_text_.erase(0, end + 1);
    end = resize_text_.find('}');
  }
  if (resize_text_.size() > kResizeBytesMax) resize_text_.clear();
}

void ExecSession::resize(std::string_view object) {
  auto size = json::parse(object);
  if (!size || !size->is_object()) return;
  auto side = [&](const char* name) -> unsigned short {
    const json::Json* value = json::find(*size, name);
    if (value == nullptr || !value->is_number_unsigned()) return 0;
    return static_cast<unsigned short>(std::min<std::uint64_t>(value->get<std::uint64_t>(), 65535));
  };
  winsize window{};
  window.ws_col = side("Width");
  window.ws_row = side("Height");
  if (!terminal_ || window.ws_col == 0 || window.ws_row == 0) return;
  ::ioctl(terminal_.get(), TIOCSWINSZ, &window);
}

void ExecSession::exited(int code) {
  if (finished_ || std::exchange(exited_, true)) return;
  exit_code_ = code;
  drain_.arm(kDrainQuiet);
  // In a later turn: the backend may be calling from inside exec().
  if (!output_.fd && !error_.fd) drain_.arm({});
}

void ExecSession::failed(std::string text) {
  execLog().debug("{}", text);
  finish(failureStatus((kind_ == Kind::kExec ? "error executing command in container: "
                                             : "error attaching to container: ") +
                       text));
}

void ExecSession::settle() {
  if (finished_ || !exited_ || output_.fd || error_.fd) return;
  finish(kind_ == Kind::kExec ? exitStatus(exit_code_) : exitStatus(0));
}

void ExecSession::finish(const std::string& status) {
  if (std::exchange(finished_, true)) return;
  drain_.cancel();
  input_.close();
  output_.close();
  error_.close();
  terminal_.reset();
  peer_.finish(status);
}

}  // namespace postern::streaming
