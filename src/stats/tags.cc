#include "stats/tags.h"

#include <algorithm>
#include <array>

namespace postern::stats {

namespace {

bool isDigit(char c) { return c >= '0' && c <= '9'; }

/// The value after `prefix`, up to the next dot, or, as cluster names and addresses may hold dots,
/// up to where a statistic's own name is known to begin.
bool cut(TaggedStat& out, std::string_view prefix, const char* tag, bool to_known_end) {
  if (!out.name.starts_with(prefix)) return false;
  const std::string_view rest = std::string_view(out.name).substr(prefix.size());
  std::size_t end = rest.find('.');
  if (to_known_end) {
    // A name with dots in it is followed by the statistic's own, which begins with one of these.
    constexpr std::array kStarts = {".upstream_",
                                    ".membership_",
                                    ".lb_",
                                    ".circuit_breakers.",
                                    ".update_",
                                    ".http1.",
                                    ".http2.",
                                    ".internal.",
                                    ".external.",
                                    ".outlier_detection.",
                                    ".downstream_",
                                    ".no_filter_",
                                    ".http.",
                                    ".worker_",
                                    ".retry_or_shadow_",
                                    ".bind_errors",
                                    ".assignment_",
                                    ".max_host_weight",
                                    ".version"};
    std::size_t known = std::string_view::npos;
    for (const char* start : kStarts) known = std::min(known, rest.find(start));
    if (known != std::string_view::npos) end = known;
  }
  if (end == std::string_view::npos || end == 0) return false;
  out.tags.emplace_back(tag, std::string(rest.substr(0, end)));
  out.name.erase(prefix.size() - 1, end + 1);
  return true;
}

/// "_rq_200" and "_rq_2xx" at the end.
void cutResponseCode(TaggedStat& out) {
  std::string& name = out.name;
  if (name.size() < 7) return;
  const std::string_view tail = std::string_view(name).substr(name.size() - 7);
  if (!tail.starts_with("_rq_") || !isDigit(tail[4])) return;
  if (isDigit(tail[5]) && isDigit(tail[6])) {
    out.tags.emplace_back("envoy.response_code", std::string(tail.substr(4)));
    name.erase(name.size() - 4);
  } else if (tail.substr(5) == "xx") {
    out.tags.emplace_back("envoy.response_code_class", std::string(tail.substr(4, 1)));
    name.erase(name.size() - 3, 1);
  }
}

}  // namespace

TaggedStat extractTags(std::string_view full) {
  TaggedStat out;
  out.name = full;
  cutResponseCode(out);
  cut(out, "cluster.", "envoy.cluster_name", true);
  if (cut(out, "listener.", "envoy.listener_address", true)) {
    const std::string_view kInner = "listener.http.";
    cut(out, kInner, "envoy.http_conn_manager_prefix", false);
    if (out.name.starts_with("listener.worker_")) {
      const std::size_t dot = out.name.find('.', 16);
      if (dot != std::string::npos) {
        out.tags.emplace_back("envoy.worker_id", out.name.substr(16, dot - 16));
        out.name.erase(8, dot - 8);
      }
    }
  }
  cut(out, "http.", "envoy.http_conn_manager_prefix", true);
  cut(out, "tcp.", "envoy.tcp_prefix", true);
  std::sort(out.tags.begin(), out.tags.end());
  return out;
}

std::string prometheusName(std::string_view name) {
  std::string out(name);
  for (char& c : out) {
    const bool good = isDigit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
    if (!good) c = '_';
  }
  return out;
}

std::string prometheusLabel(std::string_view value) {
  std::string out;
  for (const char c : value) {
    if (c == '\n') {
      out += "\\n";
      continue;
    }
    if (c == '\\' || c == '"') out += '\\';
    out += c;
  }
  return out;
}

}  // namespace postern::stats
