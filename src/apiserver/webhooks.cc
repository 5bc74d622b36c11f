#include "apiserver/webhooks.h"

#include "apiserver/exchange.h"
#include "apiserver/patch.h"
#include "base/strings.h"
#include "tls/tls.h"

#include <algorithm>

namespace postern::apiserver {
namespace {

bool listsOrAll(const Json& rule, const char* field, const std::string& value) {
  const Json* list = json::find(rule, field);
  if (list == nullptr || !list->is_array()) return false;
  return std::any_of(list->begin(), list->end(),
                     [&](const Json& v) { return v == Json("*") || v == Json(value); });
}

bool ruleMatches(const Json& rule, const Write& write) {
  const schema::Kind& kind = write.kind();
  std::string scope = json::stringAt(rule, "scope", "*");
  if (scope != "*" && (scope == "Namespaced") != kind.namespaced) return false;
  std::string resource = kind.plural;
  if (!write.call->sub.empty()) resource += "/" + write.call->sub;
  bool named = listsOrAll(rule, "resources", resource) &&
               (write.call->sub.empty() || listsOrAll(rule, "resources", resource));
  if (!write.call->sub.empty() && json::find(rule, "resources") != nullptr) {
    const Json& list = *json::find(rule, "resources");
    named = std::any_of(list.begin(), list.end(), [&](const Json& v) {
      return v == Json(resource) || v == Json("*/*") || v == Json(kind.plural + "/*");
    });
  }
  // matchPolicy Equivalent: another served version of the same kind counts.
  bool version = std::any_of(kind.versions.begin(), kind.versions.end(),
                             [&](const auto& v) { return listsOrAll(rule, "apiVersions", v); });
  return named && version && listsOrAll(rule, "apiGroups", kind.group) &&
         listsOrAll(rule, "operations", write.operation);
}

Json reviewOf(const Write& write, const std::string& uid) {
  const Call& call = *write.call;
  const schema::Kind& kind = write.kind();
  Json gvk = {{"group", kind.group}, {"version", call.version}, {"kind", kind.kind}};
  Json gvr = {{"group", kind.group}, {"version", call.version}, {"resource", kind.plural}};
  Json request = {
      {"uid", uid},
      {"kind", gvk},
      {"resource", gvr},
      {"requestKind", gvk},
      {"requestResource", gvr},
      {"name", write.name},
      {"operation", write.operation},
      {"userInfo", {{"username", call.user.name}, {"groups", call.user.groups}}},
      {"object", versioned(*call.served, call.version, write.object)},
      {"oldObject", write.old ? versioned(*call.served, call.version, *write.old) : Json()},
      {"dryRun", write.dry_run},
      {"options",
       {{"kind", write.operation == "CREATE" ? "CreateOptions" : "UpdateOptions"},
        {"apiVersion", "meta.k8s.io/v1"}}}};
  if (!call.ns.empty()) request["namespace"] = call.ns;
  if (!call.sub.empty()) {
    request["subResource"] = call.sub;
    request["requestSubResource"] = call.sub;
  }
  return {{"kind", "AdmissionReview"},
          {"apiVersion", "admission.k8s.io/v1"},
          {"request", std::move(request)}};
}

}  // namespace

struct Webhooks::Run {
  WritePtr write;
  AdmissionDone done;
  bool mutating = false;
  std::vector<Json> hooks;
  std::size_t at = 0;
  std::string uid;
};

Webhooks::Webhooks(event::Loop& loop, const store::Store& store, ConnectHook connect)
    : loop_(loop), store_(store), connect_(std::move(connect)) {}

void Webhooks::mutate(WritePtr write, AdmissionDone done) {
  start(std::move(write), std::move(done), true);
}
void Webhooks::validate(WritePtr write, AdmissionDone done) {
  start(std::move(write), std::move(done), false);
}

void Webhooks::start(WritePtr write, AdmissionDone done, bool mutating) {
  // Webhook configurations themselves are never sent to webhooks: one could lock everybody out.
  if (write->kind().group == "admissionregistration.k8s.io") return done(true);
  auto run = std::make_shared<Run>();
  const char* storage = mutating ? "admissionregistration.k8s.io/mutatingwebhookconfigurations"
                                 : "admissionregistration.k8s.io/validatingwebhookconfigurations";
  for (const auto& configuration : store_.list(storage)) {
    const Json* hooks = json::find(*configuration, "webhooks");
    for (std::size_t i = 0; hooks && hooks->is_array() && i < hooks->size(); ++i) {
      if (matches(*write, (*hooks)[i])) run->hooks.push_back((*hooks)[i]);
    }
  }
  if (run->hooks.empty()) return done(true);
  run->write = std::move(write);
  run->done = std::move(done);
  run->mutating = mutating;
  next(std::move(run));
}

bool Webhooks::matches(const Write& write, const Json& webhook) const {
  const Json* rules = json::find(webhook, "rules");
  if (rules == nullptr || !rules->is_array() ||
      !std::any_of(rules->begin(), rules->end(),
                   [&](const Json& rule) { return ruleMatches(rule, write); })) {
    return false;
  }
  if (const Json* s = json::find(webhook, "objectSelector")) {
    LabelSelector selector = LabelSelector::fromJson(*s);
    if (!selector.matches(write.object) && !(write.old && selector.matches(*write.old))) {
      return false;
    }
  }
  const Json* s = json::find(webhook, "namespaceSelector");
  if (s == nullptr) return true;
  LabelSelector selector = LabelSelector::fromJson(*s);
  if (selector.empty()) return true;
  if (write.kind().storage == "/namespaces") return selector.matches(write.object);
  if (!write.kind().namespaced) return true;
  auto ns = store_.get("/namespaces", "", write.call->ns);
  return ns && selector.matches(*ns);
}

void Webhooks::next(RunPtr run) {
  if (run->at >= run->hooks.size()) {
    auto done = std::move(run->done);
    return done(true);
  }
  Json webhook = run->hooks[run->at++];
  call(std::move(run), webhook);
}

bool Webhooks::target(const Json& client, net::Address& address, std::string& host,
                      std::string& path) const {
  std::string ns;
  std::string name;
  long long port = 443;
  if (const Json* service = json::find(client, "service")) {
    ns = json::stringAt(*service, "namespace");
    name = json::stringAt(*service, "name");
    path = json::stringAt(*service, "path", "/");
    port = json::integerAt(*service, "port", 443);
    host = name + "." + ns + ".svc";
  } else {
    std::string url = json::stringAt(client, "url");
    if (!url.starts_with("https://")) return false;
    std::string rest = url.substr(8);
    std::size_t slash = rest.find('/');
    path = slash == std::string::npos ? "/" : rest.substr(slash);
    std::string authority = rest.substr(0, slash);
    std::size_t colon = authority.rfind(':');
    host = authority.substr(0, colon);
    if (colon != std::string::npos) {
      port = base::parseInteger<std::uint16_t>(authority.substr(colon + 1)).value_or(443);
    }
    auto parts = base::split(host, '.');
    if (parts.size() < 3 || parts[2] != "svc") {
      auto ip = net::Address::fromIp(host == "localhost" ? "127.0.0.1" : host,
                                     static_cast<std::uint16_t>(port));
      if (ip) address = *ip;
      return ip.has_value();
    }
    name = parts[0];
    ns = parts[1];
  }
  auto service = store_.get("/services", ns, name);
  auto endpoints = store_.get("/endpoints", ns, name);
  if (!service || !endpoints) return false;
  std::string port_name;
  const Json* ports = json::find(*service, "spec.ports");
  for (std::size_t i = 0; ports && i < ports->size(); ++i) {
    if (json::integerAt((*ports)[i], "port") == port)
      port_name = json::stringAt((*ports)[i], "name");
  }
  const Json* subsets = json::find(*endpoints, "subsets");
  for (std::size_t i = 0; subsets && subsets->is_array() && i < subsets->size(); ++i) {
    const Json* addresses = json::find((*subsets)[i], "addresses");
    const Json* own = json::find((*subsets)[i], "ports");
    if (addresses == nullptr || addresses->empty() || own == nullptr) continue;
    for (const Json& p : *own) {
      if (json::stringAt(p, "name") != port_name) continue;
      auto ip = net::Address::fromIp(json::stringAt(addresses->front(), "ip"),
                                     static_cast<std::uint16_t>(json::integerAt(p, "port")));
      if (ip) address = *ip;
      return ip.has_value();
    }
  }
  return false;
}

void Webhooks::call(RunPtr run, const Json& webhook) {
  net::Address address;
  std::string host;
  http::ClientRequest request;
  if (!target(webhook.value("clientConfig", Json::object()), address, host, request.path)) {
    return broken(std::move(run), webhook, "no endpoints available for service");
  }
  run->uid = random_.uuid();
  request.method = "POST";
  request.authority = host;
  request.headers.add("content-type", "application/json");
  request.headers.add("accept", "application/json");
  request.body = json::dump(reviewOf(*run->write, run->uid));
  request.timeout = std::chrono::seconds(json::integerAt(webhook, "timeoutSeconds", 10));
  tls::ClientOptions options;
  options.ca_pem =
      base::base64Decode(json::stringAt(webhook, "clientConfig.caBundle")).value_or("");
  auto context = tls::ClientContext::make(options);
  if (!context) return broken(std::move(run), webhook, context.error().message());
  auto send = [this, run, webhook, host, context = *context,
               request = std::move(request)](std::unique_ptr<net::Transport> plain) mutable {
    exchangeWhole(loop_, tls::connectTls(loop_, std::move(plain), context, host),
                  std::move(request),
                  [this, run, webhook](base::Result<http::ClientResponse> answer) {
                    answered(run, webhook, std::move(answer));
                  });
  };
  if (!connect_) return send(net::connectTransport(loop_, address));
  connect_(address, [this, run, webhook,
                     send = std::move(send)](base::Result<base::Fd> fd) mutable {
    if (!fd) return broken(run, webhook, fd.error().message());
    auto plain = net::makeSocketTransport(loop_, std::move(*fd));
    plain->resumeRead();  // it comes connected and tells nothing more: this starts the handshake
    send(std::move(plain));
  });
}

void Webhooks::broken(RunPtr run, const Json& webhook, const std::string& why) {
  if (json::stringAt(webhook, "failurePolicy", "Fail") == "Ignore") return next(std::move(run));
  auto done = std::move(run->done);
  done(failed(internal("failed calling webhook \"" + json::stringAt(webhook, "name") +
                       "\": failed to call webhook: " + why)));
}

void Webhooks::answered(RunPtr run, const Json& webhook,
                        base::Result<http::ClientResponse> answer) {
  if (!answer) return broken(std::move(run), webhook, answer.error().message());
  if (answer->status != 200) {
    return broken(std::move(run), webhook, "the server answered " + std::to_string(answer->status));
  }
  auto review = json::parse(answer->body);
  const Json* response = review ? json::find(*review, "response") : nullptr;
  if (response == nullptr || json::stringAt(*response, "uid") != run->uid) {
    return broken(std::move(run), webhook, "the answer is not an AdmissionReview of this request");
  }
  const Json* warnings = json::find(*response, "warnings");
  for (std::size_t i = 0; warnings && warnings->is_array() && i < warnings->size(); ++i) {
    if ((*warnings)[i].is_string()) run->write->warnings.push_back((*warnings)[i]);
  }
  if (!json::boolAt(*response, "allowed")) {
    std::string name = json::stringAt(webhook, "name");
    std::string text = json::stringAt(*response, "status.message");
    std::string message = "admission webhook \"" + name + "\" denied the request" +
                          (text.empty() ? " without explanation" : ": " + text);
    int code = static_cast<int>(json::integerAt(*response, "status.code", 403));
    Json details = response->value("status", Json::object()).value("details", Json());
    auto done = std::move(run->done);
    return done(failed({code >= 400 && code < 600 ? code : 403,
                        json::stringAt(*response, "status.reason", "Forbidden"), std::move(message),
                        std::move(details)}));
  }
  std::string patch = json::stringAt(*response, "patch");
  if (run->mutating && !patch.empty()) {
    auto bytes = base::base64Decode(patch);
    auto operations = json::parse(bytes.value_or(""));
    if (!operations) return broken(std::move(run), webhook, "the patch is not JSON");
    const Call& c = *run->write->call;
    auto patched = jsonPatch(versioned(*c.served, c.version, run->write->object), *operations);
    if (!patched) return broken(std::move(run), webhook, "the patch does not apply");
    run->write->object = std::move(*patched);
    if (!run->write->kind().custom)
      convertToStored(run->write->kind(), c.version, run->write->object);
  }
  next(std::move(run));
}

}  // namespace postern::apiserver
