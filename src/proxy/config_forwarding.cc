// Of a connection manager: whose address counts, what is added to and taken from headers.
#include "base/strings.h"
#include "envoy/config/core/v3/address.pb.h"
#include "envoy/config/core/v3/extension.pb.h"
#include "envoy/config/core/v3/protocol.pb.h"
#include "envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager.pb.h"
#include "envoy/extensions/http/early_header_mutation/header_mutation/v3/header_mutation.pb.h"
#include "envoy/extensions/http/original_ip_detection/custom_header/v3/custom_header.pb.h"
#include "envoy/extensions/http/original_ip_detection/xff/v3/xff.pb.h"
#include "net/machine_address.h"
#include "proxy/config_http_options.h"
#include "proxy/config_matchers.h"

namespace postern::proxy {

namespace core = envoy::config::core::v3;
namespace hcm = envoy::extensions::filters::network::http_connection_manager::v3;
namespace detection = envoy::extensions::http::original_ip_detection;
namespace mutation = envoy::extensions::http::early_header_mutation::header_mutation::v3;

using Message = hcm::HttpConnectionManager;

namespace {

std::vector<net::Cidr> readTrustedRanges(const Repeated<core::CidrRange>& messages,
                                         const Place& place, const char* name) {
  std::vector<net::Cidr> out;
  for (int i = 0; i < messages.size(); ++i) {
    const unsigned bits = messages[i].has_prefix_len() ? messages[i].prefix_len().value() : 0;
    if (auto range = net::Cidr::make(messages[i].address_prefix(), bits)) {
      out.push_back(*range);
    } else {
      place.item(name, i).fail("address_prefix", "is not a valid range");
    }
  }
  return out;
}

IpDetection readXff(const google::protobuf::Any& any, const Place& place) {
  IpDetection out;
  detection::xff::v3::XffConfig message;
  if (!place.unpack(any, message)) return out;
  out.hops = message.xff_num_trusted_hops();
  if (message.has_xff_trusted_cidrs()) {
    if (out.hops > 0)
      place.fail("xff_trusted_cidrs", "cannot be set together with xff_num_trusted_hops");
    out.trusted = readTrustedRanges(message.xff_trusted_cidrs().cidrs(),
                                    place.field("xff_trusted_cidrs"), "cidrs");
    if (out.trusted.empty()) place.fail("xff_trusted_cidrs.cidrs", "is required");
  }
  out.skip_append = !message.has_skip_xff_append() || message.skip_xff_append().value();
  return out;
}

IpDetection readCustomHeader(const google::protobuf::Any& any, const Place& place) {
  IpDetection out;
  detection::custom_header::v3::CustomHeaderConfig message;
  if (!place.unpack(any, message)) return out;
  out.header = base::toLower(message.header_name());
  if (out.header.empty()) place.fail("header_name", "is required");
  out.trusted_address = message.allow_extension_to_set_address_as_trusted();
  if (message.has_reject_with_status()) {
    const int code = message.reject_with_status().code();
    out.reject_status = code >= 400 && code < 512 ? code : 403;
  }
  return out;
}

void readDetections(const Message& message, const Place& place, HttpManager& out) {
  for (int i = 0; i < message.original_ip_detection_extensions_size(); ++i) {
    const auto& any = message.original_ip_detection_extensions(i).typed_config();
    const Place typed = place.item("original_ip_detection_extensions", i).field("typed_config");
    const std::string_view type = typeName(any);
    if (type == detection::xff::v3::XffConfig::descriptor()->full_name()) {
      out.ip_detections.push_back(readXff(any, typed));
    } else if (type ==
               detection::custom_header::v3::CustomHeaderConfig::descriptor()->full_name()) {
      out.ip_detections.push_back(readCustomHeader(any, typed));
    } else {
      typed.fail("\"" + any.type_url() + "\" is not a supported detection");
    }
  }
  if (out.ip_detections.empty()) return;
  if (out.use_remote_address)
    place.fail("use_remote_address",
               "cannot be set together with original_ip_detection_extensions");
  if (out.trusted_hops > 0) {
    place.fail("xff_num_trusted_hops",
               "cannot be set together with original_ip_detection_extensions");
  }
}

void readMutations(const Message& message, const Place& place, HttpManager& out) {
  for (int i = 0; i < message.early_header_mutation_extensions_size(); ++i) {
    const auto& any = message.early_header_mutation_extensions(i).typed_config();
    const Place typed = place.item("early_header_mutation_extensions", i).field("typed_config");
    mutation::HeaderMutation config;
    if (typeName(any) != config.GetDescriptor()->full_name()) {
      typed.fail("\"" + any.type_url() + "\" is not a supported mutation");
      continue;
    }
    if (!typed.unpack(any, config)) continue;
    for (int k = 0; k < config.mutations_size(); ++k) {
      const auto& each = config.mutations(k);
      const Place at = typed.item("mutations", k);
      EarlyMutation step;
      if (each.has_append()) {
        step.ops.add.push_back(readHeaderOp(each.append(), at.field("append")));
      } else if (each.has_remove_on_match()) {
        step.by_name = true;
        step.name = readString(each.remove_on_match().key_matcher(),
                               at.field("remove_on_match").field("key_matcher"));
      } else {
        const std::string name = base::toLower(each.remove());
        if (name.empty() || name.starts_with(':') || name == "host")
          at.fail("remove", "\"" + name + "\" cannot be removed");
        step.ops.remove.push_back(name);
      }
      out.early_mutations.push_back(std::move(step));
    }
  }
}

void readCertificates(const Message& message, const Place& place, HttpManager& out) {
  constexpr ClientCertificate kModes[] = {
      ClientCertificate::kSanitize, ClientCertificate::kForwardOnly,
      ClientCertificate::kAppendForward, ClientCertificate::kSanitizeSet,
      ClientCertificate::kAlwaysForwardOnly};
  if (message.forward_client_cert_details() > 4)
    return place.fail("forward_client_cert_details", "is not a known value");
  out.client_certificate = kModes[message.forward_client_cert_details()];
  const auto& details = message.set_current_client_cert_details();
  out.certificate_details = {details.subject().value(), details.cert(), details.dns(),
                             details.uri()};
}

}  // namespace

void readForwarding(const Message& message, const Place& place, HttpManager& out) {
  out.use_remote_address = message.use_remote_address().value();
  out.trusted_hops = message.xff_num_trusted_hops();
  out.skip_xff_append = message.skip_xff_append();
  out.append_forwarded_port = message.append_x_forwarded_port();
  out.add_user_agent = message.add_user_agent().value();
  out.via = message.via();
  out.machine_ip = net::machineIp();
  if (message.has_scheme_header_transformation()) {
    out.scheme_overwrite = message.scheme_header_transformation().scheme_to_overwrite();
    out.scheme_of_upstream = message.scheme_header_transformation().match_upstream();
    if (!out.scheme_overwrite.empty() && out.scheme_overwrite != "http" &&
        out.scheme_overwrite != "https") {
      place.fail("scheme_header_transformation.scheme_to_overwrite", "must be http or https");
    }
  }
  if (message.has_internal_address_config()) {
    out.internal_unix = message.internal_address_config().unix_sockets();
    out.internal_ranges = readTrustedRanges(message.internal_address_config().cidr_ranges(),
                                            place.field("internal_address_config"), "cidr_ranges");
  }
  readDetections(message, place, out);
  readMutations(message, place, out);
  readCertificates(message, place, out);
}

}  // namespace postern::proxy
