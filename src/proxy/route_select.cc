#include "proxy/route_select.h"

#include "base/strings.h"
#include "http/request_text.h"
#include "proxy/config_routes.h"

#include <algorithm>
#include <array>
#include <span>

namespace postern::proxy {

namespace {

constexpr std::size_t kIndexFromRoutes = 8;  // fewer are faster to try one by one
constexpr std::size_t kListsMax = 64;        // candidate lists per request
constexpr std::size_t kHostBytesMax = 255;   // longer ones match "*" only

/// Rolling over the path, so that the hash of each prefix costs nothing more.
class PathHash {
 public:
  void add(char c) {
    value_ = (value_ ^ static_cast<unsigned char>(c)) * 0x100000001b3ULL;
    value_ ^= value_ >> 29;
  }
  std::uint64_t value() const { return value_; }
  static std::uint64_t of(std::string_view text) {
    PathHash hash;
    for (char c : text) hash.add(c);
    return hash.value();
  }

 private:
  std::uint64_t value_ = 0xcbf29ce484222325ULL;
};

bool startsWith(std::string_view text, std::string_view prefix, bool case_sensitive) {
  if (text.size() < prefix.size()) return false;
  text = text.substr(0, prefix.size());
  return case_sensitive ? text == prefix : base::equalsIgnoreCase(text, prefix);
}

struct Request {
  const http::HeaderMap& headers;
  std::string_view path;   // without query; empty when there is none
  std::string_view query;  // without '?'
  std::uint64_t random;
};

bool pathMatches(const RouteMatch& match, const Request& request) {
  const std::string_view path = request.path;
  if (match.kind == RouteMatch::Kind::kConnect) return request.headers.method() == "CONNECT";
  if (path.empty()) return false;
  switch (match.kind) {
    case RouteMatch::Kind::kPrefix:
      return startsWith(path, match.path, match.case_sensitive);
    case RouteMatch::Kind::kPath:
      return path.size() == match.path.size() && startsWith(path, match.path, match.case_sensitive);
    case RouteMatch::Kind::kSeparatedPrefix:
      return startsWith(path, match.path, match.case_sensitive) &&
             (path.size() == match.path.size() || path[match.path.size()] == '/');
    case RouteMatch::Kind::kRegex:
      return fullMatch(match.regex, path);
    case RouteMatch::Kind::kConnect:
      break;
  }
  return false;
}

bool matches(const RouteMatch& match, const Request& request) {
  if (!pathMatches(match, request)) return false;
  if (match.fraction && !match.fraction->hit(request.random)) return false;
  if (!match.headers.empty() && !allMatch(match.headers, request.headers)) return false;
  if (match.grpc && !http::isGrpc(request.headers)) return false;
  return std::all_of(match.query.begin(), match.query.end(),
                     [&](const QueryMatcher& each) { return each.matches(request.query); });
}

const Route* scan(const VirtualHost& host, const Request& request) {
  for (const Route& each : host.routes) {
    if (matches(each.match, request)) return &each;
  }
  return nullptr;
}

/// Walks the candidate lists in order of route index: the order of the configuration.
const Route* scanIndexed(const VirtualHost& host, const Request& request) {
  const VirtualHost::Index& index = host.index;
  std::array<std::span<const std::uint32_t>, kListsMax> lists;
  std::size_t count = 0;
  if (!index.scanned.empty()) lists[count++] = index.scanned;
  PathHash hash;
  auto length = index.lengths.begin();
  for (std::size_t at = 0; at <= request.path.size(); ++at) {
    if (length != index.lengths.end() && *length == at) {
      ++length;
      const auto found = index.by_prefix.find(hash.value());
      if (found != index.by_prefix.end()) {
        if (count == kListsMax - 1) return scan(host, request);
        lists[count++] = found->second;
      }
    }
    if (at < request.path.size()) hash.add(request.path[at]);
  }
  const auto exact = index.by_path.find(hash.value());
  if (exact != index.by_path.end()) lists[count++] = exact->second;
  for (;;) {
    std::span<const std::uint32_t>* first = nullptr;
    for (std::size_t i = 0; i < count; ++i) {
      if (lists[i].empty()) continue;
      if (first == nullptr || lists[i].front() < first->front()) first = &lists[i];
    }
    if (first == nullptr) return nullptr;
    const Route& route = host.routes[first->front()];
    if (matches(route.match, request)) return &route;
    *first = first->subspan(1);
  }
}

void indexHost(VirtualHost& host) {
  VirtualHost::Index& index = host.index;
  index.used = host.routes.size() >= kIndexFromRoutes;
  if (!index.used) return;
  for (std::uint32_t i = 0; i < host.routes.size(); ++i) {
    const RouteMatch& match = host.routes[i].match;
    const bool keyed = match.case_sensitive && (match.kind == RouteMatch::Kind::kPrefix ||
                                                match.kind == RouteMatch::Kind::kPath ||
                                                match.kind == RouteMatch::Kind::kSeparatedPrefix);
    if (!keyed) {
      index.scanned.push_back(i);
    } else if (match.kind == RouteMatch::Kind::kPath) {
      index.by_path[PathHash::of(match.path)].push_back(i);
    } else {
      index.lengths.push_back(static_cast<std::uint32_t>(match.path.size()));
      index.by_prefix[PathHash::of(match.path)].push_back(i);
    }
  }
  std::sort(index.lengths.begin(), index.lengths.end());
  index.lengths.erase(std::unique(index.lengths.begin(), index.lengths.end()), index.lengths.end());
}

void addSize(std::vector<std::size_t>& sizes, std::size_t size) {
  if (std::find(sizes.begin(), sizes.end(), size) == sizes.end()) sizes.push_back(size);
  std::sort(sizes.rbegin(), sizes.rend());
}

}  // namespace

void indexRoutes(RouteTable& table, const Place& place) {
  for (std::uint32_t i = 0; i < table.hosts.size(); ++i) {
    VirtualHost& host = table.hosts[i];
    indexHost(host);
    for (const std::string& domain : host.domains) {
      bool fresh = true;
      if (domain == "*") {
        fresh = !table.any;
        table.any = i;
      } else if (domain.starts_with('*')) {
        fresh = table.suffixes.emplace(domain.substr(1), i).second;
        addSize(table.suffix_sizes, domain.size() - 1);
      } else if (domain.ends_with('*')) {
        fresh = table.prefixes.emplace(domain.substr(0, domain.size() - 1), i).second;
        addSize(table.prefix_sizes, domain.size() - 1);
      } else {
        fresh = table.exact.emplace(domain, i).second;
      }
      if (!fresh) {
        place.item("virtual_hosts", static_cast<int>(i))
            .fail("domains", "\"" + domain + "\" is claimed by two virtual hosts");
      }
    }
  }
}

const VirtualHost* findHost(const RouteTable& table, std::string_view host) {
  auto at = [&](std::uint32_t index) { return &table.hosts[index]; };
  if (table.ignore_port) host = http::withoutPort(host);
  char lower[kHostBytesMax];
  if (host.size() <= sizeof lower) {
    for (std::size_t i = 0; i < host.size(); ++i) lower[i] = base::toLowerAscii(host[i]);
    host = std::string_view(lower, host.size());
    if (const auto found = table.exact.find(host); found != table.exact.end())
      return at(found->second);
    for (const std::size_t size : table.suffix_sizes) {
      if (size >= host.size()) continue;  // "*" stands for one character at least
      const auto found = table.suffixes.find(host.substr(host.size() - size));
      if (found != table.suffixes.end()) return at(found->second);
    }
    for (const std::size_t size : table.prefix_sizes) {
      if (size >= host.size()) continue;
      const auto found = table.prefixes.find(host.substr(0, size));
      if (found != table.prefixes.end()) return at(found->second);
    }
  }
  return table.any ? at(*table.any) : nullptr;
}

namespace {

/// "/a;p=1/b" → "/a/b".
std::string withoutParameters(std::string_view path) {
  std::string out;
  bool parameter = false;
  for (const char c : path) {
    if (c == ';') parameter = true;
    if (c == '/') parameter = false;
    if (!parameter) out += c;
  }
  return out;
}

}  // namespace

const Route* findRoute(const RouteTable& table, const VirtualHost& host,
                       const http::HeaderMap& headers, std::uint64_t random) {
  const std::string_view target = headers.path();
  Request request{headers, http::pathOnly(target), {}, random};
  if (request.path.size() < target.size() && target[request.path.size()] == '?') {
    request.query = target.substr(request.path.size() + 1);
    request.query = request.query.substr(0, request.query.find('#'));
  }
  std::string plain;
  if (table.ignore_path_parameters) {
    plain = withoutParameters(request.path);
    request.path = plain;
  }
  return host.index.used ? scanIndexed(host, request) : scan(host, request);
}

const RouteCluster& chooseCluster(const ForwardAction& action, std::uint64_t random) {
  if (action.clusters.size() == 1) return action.clusters.front();
  std::uint64_t at = random % action.weight_total;
  for (const RouteCluster& each : action.clusters) {
    if (at < each.weight) return each;
    at -= each.weight;
  }
  return action.clusters.back();
}

}  // namespace postern::proxy
