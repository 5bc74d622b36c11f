// What a hostile control plane can send: the bytes are a DiscoveryResponse; its resources go
// through the store as those of its type. A refused resource leaves a snapshot in force, and the
// error says which one it was.
#include "api/message.h"
#include "base/check.h"
#include "envoy/service/discovery/v3/discovery.pb.h"
#include "event/loop.h"
#include "proxy/config_store.h"

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

using namespace postern;         // NOLINT(google-build-using-namespace): a program of its own
using namespace postern::proxy;  // NOLINT(google-build-using-namespace)

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static event::Loop loop;
  envoy::service::discovery::v3::DiscoveryResponse response;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  if (bytes.find("filename") != std::string_view::npos) return 0;
  if (!api::parseBytes(bytes, response)) return 0;
  stats::Stats stats;
  ConfigStore::Options options;
  options.bind = false;
  std::shared_ptr<const Snapshot> snapshot;
  ConfigStore store(
      loop, stats.makeStore(), std::move(options),
      [&](std::shared_ptr<const Snapshot> published) { snapshot = std::move(published); },
      [](std::string_view, const std::set<std::string>&) {});
  store.expect(std::chrono::milliseconds(0), std::chrono::milliseconds(0));
  std::vector<postern::xds::Update> updates;
  for (int i = 0; i < response.resources_size(); ++i) {
    postern::xds::Update update;
    update.name = "r" + std::to_string(i);
    update.version = response.version_info();
    update.resource = &response.resources(i);
    updates.push_back(std::move(update));
  }
  const auto taken = store.update(response.type_url(), updates, {});
  if (!taken) POSTERN_CHECK(taken.error().message().find('r') != std::string::npos);
  (void)store.update(response.type_url(), {}, {"r0", "web"});
  loop.runOnce();
  return 0;
}
