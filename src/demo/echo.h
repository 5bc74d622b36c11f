// The echo server of the walkthrough: answers every request with a plain text description of it, in
// the shape of the Kubernetes test image "echoserver". Stateless; runs on the server's loop.
#pragma once

#include "http/server.h"

#include <string>

namespace postern::demo {

struct EchoIdentity {
  std::string hostname;
  std::string node_name;  // these four are printed when the pod name is known
  std::string pod_name;
  std::string pod_namespace;
  std::string pod_ip;
};

/// From HOSTNAME (else the host's name) and the variables NODE_NAME, POD_NAME, POD_NAMESPACE,
/// POD_IP.
EchoIdentity echoIdentityFromEnvironment();

std::string echoText(const EchoIdentity& identity, const http::Request& request);
http::Handler makeEcho(EchoIdentity identity);

}  // namespace postern::demo
