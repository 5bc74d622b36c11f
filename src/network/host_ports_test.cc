#include "network/host_ports.h"

#include <gtest/gtest.h>

namespace postern::network {
namespace {

TEST(HostPorts, SaysNothingOfPortsThatAreServedAsTheyStand) {
  const std::vector<RelayOutcome> outcomes{{"a/b", "127.77.0.1", 80, 80, ""}};
  EXPECT_EQ(hostPortsAnnotation(outcomes), "");
  EXPECT_EQ(hostPortsMessage(outcomes), "");
}

TEST(HostPorts, NamesMovedAndMissingPorts) {
  const std::vector<RelayOutcome> outcomes{{"a/b", "127.77.0.1", 80, 10080, "moved"},
                                           {"a/b", "127.77.0.1", 8000, 8000, ""},
                                           {"a/b", "127.77.0.1", 9000, 0, "taken"}};
  EXPECT_EQ(hostPortsAnnotation(outcomes), R"({"80":10080,"9000":0})");
  EXPECT_EQ(hostPortsMessage(outcomes), "moved; taken");
}

}  // namespace
}  // namespace postern::network
