#include "runtime/shim.h"

#include "base/strings.h"
#include "net/socket.h"
#include "runtime/channel.h"
#include "runtime/container.h"
#include "runtime/rootfs.h"

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <list>
#include <map>

#include <fcntl.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

namespace postern::runtime {
namespace {

using json::Json;

constexpr std::size_t kContainersMax = 1000;  // records kept; the agent forgets old ones
constexpr std::size_t kExecsMax = 256;        // at once

void bringUpLoopback() {
  const base::Fd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ifreq request{};
  std::strcpy(request.ifr_name, "lo");
  if (::ioctl(socket.get(), SIOCGIFFLAGS, &request) != 0) return;
  request.ifr_flags = static_cast<short>(request.ifr_flags | IFF_UP);
  ::ioctl(socket.get(), SIOCSIFFLAGS, &request);
}

TextResult writeSysctl(std::string name, const std::string& value) {
  std::replace(name.begin(), name.end(), '.', '/');
  const std::string path = "/proc/sys/" + name;
  const base::Fd file(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!file || ::write(file.get(), value.data(), value.size()) < 0) {
    return std::unexpected(fmt::format("cannot set sysctl {}: {}", name, std::strerror(errno)));
  }
  return {};
}

TextResult setUp(const SandboxSpec& spec) {
  if (::sethostname(spec.hostname.data(), spec.hostname.size()) != 0) {
    return std::unexpected(fmt::format("cannot set the host name: {}", std::strerror(errno)));
  }
  if (auto done = enterPodRoot(spec); !done) return done;
  if (!spec.host_network) {
    bringUpLoopback();
    // Pods' programs listen on any port whatever their user.
    if (auto done = writeSysctl("net.ipv4.ip_unprivileged_port_start", "0"); !done) return done;
  }
  for (const auto& [name, value] : spec.sysctls) {
    if (auto done = writeSysctl(name, value); !done) return done;
  }
  return {};
}

class Shim {
 public:
  Shim(event::Loop& loop, base::Fd listener)
      : loop_(loop),
        children_(loop, {SIGCHLD}, [this](int) { reap(); }),
        acceptor_(loop, std::move(listener), [this](base::Fd connection, const net::Address&) {
          accept(std::move(connection));
        }) {}

  void fail(std::string text) { failure_ = std::move(text); }

 private:
  struct Exec {
    long long id;
  };
  struct Peer {
    std::unique_ptr<Channel> channel;
  };

  void accept(base::Fd connection) {
    peers_.emplace_back();
    auto peer = std::prev(peers_.end());
    peer->channel = std::make_unique<Channel>(
        loop_, std::move(connection),
        [this, peer](const Json& body, std::vector<base::Fd> fds) {
          onMessage(*peer->channel, body, std::move(fds));
        },
        [this, peer] { peers_.erase(peer); });
    if (!failure_.empty()) {
      peer->channel->send({{"event", "failed"}, {"text", failure_}});
      return;
    }
    Json records = Json::array();
    for (const auto& [id, container] : containers_) records.push_back(toJson(container->record()));
    peer->channel->send({{"event", "ready"}, {"containers", std::move(records)}});
  }

  void onMessage(Channel& channel, const Json& body, std::vector<base::Fd> fds) {
    const std::string op = json::stringAt(body, "op");
    Json reply{{"reply", json::integerAt(body, "id")}};
    std::vector<base::Fd> reply_fds;
    if (op == "start") {
      startContainer(body, reply);
    } else if (op == "exec") {
      startExec(body, std::move(fds), reply, reply_fds);
    } else if (op == "attach") {
      attach(body, std::move(fds), reply, reply_fds);
    } else if (op == "signal") {
      signalContainer(body);
    } else if (op == "signalExec") {
      signalExec(body);
    } else if (op == "forget") {
      forget(json::stringAt(body, "container"));
    } else if (op == "stop") {
      ::_exit(0);  // the kernel ends whatever else is in the pid namespace
    } else {
      reply["error"] = "unknown operation \"" + op + "\"";
    }
    channel.send(reply, std::move(reply_fds));
  }

  void startContainer(const Json& body, Json& reply) {
    ContainerSpec spec = containerSpecFrom(body["spec"]);
    if (containers_.contains(spec.id)) {
      reply["error"] = "there is a container " + spec.id + " already";
      return;
    }
    if (containers_.size() >= kContainersMax) {
      reply["error"] = "too many containers in this sandbox";
      return;
    }
    auto made = Container::start(loop_, std::move(spec));
    if (!made) {
      reply["error"] = made.error().text;
      reply["exitCode"] = made.error().exit_code;
      return;
    }
    reply["container"] = toJson((*made)->record());
    containers_[(*made)->record().id] = std::move(*made);
  }

  Container* running(const Json& body, Json& reply) {
    const auto it = containers_.find(json::stringAt(body, "container"));
    if (it != containers_.end() && it->second->record().running) return it->second.get();
    reply["error"] = "the container is not running";
    return nullptr;
  }

  void startExec(const Json& body, std::vector<base::Fd> fds, Json& reply,
                 std::vector<base::Fd>& reply_fds) {
    Container* container = running(body, reply);
    if (container == nullptr) return;
    if (execs_.size() >= kExecsMax) {
      reply["error"] = "too many processes at once are executed in this pod";
      return;
    }
    ContainerSpec spec = container->spec();
    spec.argv = body["argv"].get<std::vector<std::string>>();
    Stdio stdio;
    base::Fd slave;
    base::Fd master;
    if (json::boolAt(body, "terminal")) {
      auto terminal = openTerminal(spec.uid);
      if (!terminal) {
        reply["error"] = terminal.error();
        return;
      }
      slave = std::move(terminal->slave);
      master = std::move(terminal->master);
      stdio = {slave.get(), slave.get(), slave.get(), true};
      if (std::none_of(spec.env.begin(), spec.env.end(),
                       [](const std::string& each) { return each.starts_with("TERM="); })) {
        spec.env.emplace_back("TERM=xterm");
      }
    } else {
      // Which of the three came along is a mask, in their order.
      const long long mask = json::integerAt(body, "streams");
      int* const slots[] = {&stdio.input, &stdio.output, &stdio.error};
      std::size_t next = 0;
      for (std::size_t i = 0; i < 3; ++i) {
        if ((mask >> i & 1) == 0 || next >= fds.size()) continue;
        openToAll(fds[next].get());
        *slots[i] = fds[next++].get();
      }
    }
    auto pid = launch(spec, stdio, container->pid());
    if (!pid) {
      reply["error"] = pid.error().text;
      reply["exitCode"] = pid.error().exit_code;
      return;
    }
    const long long id = ++last_exec_;
    execs_[*pid] = {id};
    reply["exec"] = id;
    if (master) reply_fds.push_back(std::move(master));
  }

  void attach(const Json& body, std::vector<base::Fd> fds, Json& reply,
              std::vector<base::Fd>& reply_fds) {
    Container* container = running(body, reply);
    if (container == nullptr) return;
    const long long mask = json::integerAt(body, "streams");
    base::Fd ends[3];
    std::size_t next = 0;
    for (std::size_t i = 0; i < 3; ++i) {
      if ((mask >> i & 1) != 0 && next < fds.size()) ends[i] = std::move(fds[next++]);
    }
    if (ends[1] || ends[2]) container->attach(std::move(ends[1]), std::move(ends[2]));
    base::Fd back = container->spec().terminal    ? container->terminal()
                    : json::boolAt(body, "input") ? container->takeInput()
                                                  : base::Fd();
    reply["terminal"] = container->spec().terminal;
    if (back) reply_fds.push_back(std::move(back));
  }

  void signalContainer(const Json& body) {
    const auto it = containers_.find(json::stringAt(body, "container"));
    if (it == containers_.end() || !it->second->record().running) return;
    ::kill(it->second->pid(), static_cast<int>(json::integerAt(body, "signal")));
  }

  void signalExec(const Json& body) {
    const long long id = json::integerAt(body, "exec");
    for (const auto& [pid, exec] : execs_) {
      // The session of the process: a shell's children too.
      if (exec.id == id) ::kill(-pid, static_cast<int>(json::integerAt(body, "signal")));
    }
  }

  void forget(const std::string& id) {
    const auto it = containers_.find(id);
    if (it != containers_.end() && !it->second->record().running) containers_.erase(it);
  }

  void reap() {
    while (true) {
      int status = 0;
      const pid_t pid = ::waitpid(-1, &status, WNOHANG);
      if (pid <= 0) return;
      if (const auto exec = execs_.find(pid); exec != execs_.end()) {
        const int code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
        const long long id = exec->second.id;
        execs_.erase(exec);
        tell({{"event", "execExit"}, {"exec", id}, {"code", code}});
        continue;
      }
      for (auto& [id, container] : containers_) {
        if (container->pid() != pid || !container->record().running) continue;
        container->ended(status);
        tell({{"event", "exit"}, {"container", toJson(container->record())}});
        break;
      }
    }
  }

  void tell(const Json& event) {
    for (Peer& peer : peers_) peer.channel->send(event);
  }

  event::Loop& loop_;
  std::string failure_;
  std::map<std::string, std::unique_ptr<Container>> containers_;
  std::map<pid_t, Exec> execs_;
  long long last_exec_ = 0;
  std::list<Peer> peers_;
  event::Loop::SignalWatch children_;
  net::Acceptor acceptor_;
};

std::string readAll(int fd) {
  std::string out;
  char bytes[4096];
  ssize_t got = 0;
  while ((got = ::read(fd, bytes, sizeof(bytes))) > 0) {
    out.append(bytes, static_cast<std::size_t>(got));
  }
  return out;
}

}  // namespace

int shimMain(int count, char** arguments) {
  if (count != 2) return 2;
  const auto listen_fd = base::parseInteger<int>(arguments[0]);
  const auto spec_fd = base::parseInteger<int>(arguments[1]);
  if (!listen_fd || !spec_fd) return 2;
  base::Fd listener(*listen_fd);
  base::Fd spec_file(*spec_fd);
  ::fcntl(listener.get(), F_SETFD, FD_CLOEXEC);
  ::fcntl(listener.get(), F_SETFL, O_NONBLOCK);
  auto parsed = json::parse(readAll(spec_file.get()));
  spec_file.reset();
  if (!parsed) return 2;
  // A container's root process must not read our memory or follow us to the node's files.
  ::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
  ::prctl(PR_SET_NAME, "pod-shim", 0, 0, 0);
  event::Loop::blockSignals({SIGCHLD, SIGTERM, SIGINT, SIGHUP});
  const TextResult ready = setUp(sandboxSpecFrom(*parsed));
  event::Loop loop;
  Shim shim(loop, std::move(listener));
  if (!ready) shim.fail(ready.error());
  loop.run();
  return 0;
}

}  // namespace postern::runtime
