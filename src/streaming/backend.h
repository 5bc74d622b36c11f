// What the streaming server asks of whoever runs the pods (src/node): look at a target before the
// upgrade, start a process, attach to a container, connect to a port inside a pod. The streaming
// server owns the protocols (SPDY, WebSocket), the copying and its back-pressure; the backend owns
// processes and namespaces and hands over plain descriptors. All on one loop; no call blocks.
#pragma once

#include "base/error.h"
#include "base/fd.h"
#include "base/function.h"

#include <cstdint>
#include <expected>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace postern::streaming {

struct PodRef {
  std::string ns;
  std::string name;
  std::string uid;  // "" when the caller did not say
};

enum class Purpose : unsigned char { kExec, kAttach, kPortForward };

/// Why a request is refused before the upgrade: an HTTP status and a line of text, which kubectl
/// prints behind "unable to upgrade connection: ".
struct Refusal {
  int status = 500;
  std::string text;
};

struct ExecRequest {
  PodRef pod;
  std::string container;
  std::vector<std::string> command;  // empty for attach
  bool with_stdin = false;
  bool with_stdout = false;
  bool with_stderr = false;  // never together with tty: a terminal has one output
  bool tty = false;
};

/// Our ends of a process's stdio. Pipes (or a pty's master), never sockets: /dev/stderr cannot be
/// opened when it is a socket. The session sets O_NONBLOCK on them and closes them; a backend that
/// wants a hang-up to reach the process keeps no duplicate. With a terminal all three are the
/// master or duplicates of it, and `error` is empty. What was not asked for stays empty; reading
/// EIO (a pty without processes) counts as the end.
struct ProcessStreams {
  base::Fd input;     // we write; closed when the client ends stdin (a terminal's is not an end)
  base::Fd output;    // we read
  base::Fd error;     // we read
  base::Fd terminal;  // TIOCSWINSZ goes here; empty without a terminal
};

/// Upward: one exec or attach as its backend sees it. May be called inside exec() and attach()
/// already, and never after the StreamProcess was destroyed. Either started() and later exited(),
/// or failed() at any time; each at most once.
class StreamSession {
 public:
  virtual ~StreamSession() = default;
  virtual void started(ProcessStreams streams) = 0;
  /// The process ended, or the attached container did. `code` as a shell would say it: 128 + signal
  /// for one that was killed. The session still drains what the process had written.
  virtual void exited(int code) = 0;
  /// It could not be started, or is lost; a line for a person.
  virtual void failed(std::string text) = 0;
};

/// One started exec or attachment, owned by its session. Destroying it means that nobody watches
/// any more (the client went away, or exited() was taken): an exec'd process that still runs is
/// then ended (SIGHUP, later SIGKILL); an attached container goes on.
class StreamProcess {
 public:
  virtual ~StreamProcess() = default;
};

class ExecBackend {
 public:
  virtual ~ExecBackend() = default;

  /// Before the upgrade. Nothing: go on. Kubernetes' texts: 404 "pod does not exist",
  /// 404 `container not found ("c")`. `container` is "" for a port-forward.
  virtual std::optional<Refusal> check(Purpose purpose, const PodRef& pod,
                                       const std::string& container) = 0;
  /// Never null: what goes wrong is told by StreamSession::failed.
  virtual std::unique_ptr<StreamProcess> exec(const ExecRequest& request,
                                              StreamSession& session) = 0;
  virtual std::unique_ptr<StreamProcess> attach(const ExecRequest& request,
                                                StreamSession& session) = 0;

  /// A connected socket to 127.0.0.1:port (or [::1]:port) inside the pod's network namespace, or a
  /// line for a person ("dial tcp4 127.0.0.1:81: connect: connection refused"). The callback runs
  /// once, in this call or later; `callback` may be dropped only with the backend.
  using DialCallback = base::Function<void(std::expected<base::Fd, std::string>)>;
  virtual void dial(const PodRef& pod, std::uint16_t port, DialCallback callback) = 0;
};

}  // namespace postern::streaming
