#include "kube/client.h"

#include "base/check.h"
#include "base/strings.h"
#include "kube/client_impl.h"

#include <nlohmann/json.hpp>

#include <fstream>
#include <future>
#include <optional>
#include <sstream>

namespace postern::kube {
namespace {

using json::Json;

constexpr std::chrono::seconds kRequestTimeout{30};

struct Origin {
  bool tls = false;
  std::string host;
  net::Address address;
};

base::ConfigResult<Origin> parseServer(const std::string& server) {
  Origin out;
  std::string_view rest = server;
  if (rest.starts_with("https://")) {
    out.tls = true;
    rest.remove_prefix(8);
  } else if (rest.starts_with("http://")) {
    rest.remove_prefix(7);
  } else {
    return base::failConfig("server", "\"" + server + "\" is no http or https URL");
  }
  rest = rest.substr(0, rest.find('/'));
  std::string target(rest);
  if (rest.find(':') == std::string_view::npos) target += out.tls ? ":443" : ":80";
  if (target.starts_with("localhost:")) target.replace(0, 9, "127.0.0.1");
  auto address = net::Address::parse(target);
  if (!address) return base::failConfig("server", "\"" + server + "\" needs a numeric address");
  out.address = *address;
  out.host = address->ip();
  // A credential must not cross a network in clear.
  if (!out.tls && !address->isLoopback())
    return base::failConfig("server", "cleartext is for loopback only");
  return out;
}

const char* contentType(PatchType how) {
  switch (how) {
    case PatchType::kJson:
      return "application/json-patch+json";
    case PatchType::kMerge:
      return "application/merge-patch+json";
    case PatchType::kStrategic:
      return "application/strategic-merge-patch+json";
    case PatchType::kApply:
      return "application/apply-patch+yaml";
  }
  return "";
}

std::string writeQuery(const WriteOptions& options) {
  std::string out = "?fieldManager=" + base::percentEncode(options.field_manager);
  if (options.force) out += "&force=true";
  return out;
}

}  // namespace

ApiError errorFrom(int status, std::string_view body) {
  ApiError out{status, "", std::string(body.substr(0, 512))};
  if (auto parsed = json::parse(body); parsed && json::stringAt(*parsed, "kind") == "Status") {
    out.reason = json::stringAt(*parsed, "reason");
    out.message = json::stringAt(*parsed, "message");
  }
  return out;
}

std::string selectorQuery(const ListOptions& options) {
  std::string out;
  auto add = [&out](const char* name, const std::string& value) {
    if (value.empty()) return;
    out += (out.empty() ? "" : "&") + std::string(name) + "=" + base::percentEncode(value);
  };
  add("labelSelector", options.label_selector);
  add("fieldSelector", options.field_selector);
  return out;
}

base::ConfigResult<std::unique_ptr<Client>> Client::make(ClientConfig config) {
  POSTERN_TRY(std::unique_ptr<Client> client, ClientImpl::make(std::move(config)));
  return client;
}

base::ConfigResult<std::unique_ptr<ClientImpl>> ClientImpl::make(ClientConfig config) {
  std::unique_ptr<ClientImpl> client(new ClientImpl(std::move(config)));
  POSTERN_TRY_VOID(client->open());
  return client;
}

base::ConfigResult<void> ClientImpl::open() {
  POSTERN_TRY(Origin origin, parseServer(config_.server));
  options_.address = origin.address;
  options_.host = config_.tls_server_name.empty() ? origin.host : config_.tls_server_name;
  if (origin.tls) {
    tls::ClientOptions tls;
    tls.ca_pem = config_.ca_pem;
    tls.certificate_chain_pem = config_.client_certificate_pem;
    tls.private_key_pem = config_.client_key_pem;
    tls.alpn = {"http/1.1"};
    POSTERN_TRY(options_.tls, tls::ClientContext::make(tls));
  }
  options_.connections_max = 128;  // each watch holds one
  thread_ = std::thread([this] { runLoop(); });
  return {};
}

void ClientImpl::runLoop() {
  http_ = http::Client::make(loop_, options_);
  loop_.run();
  http_.reset();
}

ClientImpl::~ClientImpl() {
  loop_.stop();
  if (thread_.joinable()) thread_.join();
}

http::HeaderMap ClientImpl::requestHeaders() const {
  http::HeaderMap headers{{"user-agent", config_.user_agent}, {"accept", "application/json"}};
  std::string token = config_.token;
  if (!config_.token_file.empty()) {
    // Projected tokens are replaced while we run; the file is small and the kernel caches it.
    std::ifstream file(config_.token_file);
    std::stringstream text;
    text << file.rdbuf();
    token = text.str();
    while (!token.empty() && (token.back() == '\n' || token.back() == ' ')) token.pop_back();
  }
  if (!token.empty()) headers.add("authorization", "Bearer " + token);
  return headers;
}

ApiResult<Json> ClientImpl::raw(std::string_view method, std::string_view path,
                                std::string_view body, std::string_view content_type) {
  POSTERN_CHECK(std::this_thread::get_id() != thread_.get_id());
  http::ClientRequest request;
  request.method = method;
  request.path = path;
  request.headers = requestHeaders();
  if (!body.empty()) request.headers.add("content-type", content_type);
  request.body = body;
  request.timeout = kRequestTimeout;
  struct Pending {
    std::promise<base::Result<http::ClientResponse>> answer;
    std::unique_ptr<http::Client::Call> call;
  };
  auto pending = std::make_shared<Pending>();
  auto future = pending->answer.get_future();
  loop_.post([this, pending, request = std::move(request)]() mutable {
    pending->call =
        http_->fetch(std::move(request), [pending](base::Result<http::ClientResponse> response) {
          pending->answer.set_value(std::move(response));
        });
  });
  if (future.wait_for(kRequestTimeout + std::chrono::seconds(1)) != std::future_status::ready) {
    return std::unexpected(ApiError{0, "Timeout", "the API server did not answer"});
  }
  base::Result<http::ClientResponse> response = future.get();
  // The call belongs to the loop thread and, through its callback, to itself: release it there.
  loop_.post([pending] { pending->call.reset(); });
  if (!response)
    return std::unexpected(ApiError{0, "", config_.server + ": " + response.error().message()});
  if (response->status >= 300) return std::unexpected(errorFrom(response->status, response->body));
  auto parsed = json::parse(response->body);
  return parsed ? std::move(*parsed) : Json(response->body);
}

ApiResult<Json> ClientImpl::get(const ResourceType& type, std::string_view ns,
                                std::string_view name) {
  return raw("GET", type.url(ns, name), "", "");
}

ApiResult<Json> ClientImpl::list(const ResourceType& type, std::string_view ns,
                                 const ListOptions& options) {
  std::string query = selectorQuery(options);
  return raw("GET", type.url(ns) + (query.empty() ? "" : "?" + query), "", "");
}

ApiResult<Json> ClientImpl::create(const ResourceType& type, std::string_view ns,
                                   const Json& object, const WriteOptions& options) {
  Json body = object;
  body["apiVersion"] = type.apiVersion();
  body["kind"] = type.kind;
  return raw("POST", type.url(ns) + writeQuery(options), json::dump(body), "application/json");
}

ApiResult<Json> ClientImpl::update(const ResourceType& type, std::string_view ns,
                                   const Json& object, const WriteOptions& options) {
  return raw("PUT",
             type.url(ns, json::stringAt(object, "metadata.name"), options.subresource) +
                 writeQuery(options),
             json::dump(object), "application/json");
}

ApiResult<Json> ClientImpl::patch(const ResourceType& type, std::string_view ns,
                                  std::string_view name, PatchType how, const Json& body,
                                  const WriteOptions& options) {
  return raw("PATCH", type.url(ns, name, options.subresource) + writeQuery(options),
             json::dump(body), contentType(how));
}

ApiResult<Json> ClientImpl::apply(const ResourceType& type, const Json& object,
                                  const WriteOptions& options) {
  Json body = object;
  body["apiVersion"] = type.apiVersion();
  body["kind"] = type.kind;
  return patch(type, json::stringAt(object, "metadata.namespace"),
               json::stringAt(object, "metadata.name"), PatchType::kApply, body, options);
}

ApiResult<Json> ClientImpl::remove(const ResourceType& type, std::string_view ns,
                                   std::string_view name, const DeleteOptions& options) {
  Json body = {
      {"kind", "DeleteOptions"}, {"apiVersion", "v1"}, {"propagationPolicy", options.propagation}};
  if (options.grace_seconds >= 0) body["gracePeriodSeconds"] = options.grace_seconds;
  if (!options.uid.empty()) body["preconditions"] = {{"uid", options.uid}};
  return raw("DELETE", type.url(ns, name), json::dump(body), "application/json");
}

}  // namespace postern::kube
