// Answers of a snapshot to the validator's questions. Any thread.
#pragma once

#include "discovery/snapshot.h"
#include "model/validate.h"

#include <memory>

namespace postern::discovery {

class SnapshotLookup : public model::Lookup {
 public:
  explicit SnapshotLookup(std::shared_ptr<const Snapshot> snapshot)
      : snapshot_(std::move(snapshot)) {}
  bool hasGateway(std::string_view ns, std::string_view name) const override;
  bool hasHost(std::string_view host) const override;

 private:
  std::shared_ptr<const Snapshot> snapshot_;
};

}  // namespace postern::discovery
