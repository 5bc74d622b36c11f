// What tests of the whole proxy share: a control plane that serves what is put into it. For tests
// only.
#pragma once

#include "api/message.h"
#include "xds/server.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>

namespace postern::proxy {

using nlohmann::json;

/// Every proxy gets the same resources.
struct Source : xds::ResourceSource {
  std::expected<ProxyId, http::GrpcStatus> connected(const xds::NodeInfo& info,
                                                     const xds::Caller&) override {
    node = info;
    ++connections;
    return 1;
  }
  void disconnected(ProxyId) override {}
  void resources(ProxyId, std::string_view type_url, const Visit& visit) override {
    for (const auto& [name, bytes] : by_type[std::string(type_url)])
      visit(name, std::to_string(std::hash<std::string>()(bytes)), bytes);
  }
  void sent(ProxyId, std::string_view) override {}
  void acknowledged(ProxyId, std::string_view, std::string_view error) override {
    if (!error.empty()) last_error = error;
  }
  template <class T>
  void put(std::string_view type_url, const std::string& name, const json& value) {
    T message;
    const auto read = api::fromJson(value, message);
    ASSERT_TRUE(read) << read.error().message();
    by_type[std::string(type_url)][name] = api::serialize(message);
  }
  std::map<std::string, std::map<std::string, std::string>> by_type;
  xds::NodeInfo node;
  int connections = 0;
  std::string last_error;
};

inline json socketAddress(std::uint16_t port) {
  return {{"socket_address", {{"address", "127.0.0.1"}, {"port_value", port}}}};
}

inline json ads() {
  return {{"ads", json::object()}, {"initial_fetch_timeout", "0s"}, {"resource_api_version", "V3"}};
}

}  // namespace postern::proxy
