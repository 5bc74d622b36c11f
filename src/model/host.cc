#include "model/host.h"

namespace postern::model {

std::string completeHost(std::string_view host, std::string_view ns, std::string_view domain) {
  if (host.empty() || host.find('.') != std::string_view::npos || host[0] == '*') {
    return std::string(host);
  }
  std::string full(host);
  full.append(".").append(ns).append(".svc.").append(domain);
  return full;
}

bool hostCovers(std::string_view pattern, std::string_view host) {
  if (pattern == host || pattern == "*") return true;
  if (!pattern.starts_with("*")) return false;
  pattern.remove_prefix(1);
  return host.size() > pattern.size() && host.ends_with(pattern);
}

std::string hostIntersection(std::string_view a, std::string_view b) {
  if (hostCovers(a, b)) return std::string(b);
  if (hostCovers(b, a)) return std::string(a);
  return "";
}

std::size_t hostSpecificity(std::string_view pattern) {
  if (pattern == "*") return 0;
  if (pattern.starts_with("*")) return pattern.size();
  return pattern.size() + 1000;
}

bool exportedTo(const std::vector<std::string>& export_to, std::string_view ns,
                std::string_view viewer) {
  if (export_to.empty()) return true;
  for (const std::string& to : export_to) {
    if (to == "*" || to == viewer || (to == "." && ns == viewer)) return true;
  }
  return false;
}

bool labelsContain(const Labels& labels, const Labels& wanted) {
  for (const auto& [key, value] : wanted) {
    auto found = labels.find(key);
    if (found == labels.end() || found->second != value) return false;
  }
  return true;
}

const Port* Service::port(std::uint32_t number) const {
  for (const Port& p : ports) {
    if (p.number == number) return &p;
  }
  return nullptr;
}

}  // namespace postern::model
