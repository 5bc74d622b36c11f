// The whole server over TLS on loopback. With POSTERN_APISERVER_TEST_DIR set, Server.Serves stays
// up for kubectl until the file "stop" appears there.
#include "apiserver/server.h"

#include "net/socket.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace postern::apiserver {
namespace {

TEST(Server, Serves) {
  const char* folder = std::getenv("POSTERN_APISERVER_TEST_DIR");
  if (folder == nullptr) GTEST_SKIP() << "only by hand, with POSTERN_APISERVER_TEST_DIR";
  event::Loop::blockSignals({});
  event::Loop loop;
  auto listener = net::listenSocket(net::Address::loopback(0));
  ASSERT_TRUE(listener);
  Options options;
  options.data_dir = folder;
  options.server_url = "https://" + net::localAddress(listener->get()).toString();
  options.listeners.push_back(std::move(*listener));
  auto server = Server::start(loop, std::move(options));
  ASSERT_TRUE(server) << server.error().message();
  std::ofstream(std::string(folder) + "/kubeconfig") << (*server)->adminKubeconfig();
  while (!std::filesystem::exists(std::string(folder) + "/stop")) {
    loop.runOnce(std::chrono::milliseconds(200));
  }
}

}  // namespace
}  // namespace postern::apiserver
