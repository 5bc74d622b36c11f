#include "runtime/sandbox.h"

#include "base/strings.h"
#include "runtime/channel.h"

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <fstream>
#include <map>
#include <sstream>
#include <utility>

#include <fcntl.h>
#include <linux/close_range.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

namespace postern::runtime {
namespace {

using json::Json;

constexpr int kNamespaces = CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID;
constexpr int kBacklog = 16;

std::unexpected<std::string> sandboxFailed(std::string_view step) {
  return std::unexpected(fmt::format("{}: {}", step, std::strerror(errno)));
}

/// Socket paths are short; a folder's is not always. Through a descriptor of the folder any fits.
struct SocketPlace {
  base::Fd folder;
  sockaddr_un address{};
};

bool locate(const std::string& folder, SocketPlace& out) {
  out.folder = base::Fd(::open(folder.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!out.folder) return false;
  const std::string path = fmt::format("/proc/self/fd/{}/{}", out.folder.get(), kSocketName);
  out.address.sun_family = AF_UNIX;
  std::memcpy(out.address.sun_path, path.c_str(), path.size() + 1);
  return true;
}

base::Fd makeSocket() { return base::Fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)); }

std::expected<base::Fd, std::string> listenIn(const std::string& folder) {
  ::unlink((folder + "/" + kSocketName).c_str());
  SocketPlace place;
  if (!locate(folder, place)) return sandboxFailed("cannot open " + folder);
  base::Fd socket = makeSocket();
  const auto* address = reinterpret_cast<const sockaddr*>(&place.address);
  if (!socket || ::bind(socket.get(), address, sizeof(place.address)) != 0 ||
      ::listen(socket.get(), kBacklog) != 0) {
    return sandboxFailed("cannot listen in " + folder);
  }
  return socket;
}

std::expected<base::Fd, std::string> specFile(const SandboxSpec& spec) {
  base::Fd file(::memfd_create("sandbox", MFD_CLOEXEC));
  const std::string text = json::dump(toJson(spec));
  if (!file || ::write(file.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size()) ||
      ::lseek(file.get(), 0, SEEK_SET) != 0) {
    return sandboxFailed("cannot pass the sandbox's description");
  }
  return file;
}

// After fork in a process with threads: no allocation, only system calls.
[[noreturn]] void becomeShim(int namespaces, int report_fd, int log_fd, int listen_fd, int spec_fd,
                             char* const* argv, char* const* envp) {
  ::setsid();
  if (::unshare(namespaces) != 0) {
    const int error = -errno;
    (void)!::write(report_fd, &error, sizeof(error));
    ::_exit(1);
  }
  const pid_t init = ::fork();
  if (init != 0) {
    const int value = init > 0 ? init : -errno;
    (void)!::write(report_fd, &value, sizeof(value));
    ::_exit(0);
  }
  ::dup2(log_fd, 0);  // opened for writing only: reading it fails, as it should
  ::dup2(log_fd, 1);
  ::dup2(log_fd, 2);
  ::close_range(3, ~0U, CLOSE_RANGE_CLOEXEC);
  ::fcntl(listen_fd, F_SETFD, 0);
  ::fcntl(spec_fd, F_SETFD, 0);
  sigset_t none;
  sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  ::execve(argv[0], argv, envp);
  ::_exit(127);
}

std::uint64_t startTicks(pid_t pid) {
  std::ifstream file(fmt::format("/proc/{}/stat", pid));
  std::stringstream text;
  text << file.rdbuf();
  const std::string stat = text.str();
  // The second field is a name in parentheses that may hold anything; the start is the 22nd.
  const std::size_t end = stat.rfind(')');
  if (end == std::string::npos) return 0;
  const auto fields = base::split(std::string_view(stat).substr(end + 2), ' ');
  if (fields.size() < 20 || fields[0] == "Z") return 0;
  return base::parseInteger<std::uint64_t>(fields[19]).value_or(0);
}

class SandboxImpl final : public Sandbox {
 public:
  SandboxImpl(event::Loop& loop, base::Fd socket, SandboxObserver& observer)
      : observer_(observer),
        channel_(
            loop, std::move(socket),
            [this](const Json& body, std::vector<base::Fd> fds) {
              onMessage(body, std::move(fds));
            },
            [this] { onClosed(); }) {}
  ~SandboxImpl() override {
    if (destroyed_ != nullptr) *destroyed_ = true;
  }

  void start(const ContainerSpec& spec, Callback<ContainerRecord> callback) override {
    ask({{"op", "start"}, {"spec", toJson(spec)}}, {},
        [callback = std::move(callback)](std::expected<Reply, OperationFailure> reply) {
          if (!reply) return callback(std::unexpected(std::move(reply.error())));
          callback(containerRecordFrom(*json::find(*reply->body, "container")));
        });
  }

  void exec(ExecSpec spec, Callback<ExecStarted> callback) override {
    Json body{{"op", "exec"},
              {"container", spec.container},
              {"argv", spec.argv},
              {"terminal", spec.terminal}};
    std::vector<base::Fd> fds = collect(spec.streams, body);
    ask(std::move(body), std::move(fds),
        [callback = std::move(callback)](std::expected<Reply, OperationFailure> reply) {
          if (!reply) return callback(std::unexpected(std::move(reply.error())));
          ExecStarted out;
          out.id = json::integerAt(*reply->body, "exec");
          if (!reply->fds.empty()) out.terminal = std::move(reply->fds[0]);
          callback(std::move(out));
        });
  }

  void attach(AttachSpec spec, Callback<Attached> callback) override {
    Json body{{"op", "attach"}, {"container", spec.container}, {"input", spec.input}};
    std::vector<base::Fd> fds = collect(spec.streams, body);
    ask(std::move(body), std::move(fds),
        [callback = std::move(callback)](std::expected<Reply, OperationFailure> reply) {
          if (!reply) return callback(std::unexpected(std::move(reply.error())));
          Attached out;
          out.terminal = json::boolAt(*reply->body, "terminal");
          if (!reply->fds.empty()) out.input = std::move(reply->fds[0]);
          callback(std::move(out));
        });
  }

  void signal(const std::string& container, int number) override {
    ask({{"op", "signal"}, {"container", container}, {"signal", number}}, {}, nullptr);
  }
  void signalExec(long long exec, int number) override {
    ask({{"op", "signalExec"}, {"exec", exec}, {"signal", number}}, {}, nullptr);
  }
  void forget(const std::string& container) override {
    ask({{"op", "forget"}, {"container", container}}, {}, nullptr);
  }
  void stop() override { ask({{"op", "stop"}}, {}, nullptr); }

 private:
  struct Reply {
    const Json* body = nullptr;
    std::vector<base::Fd> fds;
  };
  using OnReply = base::Function<void(std::expected<Reply, OperationFailure>)>;

  static std::vector<base::Fd> collect(base::Fd (&streams)[3], Json& body) {
    std::vector<base::Fd> fds;
    int mask = 0;
    for (int i = 0; i < 3; ++i) {
      if (!streams[i]) continue;
      mask |= 1 << i;
      fds.push_back(std::move(streams[i]));
    }
    body["streams"] = mask;
    return fds;
  }

  void ask(Json body, std::vector<base::Fd> fds, OnReply callback) {
    body["id"] = ++last_id_;
    if (callback) waiting_[last_id_] = std::move(callback);
    channel_.send(body, std::move(fds));
  }

  void onMessage(const Json& body, std::vector<base::Fd> fds) {
    const std::string event = json::stringAt(body, "event");
    if (event == "ready") {
      std::vector<ContainerRecord> records;
      if (const Json* list = json::find(body, "containers")) {
        for (const Json& record : *list) records.push_back(containerRecordFrom(record));
      }
      observer_.onReady(std::move(records));
    } else if (event == "failed") {
      failure_ = json::stringAt(body, "text");
      onClosed();
    } else if (event == "exit") {
      observer_.onContainerExit(containerRecordFrom(*json::find(body, "container")));
    } else if (event == "execExit") {
      observer_.onExecExit(json::integerAt(body, "exec"),
                           static_cast<int>(json::integerAt(body, "code")));
    } else {
      answer(body, std::move(fds));
    }
  }

  void answer(const Json& body, std::vector<base::Fd> fds) {
    const auto it = waiting_.find(json::integerAt(body, "reply"));
    if (it == waiting_.end()) return;
    OnReply callback = std::move(it->second);
    waiting_.erase(it);
    if (const Json* error = json::find(body, "error")) {
      OperationFailure failure;
      if (error->is_string()) failure.text = error->get<std::string>();
      failure.exit_code = static_cast<int>(json::integerAt(body, "exitCode", 128));
      return callback(std::unexpected(std::move(failure)));
    }
    callback(Reply{&body, std::move(fds)});
  }

  void onClosed() {
    if (std::exchange(lost_, true)) return;
    bool destroyed = false;
    destroyed_ = &destroyed;
    auto waiting = std::exchange(waiting_, {});
    const std::string why = failure_.empty() ? "the sandbox ended" : failure_;
    for (auto& [id, callback] : waiting) {
      callback(std::unexpected(OperationFailure{why, 128}));
      if (destroyed) return;
    }
    destroyed_ = nullptr;
    observer_.onLost(why);
  }

  SandboxObserver& observer_;
  std::map<long long, OnReply> waiting_;
  long long last_id_ = 0;
  std::string failure_;
  bool lost_ = false;
  bool* destroyed_ = nullptr;
  Channel channel_;
};

}  // namespace

std::expected<Sandbox::Identity, std::string> Sandbox::spawn(
    const SandboxSpec& spec, const std::vector<std::string>& shim_command) {
  POSTERN_TRY(const base::Fd listener, listenIn(spec.folder));
  POSTERN_TRY(const base::Fd description, specFile(spec));
  const base::Fd log(
      ::open((spec.folder + "/shim.log").c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  if (!log) return sandboxFailed("cannot write in " + spec.folder);
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return sandboxFailed("cannot make a pipe");
  const base::Fd reader(ends[0]);
  base::Fd writer(ends[1]);

  std::vector<std::string> words = shim_command;
  words.push_back(std::to_string(listener.get()));
  words.push_back(std::to_string(description.get()));
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  char* envp[] = {nullptr};
  const int namespaces = kNamespaces | (spec.host_network ? 0 : CLONE_NEWNET);

  const pid_t child = ::fork();
  if (child < 0) return sandboxFailed("cannot fork");
  if (child == 0) {
    becomeShim(namespaces, writer.get(), log.get(), listener.get(), description.get(), argv.data(),
               envp);
  }
  writer.reset();
  int value = 0;
  const ssize_t got = ::read(reader.get(), &value, sizeof(value));
  while (::waitpid(child, nullptr, 0) < 0 && errno == EINTR) {
  }
  if (got != sizeof(value)) return std::unexpected("the sandbox's first process ended");
  if (value < 0) {
    errno = -value;
    return sandboxFailed("cannot make the pod's namespaces");
  }
  return Identity{value, startTicks(value)};
}

bool Sandbox::alive(const Identity& identity) {
  return identity.pid > 1 && identity.start_ticks != 0 &&
         startTicks(identity.pid) == identity.start_ticks;
}

bool Sandbox::kill(const Identity& identity) {
  const base::Fd pidfd(static_cast<int>(::syscall(SYS_pidfd_open, identity.pid, 0)));
  if (!pidfd || !alive(identity)) return false;
  return ::syscall(SYS_pidfd_send_signal, pidfd.get(), SIGKILL, nullptr, 0) == 0;
}

base::Result<base::Fd> Sandbox::networkNamespace(const Identity& identity) {
  base::Fd out(::open(fmt::format("/proc/{}/ns/net", identity.pid).c_str(), O_RDONLY | O_CLOEXEC));
  if (!out) return base::failErrno("sandbox: cannot open its network namespace");
  if (!alive(identity)) return base::fail(base::Errc::kClosed, "sandbox: it is gone");
  return out;
}

std::unique_ptr<Sandbox> Sandbox::connect(event::Loop& loop, const std::string& folder,
                                          SandboxObserver& observer) {
  SocketPlace place;
  if (!locate(folder, place)) return nullptr;
  base::Fd socket = makeSocket();
  const auto* address = reinterpret_cast<const sockaddr*>(&place.address);
  if (!socket || ::connect(socket.get(), address, sizeof(place.address)) != 0) return nullptr;
  return std::make_unique<SandboxImpl>(loop, std::move(socket), observer);
}

}  // namespace postern::runtime
