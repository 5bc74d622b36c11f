#include "model/check.h"

#include "base/strings.h"
#include "model/parse.h"

#include <algorithm>
#include <set>

#include <arpa/inet.h>

namespace postern::model {

using fields::at;
using fields::indexed;
using fields::Json;
using fields::text;

void Check::port(const Json& value, const std::string& path) {
  const double n = fields::number(value, 0);
  if (n >= 1 && n <= 65535) return;
  add(path, "port number " + (value.is_number() ? value.dump() : std::string("0")) +
                " must be in the range 1..65535");
}

void Check::duration(const Json& holder, const char* key, const std::string& path) {
  const Json& value = at(holder, key);
  if (value.is_null()) return;
  const std::string parsed = parseDuration(text(value));  // "1.5s"
  if (parsed.empty()) {
    return add(path + "." + key, "invalid duration \"" + text(value) + "\"");
  }
  const auto dot = parsed.find('.');
  if (parsed == "0s" || (dot != std::string::npos && parsed.size() - dot > 5)) {
    add(path + "." + key,
        "duration must be greater than 1ms, in whole milliseconds: \"" + text(value) + "\"");
  }
}

void Check::atLeast(const Json& holder, const char* key, double least, const std::string& path) {
  const Json& value = at(holder, key);
  if (value.is_number() && value.get<double>() < least) {
    add(path + "." + key,
        "must be at least " + std::to_string(static_cast<long>(least)) + ", is " + value.dump());
  }
}

void Check::percentage(const Json& percent, const std::string& path) {
  const Json& value = at(percent, "value");
  const double n = fields::number(value);
  if (n < 0 || n > 100) {
    add(path + ".value", "percentage " + value.dump() + " is not in the range 0..100");
  } else if (n != 0 && n < 0.0001) {
    add(path + ".value", "percentage " + value.dump() + " is less than 0.0001");
  }
}

void Check::host(const std::string& name, const std::string& path, bool allow_short) {
  const std::string bad = "invalid domain name \"" + name + "\"";
  if (name.empty() || name.size() > 255) return add(path, bad);
  if (name == "*") return;
  std::string_view rest = name;
  if (rest.starts_with("*.")) rest.remove_prefix(2);
  if (!allow_short && rest == name && rest.find('.') == std::string_view::npos) {
    return add(path, "short names (non FQDN) are not allowed: \"" + name + "\"");
  }
  std::string_view last;
  for (std::string_view label : base::split(rest, '.')) {
    if (label.size() > 63 || label.empty() || label.front() == '-' || label.back() == '-') {
      return add(path, bad);
    }
    for (const char c : label) {
      const bool alnum = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
      if (!alnum && c != '-') return add(path, bad);
    }
    last = label;
  }
  const bool numeric =
      std::all_of(last.begin(), last.end(), [](char c) { return c >= '0' && c <= '9'; });
  if (numeric && rest.find('.') != std::string_view::npos && !isIpAddress(name)) {
    add(path, "invalid domain name \"" + name + "\": the top label is a number");
  }
}

void Check::scopedHost(const std::string& written, const std::string& path) {
  const auto slash = written.find('/');
  if (slash != std::string::npos) {
    const std::string ns = written.substr(0, slash);
    if (ns != "*" && ns != "." && !isDnsLabel(ns)) {
      return add(path, "invalid namespace \"" + ns + "\" of host \"" + written + "\"");
    }
  }
  host(slash == std::string::npos ? written : written.substr(slash + 1), path, false);
}

void Check::dnsLabel(const std::string& name, const std::string& path) {
  if (!isDnsLabel(name)) add(path, "\"" + name + "\" is not a DNS label (RFC 1123)");
}

void Check::exportTo(const Json& spec) {
  std::set<std::string> seen;
  const auto all = fields::texts(at(spec, "exportTo"));
  for (std::size_t i = 0; i < all.size(); ++i) {
    const std::string path = indexed("spec.exportTo", i);
    const std::string& ns = all[i];
    if (ns != "." && ns != "*" && ns != "~" && !isDnsLabel(ns)) {
      add(path, "invalid namespace \"" + ns + "\"");
    }
    if (!seen.insert(ns).second) add(path, "duplicate entry \"" + ns + "\"");
    if ((ns == "*" || ns == "~") && all.size() > 1) {
      add(path, "\"" + ns + "\" cannot be combined with other entries");
    }
  }
}

bool isDnsLabel(std::string_view text) {
  if (text.empty() || text.size() > 63 || text.front() == '-' || text.back() == '-') return false;
  return std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';
  });
}

bool isIpAddress(const std::string& text) {
  unsigned char bytes[16];
  return inet_pton(AF_INET, text.c_str(), bytes) == 1 ||
         inet_pton(AF_INET6, text.c_str(), bytes) == 1;
}

bool isCidr(const std::string& text) {
  const auto slash = text.find('/');
  if (slash == std::string::npos) return isIpAddress(text);
  const std::string base = text.substr(0, slash);
  const auto bits = base::parseInteger<unsigned>(std::string_view(text).substr(slash + 1));
  return isIpAddress(base) && bits && *bits <= (base.find(':') == std::string::npos ? 32U : 128U);
}

}  // namespace postern::model
