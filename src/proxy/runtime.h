// The static layers of the bootstrap's runtime. Messages name a key beside a default: where a layer
// has the key, its value stands for the default. Made once, immutable.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>

namespace envoy::config::bootstrap::v3 {
class LayeredRuntime;
}
namespace google::protobuf {
class Message;
class Struct;
}  // namespace google::protobuf

namespace postern::proxy {

class Runtime {
 public:
  Runtime() = default;
  /// Later layers stand above earlier ones.
  explicit Runtime(const envoy::config::bootstrap::v3::LayeredRuntime& message);
  bool empty() const { return values_.empty(); }
  /// Puts values in the place of defaults, in the message and in what it holds; true: something
  /// was changed.
  bool apply(google::protobuf::Message& message) const;

 private:
  struct Value {
    std::uint64_t number = 0;
    std::optional<int> denominator;  // of a fraction: the enumeration's value
  };
  void read(const std::string& prefix, const google::protobuf::Struct& layer);
  const Value* find(const std::string& key) const;
  /// True when the message is one that names a key, whether a layer has it or not.
  bool applyHere(google::protobuf::Message& message, bool& changed) const;

  std::map<std::string, Value> values_;  // only numbers and fractions
};

}  // namespace postern::proxy
