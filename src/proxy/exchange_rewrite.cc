// What a route changes of a request on its way upstream, and of the answer.
#include "base/strings.h"
#include "http/request_text.h"
#include "proxy/exchange.h"

#include <algorithm>

namespace postern::proxy {

std::string Exchange::prefixReplaced(std::string_view target, std::string_view with) const {
  const std::size_t path_size = http::pathOnly(target).size();
  const RouteMatch::Kind kind = route_->match.kind;
  const bool prefix =
      kind == RouteMatch::Kind::kPrefix || kind == RouteMatch::Kind::kSeparatedPrefix;
  const std::size_t replaced = prefix ? route_->match.path.size() : path_size;
  std::string out(with);
  out += target.substr(std::min(replaced, target.size()));
  return out;
}

void Exchange::applyRequestOps() {
  const formatter::HeaderOps* all[] = {&target_->request, &route_->request, &vhost_->request,
                                       &table_->request};
  if (table_->most_specific_wins) std::reverse(std::begin(all), std::end(all));
  for (const formatter::HeaderOps* each : all) {
    if (each->empty()) continue;
    each->apply(request_, record_);
    envoy_headers_ = true;  // they may have added some
  }
}

void Exchange::applyResponseOps(HeaderMap& headers) const {
  if (route_ == nullptr) return;
  static const formatter::HeaderOps kNone;
  const formatter::HeaderOps* all[] = {target_ == nullptr ? &kNone : &target_->response,
                                       &route_->response, &vhost_->response, &table_->response};
  if (table_->most_specific_wins) std::reverse(std::begin(all), std::end(all));
  for (const formatter::HeaderOps* each : all) {
    if (!each->empty()) each->apply(headers, record_);
  }
}

void Exchange::finalizeRequest() {
  applyRequestOps();
  rewriteHost();
  rewritePath();
}

void Exchange::setHost(std::string_view host) {
  if (host.empty()) return;
  const std::string before(request_.authority());
  if (!config_.suppress_envoy_headers) request_.set("x-envoy-original-host", before);
  if (action_->append_forwarded_host && !before.empty()) {
    std::string list = request_.joined("x-forwarded-host").value_or("");
    // Only what is not the last one already.
    const std::string_view last =
        base::trim(std::string_view(list).substr(list.rfind(',') + 1));  // npos + 1 is 0
    if (last != before) {
      if (!list.empty()) list += ',';
      request_.set("x-forwarded-host", list + before);
    }
  }
  request_.set(":authority", std::string(host));
}

void Exchange::rewriteHost() {
  if (!target_->host_rewrite.empty()) return request_.set(":authority", target_->host_rewrite);
  if (!action_->host_rewrite.empty()) return setHost(action_->host_rewrite);
  if (!action_->host_rewrite_header.empty())
    return setHost(std::string(request_.value(action_->host_rewrite_header)));
  if (action_->host_path_regex != nullptr) {
    setHost(replaceAll(action_->host_path_regex, http::pathOnly(request_.path()),
                       action_->host_path_substitution));
  }
}

void Exchange::rewritePath() {
  const std::string_view target = request_.path();
  std::string path;
  if (!action_->prefix_rewrite.empty()) {
    path = prefixReplaced(target, action_->prefix_rewrite);
  } else if (action_->path_regex != nullptr) {
    const std::string_view bare = http::pathOnly(target);
    path = replaceAll(action_->path_regex, bare, action_->path_substitution);
    if (path.empty()) return;  // a request without a path is none: it keeps its own
    path += target.substr(bare.size());
  } else {
    return;
  }
  if (!config_.suppress_envoy_headers) request_.set("x-envoy-original-path", std::string(target));
  request_.set(":path", path);
}

}  // namespace postern::proxy
