// Reading the bootstrap the command line names. Main thread.
#pragma once

#include "base/error.h"
#include "proxy/options.h"

#include <memory>
#include <string>
#include <vector>

namespace envoy::config::bootstrap::v3 {
class Bootstrap;
}

namespace postern::proxy {

struct BootstrapFile {
  std::shared_ptr<const envoy::config::bootstrap::v3::Bootstrap> message;
  std::vector<std::string> unknown_fields;  // left out; only with allow_unknown_static_fields
};

/// --config-path with --config-yaml merged over it.
base::ConfigResult<BootstrapFile> readBootstrapFile(const Options& options);

}  // namespace postern::proxy
