// Needs the right to make network namespaces; skips without it. All links live in namespaces that
// end with the child process.
#include "network/netlink.h"

#include "base/fd.h"

#include <gtest/gtest.h>

#include <fcntl.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

namespace postern::network {
namespace {

base::Fd ownNamespace() { return base::Fd(::open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC)); }

bool buildPod() {
  const base::Fd node = ownNamespace();
  if (::unshare(CLONE_NEWNET) != 0) return false;
  const base::Fd pod = ownNamespace();
  if (::setns(node.get(), CLONE_NEWNET) != 0) return false;
  auto outer = Netlink::open();
  if (!outer) return false;
  const bool node_done = outer->addBridge("br0") && outer->addAddress("br0", "10.244.0.1", 24) &&
                         outer->addVeth("pod1", {"eth0", pod.get()}) &&
                         outer->attach("pod1", "br0") && outer->setUp("pod1") &&
                         outer->setUp("br0");
  if (!node_done || ::setns(pod.get(), CLONE_NEWNET) != 0) return false;
  auto inner = Netlink::open();
  return inner && inner->setUp("lo") && inner->setUp("eth0") &&
         inner->addAddress("eth0", "10.244.0.2", 24) &&
         inner->addRoute("0.0.0.0", 0, "10.244.0.1", "eth0") &&
         !inner->addAddress("eth0", "not an address", 24) && !inner->setUp("absent") &&
         inner->removeLink("eth0");
}

TEST(Netlink, BuildsThePodNetwork) {
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    if (::unshare(CLONE_NEWNET) != 0) ::_exit(77);
    ::_exit(buildPod() ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status));
  if (WEXITSTATUS(status) == 77) GTEST_SKIP() << "may not make network namespaces here";
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

}  // namespace
}  // namespace postern::network
