// The mesh's root certificate: kept in the Secret `istio-ca-secret` of the mesh namespace, made
// once, read again after a restart; its public half goes to the ConfigMap `istio-ca-root-cert` of
// every namespace, where proxies find it.
#pragma once

#include "kube/client.h"
#include "kube/informer.h"
#include "tls/x509.h"

#include <memory>
#include <string>

namespace postern::control {

/// Reads the root from the cluster or creates it. Two control planes that race agree: the loser
/// reads the winner's.
base::ConfigResult<tls::KeyPair> loadOrCreateRoot(kube::Client& client,
                                                  const std::string& mesh_namespace);

/// A serving certificate for the control plane's Service names.
base::Result<tls::KeyPair> issueServingCertificate(const tls::KeyPair& root,
                                                   const std::string& mesh_namespace);

/// Keeps the ConfigMap in every namespace, existing and new.
class RootDistributor {
 public:
  virtual ~RootDistributor() = default;
  static std::unique_ptr<RootDistributor> start(kube::Client& client, kube::Informer& namespaces,
                                                std::string root_pem);
};

}  // namespace postern::control
