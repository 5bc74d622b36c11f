// The cluster's own certificate authority and keys, made once and kept in the data folder.
#pragma once

#include "base/error.h"
#include "base/function.h"

#include <string>
#include <vector>

namespace postern::apiserver {

struct Pki {
  std::string ca_pem;
  std::string server_certificate_pem;
  std::string server_key_pem;
  std::string admin_certificate_pem;
  std::string admin_key_pem;
  std::string token_key_pem;
  std::string token_public_pem;
};

/// Reads ca.crt, ca.key, apiserver.crt, …, sa.key below `folder`, and makes what is absent.
base::ConfigResult<Pki> loadOrMakePki(const std::string& folder,
                                      const std::vector<std::string>& server_ips);

}  // namespace postern::apiserver
