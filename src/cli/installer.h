// Applying and removing sets of objects, and waiting for what they become. Server-side apply, so a
// run that was interrupted is completed by the next one, and fields that a person edited stay.
// Blocking.
#pragma once

#include "cli/terminal.h"
#include "kube/client.h"

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace postern::cli {

/// As long as Backyards waits for each of its components.
inline constexpr std::chrono::seconds kComponentPatience{120};

/// Error text, or nothing.
using Problem = base::ConfigResult<void>;

class Installer {
 public:
  Installer(kube::Client& client, const Terminal& terminal)
      : client_(client), terminal_(terminal) {}

  /// Fails unless the cluster carries the mark of a local postern cluster.
  Problem requireLocalCluster();
  Problem applyAll(const std::vector<json::Json>& objects);
  /// In reverse order; absent ones are fine. `removed` counts the others.
  Problem removeAll(const std::vector<json::Json>& objects, int& removed);
  /// Asks until it is true; `detail` may be set to what is missing.
  using Question = std::function<bool(std::string& detail)>;
  Problem await(const std::string& what, const Question& question,
                std::chrono::seconds patience = kComponentPatience);

  bool crdEstablished(const std::string& name, std::string& detail);
  bool deploymentAvailable(const std::string& ns, const std::string& name, std::string& detail);
  /// The mesh resource says Available.
  bool meshAvailable(std::string& detail);
  bool exists(const json::Json& object);

  /// The served resource of an object's apiVersion and kind.
  base::ConfigResult<kube::ResourceType> typeOf(const json::Json& object);
  kube::Client& client() { return client_; }
  const Terminal& terminal() const { return terminal_; }

 private:
  /// What keeps a pod of the namespace from running, if anything says so.
  std::string podProblem(const std::string& ns);

  kube::Client& client_;
  const Terminal& terminal_;
  std::map<std::string, json::Json> discovered_;  // by apiVersion
};

/// "Deployment istio-system/istiod" of an object.
std::string nameOf(const json::Json& object);
Problem problem(const kube::ApiError& error, const std::string& what);

}  // namespace postern::cli
