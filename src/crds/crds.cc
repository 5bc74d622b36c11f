#include "crds/crds.h"

#include "banzai/istio/v1beta1/istio.pb.h"
#include "banzai/istio/v1beta1/mesh_gateway.pb.h"
#include "istio/meta/v1alpha1/status.pb.h"
#include "istio/networking/v1alpha3/destination_rule.pb.h"
#include "istio/networking/v1alpha3/gateway.pb.h"
#include "istio/networking/v1alpha3/service_entry.pb.h"
#include "istio/networking/v1alpha3/sidecar.pb.h"
#include "istio/networking/v1alpha3/virtual_service.pb.h"
#include "istio/networking/v1alpha3/workload_entry.pb.h"

#include <nlohmann/json.hpp>

namespace postern::crds {
namespace {

using json::Json;

struct Column {
  const char* name;
  const char* path;
  const char* type = "string";
};
constexpr Column kAge{"Age", ".metadata.creationTimestamp", "date"};

struct Kind {
  std::string group;
  std::string kind;
  std::string plural;
  std::string short_name;
  std::vector<std::string> versions;  // the first is stored
  std::string spec;
  std::string status;
  std::vector<Column> columns;
  bool spec_required = false;
};

std::string lower(std::string text) {
  for (char& c : text) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return text;
}

std::vector<Kind> kinds() {
  namespace net = istio::networking::v1alpha3;
  namespace mesh = banzai::istio::v1beta1;
  const std::string istio_group = "networking.istio.io";
  const std::string mesh_group = "istio.banzaicloud.io";
  const std::vector<std::string> istio_versions{"v1", "v1beta1", "v1alpha3"};
  const std::string istio_status = istio::meta::v1alpha1::IstioStatus::descriptor()->full_name();
  const std::string mesh_status = mesh::Status::descriptor()->full_name();
  return {
      {istio_group,
       "Gateway",
       "gateways",
       "gw",
       istio_versions,
       net::Gateway::descriptor()->full_name(),
       istio_status,
       {}},
      {istio_group,
       "VirtualService",
       "virtualservices",
       "vs",
       istio_versions,
       net::VirtualService::descriptor()->full_name(),
       istio_status,
       {{"Gateways", ".spec.gateways"}, {"Hosts", ".spec.hosts"}, kAge}},
      {istio_group,
       "DestinationRule",
       "destinationrules",
       "dr",
       istio_versions,
       net::DestinationRule::descriptor()->full_name(),
       istio_status,
       {{"Host", ".spec.host"}, kAge}},
      {istio_group,
       "ServiceEntry",
       "serviceentries",
       "se",
       istio_versions,
       net::ServiceEntry::descriptor()->full_name(),
       net::ServiceEntryStatus::descriptor()->full_name(),
       {{"Hosts", ".spec.hosts"},
        {"Location", ".spec.location"},
        {"Resolution", ".spec.resolution"},
        kAge},
       true},
      {istio_group,
       "WorkloadEntry",
       "workloadentries",
       "we",
       istio_versions,
       net::WorkloadEntry::descriptor()->full_name(),
       istio_status,
       {kAge, {"Address", ".spec.address"}},
       true},
      {istio_group,
       "Sidecar",
       "sidecars",
       "",
       istio_versions,
       net::Sidecar::descriptor()->full_name(),
       istio_status,
       {}},
      // GATEWAYS is the column's name in the article (operator 0.4.6 and before; "Ingress IPs"
      // since).
      {mesh_group,
       "Istio",
       "istios",
       "",
       {"v1beta1"},
       mesh::IstioSpec::descriptor()->full_name(),
       mesh_status,
       {{"Status", ".status.Status"},
        {"Error", ".status.ErrorMessage"},
        {"Gateways", ".status.GatewayAddress"},
        kAge}},
      {mesh_group,
       "MeshGateway",
       "meshgateways",
       "mgw",
       {"v1beta1"},
       mesh::MeshGatewaySpec::descriptor()->full_name(),
       mesh_status,
       {{"Type", ".spec.type"},
        {"Service Type", ".spec.serviceType"},
        {"Status", ".status.Status"},
        {"Ingress IPs", ".status.GatewayAddress"},
        {"Error", ".status.ErrorMessage"},
        kAge},
       true},
  };
}

Json definition(const Kind& kind) {
  Json names = {{"kind", kind.kind},
                {"listKind", kind.kind + "List"},
                {"plural", kind.plural},
                {"singular", lower(kind.kind)}};
  if (!kind.short_name.empty()) names["shortNames"] = {kind.short_name};
  if (kind.group == "networking.istio.io")
    names["categories"] = {"istio-io", "networking-istio-io"};
  Json root = {{"type", "object"},
               {"properties", {{"spec", schemaOf(kind.spec)}, {"status", schemaOf(kind.status)}}}};
  // Analysers of other programs may say more than the message declares, as in Istio's own
  // definitions.
  if (kind.group == "networking.istio.io") {
    root["properties"]["status"]["x-kubernetes-preserve-unknown-fields"] = true;
  }
  if (kind.spec_required) root["required"] = {"spec"};
  Json columns = Json::array();
  for (const Column& column : kind.columns) {
    columns.push_back({{"name", column.name}, {"type", column.type}, {"jsonPath", column.path}});
  }
  Json versions = Json::array();
  for (std::size_t i = 0; i < kind.versions.size(); ++i) {
    versions.push_back({{"name", kind.versions[i]},
                        {"served", true},
                        {"storage", i == 0},
                        {"subresources", {{"status", Json::object()}}},
                        {"schema", {{"openAPIV3Schema", root}}}});
    if (!columns.empty()) versions.back()["additionalPrinterColumns"] = columns;
  }
  return {
      {"apiVersion", "apiextensions.k8s.io/v1"},
      {"kind", "CustomResourceDefinition"},
      {"metadata",
       {{"name", kind.plural + "." + kind.group},
        {"labels", {{"app.kubernetes.io/part-of", "postern"}}}}},
      {"spec",
       {{"group", kind.group}, {"names", names}, {"scope", "Namespaced"}, {"versions", versions}}}};
}

}  // namespace

std::vector<Definition> definitions() {
  std::vector<Definition> out;
  for (const Kind& kind : kinds()) {
    out.push_back({kind.group + "_" + kind.plural + ".yaml", json::dumpYaml(definition(kind))});
  }
  return out;
}

}  // namespace postern::crds
