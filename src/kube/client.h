// A Kubernetes REST client. One I/O thread of its own runs the connections and the informers; the
// calls below block the calling thread (never the I/O thread) and may be made from any other. Works
// against any Kubernetes.
#pragma once

#include "base/function.h"
#include "event/loop.h"
#include "kube/types.h"

#include <chrono>
#include <memory>
#include <string>

namespace postern::kube {

/// Where the API is and who we are.
struct ClientConfig {
  std::string server;  // "https://127.0.0.1:6443"
  std::string ca_pem;
  std::string client_certificate_pem;
  std::string client_key_pem;
  std::string token;
  std::string token_file;  // read again when it changes (projected tokens)
  std::string tls_server_name;
  std::string default_namespace = "default";
  std::string user_agent = "postern";

  /// From $KUBECONFIG or ~/.kube/config, current context unless one is named.
  static base::ConfigResult<ClientConfig> fromKubeconfig(std::string path = "",
                                                         std::string context = "");
  /// From KUBERNETES_SERVICE_HOST/PORT and /var/run/secrets/kubernetes.io/serviceaccount.
  static base::ConfigResult<ClientConfig> inCluster();
};

enum class PatchType : unsigned char { kJson, kMerge, kStrategic, kApply };

struct WriteOptions {
  std::string field_manager = "postern";
  std::string subresource;  // "status", "scale", …
  bool force = false;       // server-side apply
};
struct ListOptions {
  std::string label_selector;
  std::string field_selector;
};
struct DeleteOptions {
  std::string propagation = "Background";
  long long grace_seconds = -1;  // -1: the object's own
  std::string uid;               // precondition
};

class Client {
 public:
  virtual ~Client() = default;
  static base::ConfigResult<std::unique_ptr<Client>> make(ClientConfig config);

  virtual ApiResult<json::Json> get(const ResourceType& type, std::string_view ns,
                                    std::string_view name) = 0;
  virtual ApiResult<json::Json> list(const ResourceType& type, std::string_view ns,
                                     const ListOptions& options = {}) = 0;
  virtual ApiResult<json::Json> create(const ResourceType& type, std::string_view ns,
                                       const json::Json& object,
                                       const WriteOptions& options = {}) = 0;
  virtual ApiResult<json::Json> update(const ResourceType& type, std::string_view ns,
                                       const json::Json& object,
                                       const WriteOptions& options = {}) = 0;
  virtual ApiResult<json::Json> patch(const ResourceType& type, std::string_view ns,
                                      std::string_view name, PatchType how, const json::Json& body,
                                      const WriteOptions& options = {}) = 0;
  /// Server-side apply of a whole object (its apiVersion and kind are filled in from `type` when
  /// absent).
  virtual ApiResult<json::Json> apply(const ResourceType& type, const json::Json& object,
                                      const WriteOptions& options = {}) = 0;
  virtual ApiResult<json::Json> remove(const ResourceType& type, std::string_view ns,
                                       std::string_view name,
                                       const DeleteOptions& options = {}) = 0;
  /// Any request; the answer's body parsed as JSON (or as a string value when it is not JSON).
  virtual ApiResult<json::Json> raw(std::string_view method, std::string_view path,
                                    std::string_view body = "",
                                    std::string_view content_type = "application/json") = 0;

  /// The I/O loop, for informers and for those who post work to it.
  virtual event::Loop& loop() = 0;
  virtual const ClientConfig& config() const = 0;
};

}  // namespace postern::kube
