// Defaults and checks of built-in kinds that controllers and kubectl rely on, and the allocation of
// cluster IPs and node ports. Loop thread.
#pragma once

#include "apiserver/status.h"
#include "store/store.h"

#include <string>

namespace postern::apiserver {

struct ServiceRanges {
  std::string service_cidr = "10.96.0.0/16";
  int node_port_first = 30000;
  int node_port_last = 32767;
};

/// Fills in what a client left out. `old` is null on create.
void applyBuiltinDefaults(const schema::Kind& kind, Json& object);
/// Cluster IP and node ports of a Service.
ApiResult<bool> allocateService(const store::Store& store, const ServiceRanges& ranges,
                                Json& service, const Json* old);
/// Values that are wrong whatever the schema says; few, those that people run into.
std::vector<schema::Cause> validateBuiltin(const schema::Kind& kind, const Json& object,
                                           const Json* old);
std::vector<schema::Cause> validateName(const schema::Kind& kind, const std::string& name);
/// Brings an object of an older served version to the stored one, and back.
void convertToStored(const schema::Kind& kind, const std::string& version, Json& object);
void convertFromStored(const schema::Kind& kind, const std::string& version, Json& object);

}  // namespace postern::apiserver
