// The secrets of the process: those of the bootstrap, those discovered over ADS, those in files.
// Main thread. A secret that is refused leaves the last good one in force.
#pragma once

#include "base/error.h"
#include "event/loop.h"
#include "proxy/directory_watch.h"
#include "proxy/resource_text.h"
#include "proxy/tls_socket.h"
#include "stats/stats.h"

#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace google::protobuf {
class Message;
}

namespace postern::proxy {

class SecretStore final : public SecretSource {
 public:
  struct Record {
    std::shared_ptr<const envoy::extensions::transport_sockets::tls::v3::Secret> secret;  // or null
    ResourceText text;
    std::optional<ResourceError> error;
    base::MonotonicTime deadline = base::MonotonicTime::max();  // until it is waited for
    bool gone = false;  // the control plane says that there is none
    std::string file;   // of a secret in a file
    std::string directory;
  };
  using Records = std::map<std::string, Record, std::less<>>;

  /// `changed` is called when a file brought something new: sockets may be built anew.
  SecretStore(event::Loop& loop, stats::Store& stats, base::Function<void()> changed);

  base::ConfigResult<void> addStatic(
      const envoy::extensions::transport_sockets::tls::v3::Secret& message, const std::string& path,
      ResourceText text);
  /// One discovered over ADS; not wanted: without effect.
  base::ConfigResult<void> take(const google::protobuf::Message& message, ResourceText text);
  void fail(const std::string& name, ResourceError error);
  void removed(const std::string& name);

  /// What the sockets there are name. Begins to wait for new ones, forgets old ones.
  void follow(const std::vector<std::shared_ptr<TlsSocket>>& sockets);
  std::set<std::string> names() const;  // to ask for over ADS
  /// True while the secret is not there and its time is not over.
  bool waitsFor(const SecretUse& use) const;
  /// When the next wait is over; max: none.
  base::MonotonicTime nextDeadline() const;

  // ---- SecretSource ----
  const envoy::extensions::transport_sockets::tls::v3::Secret* find(
      const SecretUse& use) const override;
  std::shared_ptr<tls::TicketKeys> tickets() const override { return tickets_; }

  // ---- for the admin port ----
  const Records& fixed() const { return static_; }
  const Records& discovered() const { return ads_; }
  const Records& files() const { return files_; }

 private:
  const Record* record(const SecretUse& use) const;
  void loadFile(const std::string& name, Record& record);
  void onMoved(const std::string& directory);
  void count(std::string_view name, std::string_view counter);

  event::Loop& loop_;
  stats::Store& stats_;
  base::Function<void()> changed_;
  std::shared_ptr<tls::TicketKeys> tickets_;
  Records static_;
  Records ads_;
  Records files_;  // by file and name
  std::set<std::string> socket_directories_;
  DirectoryWatch watch_;
};

/// Replaces what a dump must not show: private keys, passwords, ticket keys, generic secrets; also
/// inside Any.
void redactSecrets(google::protobuf::Message& message);

}  // namespace postern::proxy
