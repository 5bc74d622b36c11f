// The volumes of a pod as folders of the node: made before its containers start, and brought up to
// date while it runs (ConfigMaps, Secrets, labels, service-account tokens). Blocking, any thread,
// one at a time per pod.
#pragma once

#include "kube/client.h"
#include "node/pod_fields.h"

#include <cstdint>
#include <expected>
#include <map>
#include <memory>
#include <string>

namespace postern::node {

/// A ConfigMap or Secret; null when there is none, an error when that is not known.
std::expected<std::shared_ptr<const json::Json>, std::string> fetchObject(
    kube::Client& client, const kube::ResourceType& type, const std::string& ns,
    const std::string& name);

class Volumes {
 public:
  Volumes(kube::Client& client, std::string folder) : client_(client), folder_(std::move(folder)) {}

  /// Makes or updates all; the error is a text for an event.
  std::expected<void, std::string> update(const json::Json& pod, const PodFacts& facts);
  /// Name → folder or file, after update().
  const std::map<std::string, std::string>& paths() const { return paths_; }
  /// token, ca.crt and namespace; empty when the pod wants none.
  const std::string& serviceAccountDir() const { return service_account_dir_; }

 private:
  struct Token {
    std::string text;
    std::int64_t issued_ms = 0;
    std::int64_t expires_ms = 0;
  };
  using Done = std::expected<void, std::string>;
  Done volume(const json::Json& pod, const json::Json& volume, const PodFacts& facts);
  Done emptyDir(const json::Json& pod, const std::string& name);
  Done hostPath(const json::Json& source, const std::string& name);
  Done serviceAccount(const json::Json& pod);
  std::expected<std::string, std::string> token(const json::Json& pod, const std::string& audience,
                                                long long seconds);

  kube::Client& client_;
  std::string folder_;
  std::map<std::string, std::string> paths_;
  std::string service_account_dir_;
  std::map<std::string, Token> tokens_;  // by audience and lifetime
};

}  // namespace postern::node
