// Needs the right to make namespaces; skips without it.
#include "runtime/sandbox.h"

#include <gtest/gtest.h>

#include <fstream>
#include <optional>
#include <string>

#include <sys/wait.h>
#include <unistd.h>

namespace postern::runtime {
namespace {

class SandboxTest : public testing::Test {
 protected:
  void SetUp() override {
    auto made = Sandbox::start("web-1");
    if (!made) GTEST_SKIP() << "may not make namespaces here: " << made.error().message();
    sandbox_.emplace(std::move(*made));
  }
  void TearDown() override {
    if (sandbox_) sandbox_->kill();
  }

  int exitCode(const ProcessSpec& spec) {
    const auto pid = sandbox_->run(spec);
    if (!pid) return -1;
    int status = 0;
    ::waitpid(*pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }

  std::optional<Sandbox> sandbox_;
};

TEST_F(SandboxTest, GivesHostnameUidEnvironmentAndOutput) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  const base::Fd reader(ends[0]);
  base::Fd writer(ends[1]);
  ProcessSpec spec;
  spec.argv = {"sh", "-c", "echo $(uname -n) $(id -u) $WHO; exit 7"};
  spec.env = {{"WHO", "me"}, {"PATH", "/usr/bin:/bin"}};
  spec.uid = spec.gid = 1337;
  spec.stdout_fd = writer.get();
  EXPECT_EQ(exitCode(spec), 7);
  writer.reset();
  char text[64] = {};
  ASSERT_GT(::read(reader.get(), text, sizeof(text) - 1), 0);
  EXPECT_STREQ(text, "web-1 1337 me\n");
}

TEST_F(SandboxTest, TellsMissingProgramsAndSignalsApart) {
  ProcessSpec spec;
  spec.argv = {"no-such-program"};
  EXPECT_EQ(exitCode(spec), 127);
  spec.argv = {"/etc/passwd"};
  EXPECT_EQ(exitCode(spec), 126);
  spec.argv = {"/bin/sh", "-c", "kill -9 $$"};
  EXPECT_EQ(exitCode(spec), 128 + 9);
  spec.argv = {};
  EXPECT_FALSE(sandbox_->run(spec));
}

TEST_F(SandboxTest, BindsFilesForOneProcessOnly) {
  const std::string file = testing::TempDir() + "sandbox_bind_" + std::to_string(::getpid());
  std::ofstream(file) << "bound\n";
  ProcessSpec spec;
  spec.argv = {"/bin/sh", "-c",
               "grep -q bound /etc/hostname && ! (echo x >>/etc/hostname) 2>/dev/null"};
  spec.mounts = {{file, "/etc/hostname", true}};
  EXPECT_EQ(exitCode(spec), 0);
  spec.mounts.clear();
  spec.argv[2] = "grep -q bound /etc/hostname";
  EXPECT_EQ(exitCode(spec), 1);
  spec.mounts = {{file, "/no/such/target"}};
  EXPECT_EQ(exitCode(spec), 126);
  ::unlink(file.c_str());
}

TEST_F(SandboxTest, KillEndsEverythingInside) {
  ProcessSpec spec;
  spec.argv = {"/bin/sleep", "600"};
  const auto pid = sandbox_->run(spec);
  ASSERT_TRUE(pid);
  sandbox_->kill();
  int status = 0;
  ASSERT_EQ(::waitpid(*pid, &status, 0), *pid);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_NE(WEXITSTATUS(status), 0);
}

}  // namespace
}  // namespace postern::runtime
