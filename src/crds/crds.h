// The CustomResourceDefinitions of Istio's networking kinds and of the mesh's own, generated from
// the messages in api/ (their descriptors and the options of postern/schema.proto): one truth for
// what is parsed and what is admitted. The YAML in deploy/crds is this output, checked in;
// crds_test says when it is stale and rewrites it when asked. Pure.
#pragma once

#include "json/json.h"

#include <string>
#include <vector>

namespace postern::crds {

struct Definition {
  std::string file;  // "networking.istio.io_gateways.yaml"
  std::string yaml;
};

/// All definitions, by file name.
std::vector<Definition> definitions();

/// The structural schema of a message known by name ("istio.networking.v1alpha3.Gateway"); null
/// when it is not compiled in.
json::Json schemaOf(const std::string& message);

}  // namespace postern::crds
