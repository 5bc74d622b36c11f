// For tests only: network namespaces. Everything made in them ends with the child process.
#pragma once

#include "base/fd.h"
#include "base/function.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

namespace postern::network::test {

enum class As : unsigned char { kRoot, kUser };

inline constexpr int kNotAllowed = 77;
inline constexpr uid_t kNobody = 65534;

inline bool writeFile(const char* path, const std::string& text) {
  const base::Fd fd(::open(path, O_WRONLY | O_CLOEXEC));
  return fd && ::write(fd.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size());
}

/// An ordinary user who is root of a new user namespace: nothing but the own uid is mapped.
inline bool becomeUserRoot() {
  if (::getuid() == 0) {
    if (::setgroups(0, nullptr) != 0 || ::setresgid(kNobody, kNobody, kNobody) != 0 ||
        ::setresuid(kNobody, kNobody, kNobody) != 0) {
      return false;
    }
    ::prctl(PR_SET_DUMPABLE, 1);  // else /proc/self is not ours
  }
  const std::string uid = std::to_string(::getuid());
  const std::string gid = std::to_string(::getgid());
  return ::unshare(CLONE_NEWUSER) == 0 && writeFile("/proc/self/setgroups", "deny") &&
         writeFile("/proc/self/uid_map", "0 " + uid + " 1") &&
         writeFile("/proc/self/gid_map", "0 " + gid + " 1");
}

/// For whom tests run. Not as a user under ThreadSanitizer: its own thread is in the process, and
/// only a process of one thread may make a user namespace (unshare(2)).
inline std::vector<As> everybody() {
#ifdef __SANITIZE_THREAD__
  return {As::kRoot};
#else
  return {As::kRoot, As::kUser};
#endif
}

/// Runs `body` in a child process with a network namespace of its own. The child's failed
/// expectations fail the caller's test; without the right to make namespaces the test is skipped.
inline void inNamespaces(As who, const base::Function<void()>& body) {
  std::fflush(nullptr);
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (who == As::kUser && !becomeUserRoot()) ::_exit(kNotAllowed);
    if (::unshare(CLONE_NEWNET) != 0) ::_exit(kNotAllowed);
    body();
    std::fflush(nullptr);
    ::_exit(::testing::Test::HasFailure() ? 1 : 0);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status)) << "the child was killed by signal " << WTERMSIG(status);
  if (WEXITSTATUS(status) == kNotAllowed) GTEST_SKIP() << "may not make namespaces here";
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

/// The calling thread's network namespace.
inline base::Fd currentNamespace() {
  return base::Fd(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
}

/// A new network namespace, not entered.
inline base::Fd newNamespace() {
  const base::Fd home = currentNamespace();
  if (::unshare(CLONE_NEWNET) != 0) return {};
  base::Fd out = currentNamespace();
  if (::setns(home.get(), CLONE_NEWNET) != 0) std::abort();
  return out;
}

}  // namespace postern::network::test
