#include "operator/mesh_config.h"

#include "operator/mesh_defaults.h"

#include <nlohmann/json.hpp>

namespace postern::op {

using json::Json;

Json meshConfigMap(const Json& mesh, const Json& spec) {
  const std::string ns = json::stringAt(mesh, "metadata.namespace");
  Json config = {{"accessLogFile", json::stringAt(spec, "proxy.accessLogFile")},
                 {"accessLogFormat", json::stringAt(spec, "proxy.accessLogFormat")},
                 {"accessLogEncoding", json::stringAt(spec, "proxy.accessLogEncoding", "TEXT")},
                 {"connectTimeout", "10s"},
                 {"enableAutoMtls", json::boolAt(spec, "autoMtls")},
                 {"ingressClass", "istio"},
                 {"ingressService", kIngressName},
                 {"outboundTrafficPolicy",
                  {{"mode", json::stringAt(spec, "outboundTrafficPolicy.mode", "ALLOW_ANY")}}},
                 {"rootNamespace", ns},
                 {"trustDomain", json::stringAt(spec, "trustDomain", "cluster.local")},
                 {"defaultConfig",
                  {{"configPath", "/etc/istio/proxy"},
                   {"discoveryAddress", "istiod." + ns + ".svc:15012"},
                   {"drainDuration", "45s"},
                   {"proxyAdminPort", 15000},
                   {"serviceCluster", "istio-proxy"},
                   {"statusPort", 15020}}}};
  return {{"apiVersion", "v1"},
          {"kind", "ConfigMap"},
          {"metadata",
           {{"name", "istio"},
            {"namespace", ns},
            {"labels", {{"app", "istio"}}},
            {"ownerReferences", Json::array({{{"apiVersion", "istio.banzaicloud.io/v1beta1"},
                                              {"kind", "Istio"},
                                              {"name", json::stringAt(mesh, "metadata.name")},
                                              {"uid", json::stringAt(mesh, "metadata.uid")},
                                              {"controller", true},
                                              {"blockOwnerDeletion", true}}})}}},
          {"data", {{"mesh", json::dumpYaml(config)}, {"meshNetworks", "networks: {}\n"}}}};
}

}  // namespace postern::op
