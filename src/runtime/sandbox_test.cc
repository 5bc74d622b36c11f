// Needs the right to make namespaces; skips without it.
#include "runtime/sandbox.h"

#include "runtime/process.h"
#include "runtime/shim.h"

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <optional>
#include <sstream>

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

namespace postern::runtime {
namespace {

namespace fs = std::filesystem;

struct Watcher : SandboxObserver {
  void onReady(std::vector<ContainerRecord> list) override {
    ready = true;
    found = std::move(list);
  }
  void onContainerExit(const ContainerRecord& container) override {
    ended[container.id] = container;
  }
  void onExecExit(long long exec, int code) override { exec_codes[exec] = code; }
  void onLost(const std::string& why) override { lost = why; }

  bool ready = false;
  std::string lost;
  std::vector<ContainerRecord> found;
  std::map<std::string, ContainerRecord> ended;
  std::map<long long, int> exec_codes;
};

class SandboxTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::path(::testing::TempDir()) / ("sandbox_" + std::to_string(::getpid()));
    fs::remove_all(folder_);
    fs::create_directories(folder_ / "programs");
    fs::create_directories(folder_ / "volume");
    std::ofstream(folder_ / "hosts") << "127.0.0.1 localhost\n";
    std::ofstream(folder_ / "resolv") << "nameserver 10.96.0.10\n";
    std::ofstream(folder_ / "programs" / "tool") << "#!/bin/sh\necho tool\n";
    fs::permissions(folder_ / "programs" / "tool", fs::perms(0755));
    SandboxSpec spec;
    spec.folder = folder_;
    spec.hostname = "web-1";
    spec.programs_dir = folder_ / "programs";
    spec.hosts_file = folder_ / "hosts";
    spec.resolv_file = folder_ / "resolv";
    spec.hidden = {"/usr/share/doc"};
    auto made = Sandbox::spawn(spec, {"/proc/self/exe", kShimArgument});
    if (!made) GTEST_SKIP() << "may not make namespaces here: " << made.error();
    identity_ = *made;
    connect();
    ASSERT_EQ(watcher_.lost, "");
  }

  void TearDown() override {
    sandbox_.reset();
    if (identity_.pid > 0) Sandbox::kill(identity_);
    fs::remove_all(folder_);
  }

  void connect() {
    watcher_ = {};
    sandbox_ = Sandbox::connect(loop_, folder_, watcher_);
    ASSERT_NE(sandbox_, nullptr);
    ASSERT_TRUE(until([&] { return watcher_.ready || !watcher_.lost.empty(); }));
  }

  template <class F>
  bool until(F&& condition) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (!condition() && std::chrono::steady_clock::now() < end) {
      loop_.runOnce(std::chrono::milliseconds(20));
    }
    return condition();
  }

  ContainerSpec shell(const std::string& id, const std::string& script) {
    ContainerSpec spec;
    spec.id = id;
    spec.argv = {"sh", "-c", script};
    spec.env = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin"};
    spec.capabilities = defaultCapabilities();
    spec.log_file = folder_ / (id + ".log");
    return spec;
  }

  /// Empty when it started.
  std::string start(const ContainerSpec& spec) {
    std::optional<std::string> error;
    sandbox_->start(spec, [&](std::expected<ContainerRecord, OperationFailure> done) {
      error = done ? "" : done.error().text;
    });
    until([&] { return error.has_value(); });
    return error.value_or("no answer");
  }

  /// The exit code; -1 when it never ended.
  int run(const ContainerSpec& spec) {
    if (const std::string error = start(spec); !error.empty()) {
      ADD_FAILURE() << error;
      return -1;
    }
    until([&] { return watcher_.ended.contains(spec.id); });
    return watcher_.ended.contains(spec.id) ? watcher_.ended[spec.id].exit_code : -1;
  }

  /// The text of a log without times and tags.
  std::string log(const std::string& id) {
    std::ifstream file(folder_ / (id + ".log"));
    std::string out;
    std::string line;
    while (std::getline(file, line))
      out += line.substr(std::min(line.size(), std::size_t{40})) + "\n";
    return out;
  }

  fs::path folder_;
  event::Loop loop_;
  Watcher watcher_;
  Sandbox::Identity identity_;
  std::unique_ptr<Sandbox> sandbox_;
};

TEST_F(SandboxTest, RunsAsUserAndLogsBothStreams) {
  auto spec = shell("a", "echo $(uname -n) $(id -u) $WHO; echo bad >&2; exit 7");
  spec.env.push_back("WHO=me");
  if (std::ifstream("/proc/self/uid_map").good()) spec.uid = spec.gid = 1337;
  EXPECT_EQ(run(spec), 7);
  EXPECT_EQ(log("a"), "web-1 1337 me\nbad\n");
  std::ifstream file(folder_ / "a.log");
  std::stringstream text;
  text << file.rdbuf();
  EXPECT_NE(text.str().find(" stderr F bad\n"), std::string::npos);
}

TEST_F(SandboxTest, TellsMissingProgramsFromSignals) {
  auto spec = shell("a", "");
  spec.argv = {"no-such-program"};
  EXPECT_EQ(start(spec), "exec: \"no-such-program\": executable file not found in $PATH");
  spec.argv = {"/etc/passwd"};
  EXPECT_EQ(start(spec), "exec: \"/etc/passwd\": Permission denied");
  spec.argv = {};
  EXPECT_EQ(start(spec), "no command specified");
  EXPECT_EQ(run(shell("b", "kill -9 $$")), 128 + 9);
  EXPECT_EQ(watcher_.ended["b"].signal, 9);
}

TEST_F(SandboxTest, ShowsTheNodesFilesReadOnlyAndItsOwn) {
  auto spec = shell("a",
                    "cat /etc/resolv.conf /etc/hosts; test -r /etc/passwd && echo passwd;"
                    "(echo x >/usr/bin/x) 2>/dev/null || echo ro; ls /usr/share/doc | wc -l;"
                    "/.postern/bin/tool; echo x >/tmp/x && cat /tmp/x; ls /.postern/host | wc -l;"
                    "echo out >/dev/stdout; echo err >/dev/stderr; ls /proc | grep -c '^[0-9]*$'");
  EXPECT_EQ(run(spec), 0);
  const std::string text = log("a");
  EXPECT_TRUE(
      text.starts_with("nameserver 10.96.0.10\n127.0.0.1 localhost\npasswd\nro\n0\ntool\nx\n0\n"))
      << text;
  EXPECT_NE(text.find("out\nerr\n"), std::string::npos) << text;
}

TEST_F(SandboxTest, MountsVolumesWhereTheNodeHasNoFolder) {
  std::ofstream(folder_ / "file") << "config\n";
  auto spec = shell("a",
                    "echo hi >/etc/istio/proxy/x && cat /etc/istio/proxy/x /var/run/secrets/t/f "
                    "/usr/share/postern-test/deep/f; (echo x >/var/run/secrets/t/f) 2>/dev/null || "
                    "echo ro; cat /etc/passwd | head -c 4; ls /usr/share | wc -l");
  ::chmod((folder_ / "volume").c_str(), 0777);
  spec.uid = 1337;
  spec.mounts = {{folder_ / "volume", "/etc/istio/proxy", false},
                 {folder_ / "file", "/var/run/secrets/t/f", true},
                 {folder_ / "file", "/usr/share/postern-test/deep/f", true}};
  EXPECT_EQ(run(spec), 0);
  EXPECT_TRUE(log("a").starts_with("hi\nconfig\nconfig\nro\nroot")) << log("a");
  EXPECT_FALSE(fs::exists("/etc/istio/proxy"));
  EXPECT_FALSE(fs::exists("/usr/share/postern-test"));
  EXPECT_TRUE(fs::exists(folder_ / "volume" / "x"));
  spec.id = "b";
  spec.mounts = {{folder_ / "none", "/x", false}};
  EXPECT_EQ(start(spec), (folder_ / "none").string() + " does not exist");
}

TEST_F(SandboxTest, EndsWhatAContainerLeftBehind) {
  EXPECT_EQ(run(shell("a", "sleep 1000 & echo started")), 0);
  // What was killed may take a moment to be gone.
  EXPECT_EQ(
      run(shell(
          "b",
          "left() { ps ax -o args | grep -c '^sleep 1000' || true; }; for i in $(seq 100); do "
          "[ $(left) = 0 ] && break; sleep 0.02; done; left")),
      0);
  EXPECT_EQ(log("b"), "0\n");
}

TEST_F(SandboxTest, ExecutesInARunningContainer) {
  ASSERT_EQ(start(shell("a", "echo mine >/tmp/mark; exec sleep 1000")), "");
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  const base::Fd reader(ends[0]);
  ExecSpec exec;
  exec.container = "a";
  exec.argv = {"sh", "-c", "sleep 0.05; cat /tmp/mark; echo err >/dev/stdout; exit 3"};
  exec.streams[1] = base::Fd(ends[1]);
  long long id = 0;
  sandbox_->exec(std::move(exec), [&](auto done) { id = done ? done->id : -1; });
  ASSERT_TRUE(until([&] { return watcher_.exec_codes.contains(id); }));
  EXPECT_EQ(watcher_.exec_codes[id], 3);
  char text[64] = {};
  ASSERT_GT(::read(reader.get(), text, sizeof(text) - 1), 0);
  EXPECT_STREQ(text, "mine\nerr\n");
}

TEST_F(SandboxTest, ExecutesOnATerminal) {
  ASSERT_EQ(start(shell("a", "exec sleep 1000")), "");
  ExecSpec exec;
  exec.container = "a";
  exec.argv = {"sh", "-c", "tty; exit 4"};
  exec.terminal = true;
  base::Fd master;
  long long id = 0;
  sandbox_->exec(std::move(exec), [&](auto done) {
    if (!done) return;
    id = done->id;
    master = std::move(done->terminal);
  });
  ASSERT_TRUE(until([&] { return watcher_.exec_codes.contains(id); }));
  ASSERT_TRUE(master);
  char text[64] = {};
  ASSERT_GT(::read(master.get(), text, sizeof(text) - 1), 0);
  EXPECT_TRUE(std::string(text).starts_with("/dev/pts/")) << text;
}

TEST_F(SandboxTest, AttachesToInputAndOutput) {
  auto spec = shell("a", "read line; echo got $line; sleep 1000");
  spec.open_stdin = true;
  ASSERT_EQ(start(spec), "");
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  const base::Fd reader(ends[0]);
  AttachSpec attach;
  attach.container = "a";
  attach.input = true;
  attach.streams[1] = base::Fd(ends[1]);
  base::Fd input;
  sandbox_->attach(std::move(attach), [&](auto done) {
    if (done) input = std::move(done->input);
  });
  ASSERT_TRUE(until([&] { return static_cast<bool>(input); }));
  ASSERT_EQ(::write(input.get(), "word\n", 5), 5);
  char text[64] = {};
  ASSERT_GT(::read(reader.get(), text, sizeof(text) - 1), 0);
  EXPECT_STREQ(text, "got word\n");
}

TEST_F(SandboxTest, IsFoundAgainWithWhatRanAndWhatEnded) {
  EXPECT_EQ(run(shell("a", "exit 5")), 5);
  ASSERT_EQ(start(shell("b", "exec sleep 1000")), "");
  sandbox_.reset();
  connect();
  ASSERT_EQ(watcher_.found.size(), 2u);
  EXPECT_EQ(watcher_.found[0].exit_code, 5);
  EXPECT_FALSE(watcher_.found[0].running);
  EXPECT_TRUE(watcher_.found[1].running);
  sandbox_->signal("b", SIGTERM);
  ASSERT_TRUE(until([&] { return watcher_.ended.contains("b"); }));
  EXPECT_EQ(watcher_.ended["b"].signal, SIGTERM);
  sandbox_->forget("b");
  EXPECT_EQ(start(shell("b", "exit 0")), "");
  sandbox_->stop();
  ASSERT_TRUE(until([&] { return !watcher_.lost.empty(); }));
  EXPECT_TRUE(until([&] { return !Sandbox::alive(identity_); }));
}

TEST_F(SandboxTest, KeepsRootWithoutTheCapabilitiesOfTheNode) {
  auto spec = shell("a",
                    "(echo 0 >/proc/sys/net/ipv4/ip_forward) 2>/dev/null || echo ro;"
                    "mount -t tmpfs x /mnt 2>/dev/null || echo no mount;"
                    "ls /proc/1/root/ 2>/dev/null | wc -l");
  EXPECT_EQ(run(spec), 0);
  EXPECT_EQ(log("a"), "ro\nno mount\n0\n");
}

TEST_F(SandboxTest, SaysWhyItCannotBeSetUp) {
  Sandbox::kill(identity_);
  SandboxSpec spec;
  spec.folder = folder_;
  spec.hostname = "x";
  spec.sysctls = {{"net.no.such", "1"}};
  auto made = Sandbox::spawn(spec, {"/proc/self/exe", kShimArgument});
  ASSERT_TRUE(made);
  identity_ = *made;
  connect();
  EXPECT_EQ(watcher_.lost, "cannot set sysctl net/no/such: No such file or directory");
}

}  // namespace
}  // namespace postern::runtime

int main(int argc, char** argv) {
  if (argc > 1 && std::strcmp(argv[1], postern::runtime::kShimArgument) == 0) {
    return postern::runtime::shimMain(argc - 2, argv + 2);
  }
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
