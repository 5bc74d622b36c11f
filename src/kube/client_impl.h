// The client's inner side, which the informer uses too. Internal to kube/.
#pragma once

#include "http/client.h"
#include "kube/client.h"

#include <memory>
#include <string>
#include <thread>

namespace postern::kube {

class ClientImpl final : public Client {
 public:
  static base::ConfigResult<std::unique_ptr<ClientImpl>> make(ClientConfig config);
  ~ClientImpl() override;

  ApiResult<json::Json> get(const ResourceType& type, std::string_view ns,
                            std::string_view name) override;
  ApiResult<json::Json> list(const ResourceType& type, std::string_view ns,
                             const ListOptions& options) override;
  ApiResult<json::Json> create(const ResourceType& type, std::string_view ns,
                               const json::Json& object, const WriteOptions& options) override;
  ApiResult<json::Json> update(const ResourceType& type, std::string_view ns,
                               const json::Json& object, const WriteOptions& options) override;
  ApiResult<json::Json> patch(const ResourceType& type, std::string_view ns, std::string_view name,
                              PatchType how, const json::Json& body,
                              const WriteOptions& options) override;
  ApiResult<json::Json> apply(const ResourceType& type, const json::Json& object,
                              const WriteOptions& options) override;
  ApiResult<json::Json> remove(const ResourceType& type, std::string_view ns, std::string_view name,
                               const DeleteOptions& options) override;
  ApiResult<json::Json> raw(std::string_view method, std::string_view path, std::string_view body,
                            std::string_view content_type) override;
  event::Loop& loop() override { return loop_; }
  const ClientConfig& config() const override { return config_; }

  /// On the loop thread only.
  http::Client& http() { return *http_; }
  /// Credentials and user agent. Any thread.
  http::HeaderMap requestHeaders() const;

 private:
  explicit ClientImpl(ClientConfig config) : config_(std::move(config)) {}
  base::ConfigResult<void> open();
  void runLoop();

  ClientConfig config_;
  event::Loop loop_;
  http::Client::Options options_;
  std::unique_ptr<http::Client> http_;  // made and destroyed on the loop thread
  std::thread thread_;
};

/// "a=b&c=d" of selectors, empty ones left out.
std::string selectorQuery(const ListOptions& options);
/// A Status object (or any other text) with a failing HTTP status, as an error.
ApiError errorFrom(int status, std::string_view body);

}  // namespace postern::kube
