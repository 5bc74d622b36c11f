// The last accepted discovered configuration in a file, so that a proxy which starts while its
// control plane is away serves what it served before. Never holds a private key: resources that
// have one inside are left out, and secrets are no part of it. Main thread.
#pragma once

#include "base/error.h"
#include "event/loop.h"
#include "proxy/config_store.h"

#include <optional>
#include <string>
#include <vector>

namespace google::protobuf {
class Message;
}

namespace postern::proxy {

/// True when a private key, a password or a session key stands in the message or in an Any below.
bool holdsPrivateKey(const google::protobuf::Message& message);

/// "postern-saved-config 1 <SHA-256 of what follows>\n", the node's id and "\n", then one
/// DeltaDiscoveryResponse per type, each after its length (4 bytes, big endian).
std::string encodeSaved(const std::string& node_id, const std::vector<DynamicResources>& resources);
/// Refuses what is cut, changed, malformed or another node's.
base::ConfigResult<std::vector<DynamicResources>> decodeSaved(const std::string& bytes,
                                                              const std::string& node_id);

class SavedConfig {
 public:
  /// `folder` is made if it is not there; it must be writable.
  static base::ConfigResult<std::unique_ptr<SavedConfig>> open(event::Loop& loop,
                                                               const std::string& folder,
                                                               std::string node_id);
  SavedConfig(const SavedConfig&) = delete;
  SavedConfig& operator=(const SavedConfig&) = delete;
  /// What was saved; empty, with a warning in the log, when the file cannot be trusted.
  std::vector<DynamicResources> load() const;
  /// Writes the store's resources a little later, however often it is called until then.
  void changed(const ConfigStore& store);

 private:
  SavedConfig(event::Loop& loop, std::string folder, std::string node_id);
  void write();
  base::Result<void> replace(const std::string& bytes) const;

  const std::string path_;
  const std::string node_id_;
  const ConfigStore* store_ = nullptr;
  std::string written_;  // SHA-256 of what the file holds
  event::Timer timer_;
};

}  // namespace postern::proxy
