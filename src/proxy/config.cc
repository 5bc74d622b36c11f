#include "proxy/config.h"

#include "api/message.h"
#include "base/strings.h"
#include "envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager.pb.h"
#include "envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy.pb.h"
#include "proxy/config_http.h"
#include "proxy/config_reader.h"

namespace postern::proxy {

namespace {

Endpoint readEndpoint(Fields fields) {
  Fields socket = fields.message("socket_address");
  Endpoint out{socket.text("address"),
               static_cast<std::uint16_t>(socket.number("port_value", 0, 65535))};
  if (out.host.empty()) socket.fail("address", "is required");
  socket.accept({"protocol"});
  socket.finish();
  fields.finish();
  return out;
}

net::Address readAddress(Fields fields) {
  const std::string path = fields.path();
  ConfigErrors& errors = fields.errors();
  const Endpoint endpoint = readEndpoint(std::move(fields));
  auto address = net::Address::fromIp(endpoint.host, endpoint.port);
  if (!address) errors.add(path, "must be an IP address");
  return address.value_or(net::Address());
}

std::vector<AccessLogConfig> readLogs(Fields& owner) {
  envoy::extensions::filters::network::tcp_proxy::v3::TcpProxy message;
  const json* logs = owner.get("access_log");
  if (logs == nullptr) return {};
  if (auto read = api::fromJson({{"access_log", *logs}}, message); !read) {
    owner.fail("access_log", read.error().message());
    return {};
  }
  auto out = buildAccessLogs(message.access_log(), owner.path() + ".access_log");
  if (out) return std::move(*out);
  owner.errors().add(out.error().path, out.error().text);
  return {};
}

TcpProxy readTcp(Fields fields) {
  TcpProxy out;
  fields.accept({"@type", "stat_prefix"});
  if (fields.get("cluster") != nullptr) out.clusters.push_back({fields.text("cluster"), 1});
  Fields weighted = fields.message("weighted_clusters");
  weighted.list("clusters", [&](Fields each) {
    out.clusters.push_back(
        {each.text("name"), static_cast<std::uint32_t>(each.number("weight", 0, 1000000))});
    each.finish();
  });
  weighted.finish();
  if (out.clusters.empty()) fields.fail("cluster", "is required");
  out.logs = readLogs(fields);
  fields.finish();
  return out;
}

HttpManager readHttp(Fields fields) {
  envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager message;
  json value = fields.value();
  value.erase("@type");
  if (auto read = api::fromJson(value, message); !read) {
    fields.errors().add(fields.path() + "." + read.error().path, read.error().text);
    return {};
  }
  auto out = buildHttpManager(message, fields.path());
  if (out) return std::move(*out);
  fields.errors().add(out.error().path, out.error().text);
  return {};
}

FilterChainMatch readMatch(Fields fields) {
  FilterChainMatch out;
  if (fields.get("destination_port") != nullptr)
    out.destination_port = static_cast<std::uint16_t>(fields.number("destination_port", 0, 65535));
  fields.list("prefix_ranges", [&](Fields range) {
    auto cidr = net::Cidr::make(range.text("address_prefix"),
                                static_cast<unsigned>(range.number("prefix_len", 0, 128)));
    if (cidr) {
      out.prefixes.push_back(*cidr);
    } else {
      range.fail("address_prefix", "is not a valid range");
    }
    range.finish();
  });
  out.server_names = fields.texts("server_names");
  out.transport_protocol = fields.text("transport_protocol");
  out.application_protocols = fields.texts("application_protocols");
  fields.finish();
  return out;
}

FilterChain readChain(Fields fields) {
  FilterChain out;
  out.name = fields.text("name");
  fields.accept({"metadata"});
  out.match = readMatch(fields.message("filter_chain_match"));
  std::size_t filters = 0;
  fields.list("filters", [&](Fields filter) {
    filter.accept({"name"});
    ++filters;
    Fields config = filter.message("typed_config");
    const std::string type = config.text("@type");
    if (type.ends_with(".TcpProxy")) {
      out.filter = readTcp(std::move(config));
    } else if (type.ends_with(".HttpConnectionManager")) {
      out.filter = readHttp(std::move(config));
    } else {
      config.fail("@type", "is not a supported network filter");
    }
    filter.finish();
  });
  if (filters != 1) fields.fail("filters", "must hold exactly one filter");
  fields.finish();
  return out;
}

Listener readListener(Fields fields) {
  Listener out;
  out.name = fields.text("name");
  out.address = readAddress(fields.message("address"));
  fields.accept({"traffic_direction", "stat_prefix", "metadata", "enable_reuse_port"});
  out.bind = fields.flag("bind_to_port", true);
  out.use_original_dst = fields.flag("use_original_dst", false);
  fields.list("listener_filters", [&](Fields filter) {
    filter.accept({"name"});
    Fields config = filter.message("typed_config");
    const std::string type = config.text("@type");
    if (type.ends_with(".OriginalDst")) {
      out.use_original_dst = true;
    } else {
      config.fail("@type", "is not a supported listener filter");
    }
    config.finish();
    filter.finish();
  });
  fields.list("filter_chains", [&](Fields chain) { out.chains.push_back(readChain(chain)); });
  if (fields.get("default_filter_chain") != nullptr)
    out.fallback = readChain(fields.message("default_filter_chain"));
  fields.finish();
  return out;
}

Cluster readCluster(Fields fields) {
  Cluster out;
  out.name = fields.text("name");
  if (out.name.empty()) fields.fail("name", "is required");
  fields.accept({"alt_stat_name", "metadata", "dns_lookup_family", "respect_dns_ttl"});
  const std::string type = fields.text("type", "STATIC");
  if (type == "STRICT_DNS") {
    out.type = Cluster::Type::kStrictDns;
  } else if (type == "ORIGINAL_DST") {
    out.type = Cluster::Type::kOriginalDst;
  } else if (type != "STATIC") {
    fields.fail("type", "\"" + type + "\" is not supported");
  }
  const std::string policy = fields.text("lb_policy", "ROUND_ROBIN");
  if (policy != "ROUND_ROBIN" && policy != "CLUSTER_PROVIDED")
    fields.fail("lb_policy", "\"" + policy + "\" is not supported");
  out.connect_timeout = fields.duration("connect_timeout", out.connect_timeout);
  Fields bind = fields.message("upstream_bind_config");
  if (bind.present()) {
    Fields source = bind.message("source_address");
    auto address = net::Address::fromIp(
        source.text("address"), static_cast<std::uint16_t>(source.number("port_value", 0, 65535)));
    if (!address) source.fail("address", "must be an IP address");
    out.source = address;
    source.finish();
  }
  bind.finish();
  Fields assignment = fields.message("load_assignment");
  assignment.accept({"cluster_name"});
  assignment.list("endpoints", [&](Fields locality) {
    locality.accept({"locality"});
    locality.list("lb_endpoints", [&](Fields each) {
      Fields endpoint = each.message("endpoint");
      out.endpoints.push_back(readEndpoint(endpoint.message("address")));
      endpoint.finish();
      each.finish();
    });
    locality.finish();
  });
  assignment.finish();
  fields.finish();
  return out;
}

}  // namespace

base::ConfigResult<std::shared_ptr<const Config>> buildConfig(const json& bootstrap) {
  ConfigErrors errors;
  auto out = std::make_shared<Config>();
  Fields fields(bootstrap, "", errors);
  fields.accept({"node"});
  if (fields.get("admin") != nullptr) {
    Fields admin = fields.message("admin");
    out->admin = readAddress(admin.message("address"));
    admin.finish();
  }
  Fields resources = fields.message("static_resources");
  resources.list("listeners",
                 [&](Fields each) { out->listeners.push_back(readListener(std::move(each))); });
  resources.list("clusters",
                 [&](Fields each) { out->clusters.push_back(readCluster(std::move(each))); });
  resources.finish();
  fields.finish();
  if (errors.failed()) return std::unexpected(errors.error());
  return std::shared_ptr<const Config>(std::move(out));
}

}  // namespace postern::proxy
