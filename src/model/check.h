// Collects the errors of one object, with the checks that several kinds share. Internal to this
// folder; includes nlohmann.
#pragma once

#include "base/error.h"
#include "model/fields.h"

#include <string>
#include <string_view>
#include <vector>

namespace postern::model {

class Check {
 public:
  void add(std::string path, std::string what) {
    errors_.push_back({std::move(path), std::move(what)});
  }
  void port(const fields::Json& value, const std::string& path);
  /// A duration of at least 1 ms in whole milliseconds, if the key is there.
  void duration(const fields::Json& holder, const char* key, const std::string& path);
  /// A number of at least `least`, if the key is there.
  void atLeast(const fields::Json& holder, const char* key, double least, const std::string& path);
  void percentage(const fields::Json& percent, const std::string& path);
  void host(const std::string& name, const std::string& path, bool allow_short);
  /// "ns/host" or "host".
  void scopedHost(const std::string& written, const std::string& path);
  void dnsLabel(const std::string& name, const std::string& path);
  void exportTo(const fields::Json& spec);
  std::vector<base::ConfigError> take() { return std::move(errors_); }

 private:
  std::vector<base::ConfigError> errors_;
};

bool isDnsLabel(std::string_view text);
/// "10.0.0.1", "::1".
bool isIpAddress(const std::string& text);
/// An address or "10.0.0.0/8".
bool isCidr(const std::string& text);

void checkGateway(Check& check, const fields::Json& spec);
void checkVirtualService(Check& check, const fields::Json& spec);
void checkDestinationRule(Check& check, const fields::Json& spec);
void checkServiceEntry(Check& check, const fields::Json& spec);
void checkSidecar(Check& check, const fields::Json& spec);

}  // namespace postern::model
