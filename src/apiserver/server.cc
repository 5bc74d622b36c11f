#include "apiserver/server.h"

#include "apiserver/auth.h"
#include "apiserver/discovery.h"
#include "apiserver/openapi.h"
#include "apiserver/pki.h"
#include "apiserver/pod_streams.h"
#include "base/log.h"
#include "base/strings.h"
#include "http/server.h"
#include "tls/tls.h"

#include <sys/stat.h>

namespace postern::apiserver {
namespace {

constexpr std::size_t kBodyBytesMax = 2 * kRequestBytesMax;  // beyond it, an answer without Status

base::LogComponent& log() {
  static base::LogComponent component("apiserver");
  return component;
}

class ServerImpl final : public Server {
 public:
  ServerImpl(event::Loop& loop, Options options, std::unique_ptr<store::Store> store, Pki pki)
      : loop_(loop),
        options_(std::move(options)),
        pki_(std::move(pki)),
        store_(std::move(store)),
        catalog_(loop, *store_),
        auth_(loop, *store_, pki_.token_key_pem, pki_.token_public_pem),
        webhooks_(loop, *store_, std::move(options_.connect)),
        rest_(loop, *store_, catalog_, webhooks_,
              {{options_.service_cidr},
               options_.json_arrays ? ArrayStyle::kJson : ArrayStyle::kBrackets}) {}

  base::ConfigResult<bool> begin() {
    tls::ServerOptions tls;
    tls.certificate_chain_pem = pki_.server_certificate_pem;
    tls.private_key_pem = pki_.server_key_pem;
    tls.client_ca_pem = pki_.ca_pem;
    tls.client_auth = tls::ClientAuth::kRequest;
    tls.alpn = {"http/1.1"};
    POSTERN_TRY(auto context, tls::ServerContext::make(tls));
    for (const char* ns : {"default", "kube-system", "kube-public", "kube-node-lease"}) {
      Json object = {{"apiVersion", "v1"}, {"kind", "Namespace"}, {"metadata", {{"name", ns}}}};
      object["spec"]["finalizers"] = Json::array({"kubernetes"});
      rest_.ensure("/namespaces", "", std::move(object));
    }
    ensureRoles();
    ensureKubernetesService();
    http::Server::Options http_options;
    http_options.limits.body_bytes_max = kBodyBytesMax;
    http_options.tls = context;
    http_ = http::Server::make(loop_, http_options,
                               [this](http::Request request, std::unique_ptr<http::Responder> r) {
                                 handle(std::move(request), std::move(r));
                               });
    for (base::Fd& fd : options_.listeners) http_->listen(std::move(fd));
    options_.listeners.clear();
    return true;
  }

  std::string adminKubeconfig() const override {
    Json cluster = {{"server", options_.server_url},
                    {"certificate-authority-data", base::base64Encode(pki_.ca_pem)}};
    Json user = {{"client-certificate-data", base::base64Encode(pki_.admin_certificate_pem)},
                 {"client-key-data", base::base64Encode(pki_.admin_key_pem)}};
    Json config = {
        {"apiVersion", "v1"},
        {"kind", "Config"},
        {"clusters", Json::array({{{"name", "postern"}, {"cluster", cluster}}})},
        {"users", Json::array({{{"name", "admin"}, {"user", user}}})},
        {"contexts",
         Json::array({{{"name", "postern"},
                       {"context",
                        {{"cluster", "postern"}, {"user", "admin"}, {"namespace", "default"}}}}})},
        {"current-context", "postern"}};
    return json::dumpYaml(config);
  }
  const std::string& caPem() const override { return pki_.ca_pem; }
  void listen(base::Fd listener) override { http_->listen(std::move(listener)); }
  void serve(base::Fd connection) override { http_->serve(std::move(connection)); }
  void setNode(NodeConnector* node) override { options_.node = node; }

 private:
  void ensureRoles() {
    const std::string rbac = "rbac.authorization.k8s.io/";
    const Json any = Json::array({"*"});
    auto role = [&](const char* name, Json rules) {
      rest_.ensure(rbac + "clusterroles", "",
                   {{"apiVersion", "rbac.authorization.k8s.io/v1"},
                    {"kind", "ClusterRole"},
                    {"metadata", {{"name", name}}},
                    {"rules", std::move(rules)}});
    };
    const Json all = {{"apiGroups", any}, {"resources", any}, {"verbs", any}};
    Json urls = {{"nonResourceURLs", any}, {"verbs", any}};
    role("cluster-admin", Json::array({all, urls}));
    role("admin", Json::array({all}));
    role("edit", Json::array({all}));
    Json read = all;
    read["verbs"] = {"get", "list", "watch"};
    role("view", Json::array({read}));
    Json delegate = {{"apiGroups", {"authentication.k8s.io", "authorization.k8s.io"}},
                     {"resources", {"tokenreviews", "subjectaccessreviews"}},
                     {"verbs", Json::array({"create"})}};
    role("system:auth-delegator", Json::array({delegate}));
  }

  /// The Service "kubernetes" on the first cluster IP; its Endpoints are the runner's business.
  void ensureKubernetesService() {
    std::string ip = options_.service_cidr.substr(0, options_.service_cidr.rfind('.')) + ".1";
    Json port = {{"name", "https"}, {"port", 443}, {"protocol", "TCP"}, {"targetPort", 6443}};
    rest_.ensure("/services", "default",
                 {{"apiVersion", "v1"},
                  {"kind", "Service"},
                  {"metadata",
                   {{"name", "kubernetes"},
                    {"labels", {{"component", "apiserver"}, {"provider", "kubernetes"}}}}},
                  {"spec",
                   {{"type", "ClusterIP"},
                    {"clusterIP", ip},
                    {"clusterIPs", Json::array({ip})},
                    {"ports", Json::array({port})}}}});
  }

  void handle(http::Request request, std::unique_ptr<http::Responder> responder) {
    auto user = auth_.authenticate(request);
    auto call = std::make_shared<Call>(parseCall(std::move(request)));
    if (!user) return respondFailure(*responder, user.error());
    call->user = std::move(*user);
    if (auto ok = impersonate(*call); !ok) return respondFailure(*responder, ok.error());
    log().debug("{} {} by {}", call->request.method, call->request.path, call->user.name);
    Attributes a;
    a.verb = call->verb();
    if (call->is_resource) {
      a.group = call->group;
      a.resource = call->resource;
      a.sub = call->sub;
      a.ns = call->resource == "namespaces" && call->ns.empty() ? call->name : call->ns;
      a.name = call->name;
    } else {
      a.verb = base::toLower(call->request.method);
      a.path = call->request.path;
    }
    if (!auth_.authorize(call->user, a)) {
      return respondFailure(*responder, Auth::refusal(call->user, a));
    }
    // A WebSocket can only be asked for by GET; whoever may merely read shall not run commands.
    if (isPodStream(*call) && call->sub != "log" && a.verb == "get") {
      a.verb = "create";
      if (!auth_.authorize(call->user, a)) {
        return respondFailure(*responder, Auth::refusal(call->user, a));
      }
    }
    route(std::move(call), std::move(responder));
  }

  /// `kubectl --as`: the call becomes that user's, if the caller may speak for them.
  ApiResult<bool> impersonate(Call& call) const {
    const http::HeaderMap& headers = call.request.headers;
    const std::string name(headers.value("impersonate-user"));
    if (name.empty()) {
      if (!headers.has("impersonate-group")) return true;
      return failed(badRequest("requested [impersonate-group] without impersonating a user"));
    }
    User user{.name = name, .uid = "", .groups = {}, .extra = Json::object()};
    headers.each([&](std::string_view field, std::string_view value) {
      if (field == "impersonate-group") user.groups.emplace_back(value);
    });
    Attributes a;
    a.verb = "impersonate";
    a.resource = "users";
    a.name = name;
    constexpr std::string_view kAccount = "system:serviceaccount:";
    if (name.starts_with(kAccount)) {
      const std::size_t colon = name.find(':', kAccount.size());
      if (colon == std::string::npos) return failed(badRequest("malformed user " + name));
      a.resource = "serviceaccounts";
      a.ns = name.substr(kAccount.size(), colon - kAccount.size());
      a.name = name.substr(colon + 1);
      if (user.groups.empty())
        user.groups = {"system:serviceaccounts", "system:serviceaccounts:" + a.ns};
    }
    if (!auth_.authorize(call.user, a)) return failed(Auth::refusal(call.user, a));
    for (const std::string& group : user.groups) {
      if (group.starts_with("system:serviceaccounts")) continue;
      Attributes of_group;
      of_group.verb = "impersonate";
      of_group.resource = "groups";
      of_group.name = group;
      if (!auth_.authorize(call.user, of_group)) return failed(Auth::refusal(call.user, of_group));
    }
    user.groups.emplace_back("system:authenticated");
    call.user = std::move(user);
    return true;
  }

  void route(std::shared_ptr<Call> call, std::unique_ptr<http::Responder> responder) {
    if (!call->is_resource) {
      const bool get = call->request.method == "GET";
      auto document = get ? discover(*call, catalog_) : std::nullopt;
      if (get && !document) document = openapi_.answer(*call, catalog_);
      if (!document) return plainNotFound(*responder);
      return responder->respond(document->status, {{"content-type", document->content_type}},
                                std::move(document->body));
    }
    call->served = catalog_.find(call->group, call->version, call->resource);
    if (!call->served) {
      if (reviewed(*call, *responder)) return;
      if (!catalog_.hasVersion(call->group, call->version)) return plainNotFound(*responder);
      return respondFailure(*responder, noSuchResource());
    }
    if (!call->sub.empty() && special(call, responder)) return;
    rest_.handle(std::move(call), std::move(responder));
  }

  static void plainNotFound(http::Responder& responder) {
    responder.respond(404, {{"content-type", "text/plain; charset=utf-8"}}, "404 page not found\n");
  }

  bool reviewed(const Call& call, http::Responder& responder) {
    if (call.group != "authentication.k8s.io" && call.group != "authorization.k8s.io") return false;
    auto body = decodeBody(call);
    if (!body) {
      respondFailure(responder, body.error());
      return true;
    }
    auto answer = auth_.review(call, std::move(*body));
    if (!answer) return false;
    if (*answer)
      respondJson(responder, 201, **answer);
    else
      respondFailure(responder, answer->error());
    return true;
  }

  /// Subresources that are not parts of the stored object. True: answered.
  bool special(std::shared_ptr<Call>& call, std::unique_ptr<http::Responder>& responder) {
    const schema::Kind& kind = call->served->kind;
    if (isPodStream(*call)) {
      forward(*call, std::move(responder));
      return true;
    }
    if (kind.storage == "/pods" && (call->sub == "binding" || call->sub == "eviction")) {
      if (call->request.method != "POST") {
        respondFailure(*responder, methodNotAllowed());
      } else if (call->sub == "binding") {
        rest_.bind(*call, std::move(responder));
      } else {
        rest_.evict(*call, std::move(responder));
      }
      return true;
    }
    if (kind.storage == "/serviceaccounts" && call->sub == "token") {
      auto body = decodeBody(*call);
      auto token = body ? auth_.issueToken(*call, std::move(*body)) : body;
      if (token)
        respondJson(*responder, 201, *token);
      else
        respondFailure(*responder, token.error());
      return true;
    }
    bool known = (call->sub == "status" && kind.status) || (call->sub == "scale" && kind.scale) ||
                 (call->sub == "finalize" && kind.storage == "/namespaces");
    if (!known) respondFailure(*responder, noSuchResource());
    return !known;
  }

  void forward(const Call& call, std::unique_ptr<http::Responder> responder) {
    auto pod = store_->get("/pods", call.ns, call.name);
    if (!pod) return respondFailure(*responder, notFound(call.served->kind, call.name));
    auto target = nodeTarget(call, *pod);
    if (!target) return respondFailure(*responder, target.error());
    if (target->empty()) return responder->respond(200, {{"content-type", "text/plain"}}, "");
    if (options_.node == nullptr) {
      return respondFailure(
          *responder, {500, "InternalError", "error dialing backend: no node agent", nullptr});
    }
    forwardToNode(loop_, *options_.node, call, std::move(*target), std::move(responder));
  }

  event::Loop& loop_;
  Options options_;
  Pki pki_;
  std::unique_ptr<store::Store> store_;
  Catalog catalog_;
  OpenApi openapi_;
  Auth auth_;
  Webhooks webhooks_;
  Rest rest_;
  std::unique_ptr<http::Server> http_;
};

}  // namespace

base::ConfigResult<std::unique_ptr<Server>> Server::start(event::Loop& loop, Options options) {
  ::mkdir(options.data_dir.c_str(), 0700);
  POSTERN_TRY(auto pki, loadOrMakePki(options.data_dir + "/pki", options.server_ips));
  std::string path = options.in_memory ? ":memory:" : options.data_dir + "/objects.db";
  POSTERN_TRY(auto store, store::Store::open(path));
  auto server =
      std::make_unique<ServerImpl>(loop, std::move(options), std::move(store), std::move(pki));
  POSTERN_TRY_VOID(server->begin());
  return server;
}

}  // namespace postern::apiserver
