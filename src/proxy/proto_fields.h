// Reading configuration messages: where the builder is (a field path) and the first error it met.
// Short-lived, one thread.
#pragma once

#include "base/error.h"

#include <google/protobuf/message.h>

#include <chrono>
#include <cstddef>
#include <string>
#include <string_view>

namespace google::protobuf {
class Any;
class Duration;
}  // namespace google::protobuf

namespace postern::proxy {

/// A duration in milliseconds, rounded up, and so short that sums of a few and of the time of day
/// do not overflow nanoseconds.
base::Result<std::chrono::milliseconds> toMilliseconds(const google::protobuf::Duration& value);

/// The first error of a whole build; later ones are dropped.
class BuildErrors {
 public:
  void add(std::string path, std::string text);
  bool failed() const { return failed_; }
  const base::ConfigError& error() const { return error_; }

 private:
  bool failed_ = false;
  base::ConfigError error_;
};

class Place {
 public:
  Place(std::string_view path, BuildErrors& errors) : path_(path), errors_(errors) {}
  Place field(std::string_view name) const;
  Place item(std::string_view name, int index) const;
  /// The value of a map entry, as `name["key"]`.
  Place entry(std::string_view name, std::string_view key) const;

  void fail(std::string text) const { errors_.add(path_, std::move(text)); }
  void fail(std::string_view name, std::string text) const { field(name).fail(std::move(text)); }
  /// Unpacks an Any into a message of a known type, or fails naming the type.
  bool unpack(const google::protobuf::Any& any, google::protobuf::Message& out) const;
  /// A duration in milliseconds, as toMilliseconds() has it.
  std::chrono::milliseconds duration(std::string_view name,
                                     const google::protobuf::Duration& value) const;

  const std::string& path() const { return path_; }
  BuildErrors& errors() const { return errors_; }

 private:
  std::string path_;
  BuildErrors& errors_;
};

/// The message name of a type URL, "" for a malformed one.
std::string_view typeName(const google::protobuf::Any& any);

/// The message as what it is; null when it is of another type.
template <class T>
const T* as(const google::protobuf::Message& message) {
  return google::protobuf::DynamicCastToGenerated<const T>(&message);
}

}  // namespace postern::proxy
