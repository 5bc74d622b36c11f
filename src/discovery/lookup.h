// Answers of a snapshot to the validator's questions. Any thread.
#pragma once

#include "discovery/snapshot.h"
#include "model/findings.h"

#include <memory>

namespace postern::discovery {

class SnapshotLookup : public model::Lookup {
 public:
  explicit SnapshotLookup(std::shared_ptr<const Snapshot> snapshot)
      : snapshot_(std::move(snapshot)) {}
  const model::Gateway* gateway(std::string_view ns, std::string_view name) const override;
  bool hasHost(std::string_view host) const override;
  bool hasSubset(std::string_view host, std::string_view subset) const override;
  bool hasWorkload(const model::Labels& selector) const override;
  std::string meshRuleOf(std::string_view host) const override;
  std::string portTakenBy(const model::Gateway& gateway,
                          const model::Server& server) const override;

 private:
  std::shared_ptr<const Snapshot> snapshot_;
};

}  // namespace postern::discovery
