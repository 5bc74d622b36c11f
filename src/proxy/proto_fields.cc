#include "proxy/proto_fields.h"

#include "api/message.h"

#include <google/protobuf/any.pb.h>
#include <google/protobuf/duration.pb.h>

#include <algorithm>
#include <vector>

namespace postern::proxy {

void BuildErrors::add(std::string path, std::string text) {
  if (failed_) return;
  failed_ = true;
  error_ = {std::move(path), std::move(text)};
}

Place Place::field(std::string_view name) const {
  std::string path = path_;
  if (!path.empty()) path += '.';
  path += name;
  return {path, errors_};
}

Place Place::item(std::string_view name, int index) const {
  Place out = field(name);
  out.path_ += '[' + std::to_string(index) + ']';
  return out;
}

Place Place::entry(std::string_view name, std::string_view key) const {
  Place out = field(name);
  out.path_.append("[\"").append(key).append("\"]");
  return out;
}

bool Place::unpack(const google::protobuf::Any& any, google::protobuf::Message& out) const {
  if (auto done = api::unpack(any, out); !done) {
    errors_.add(path_, done.error().message());
    return false;
  }
  return true;
}

base::Result<std::chrono::milliseconds> toMilliseconds(const google::protobuf::Duration& value) {
  constexpr std::int64_t kTooManySeconds = 9'223'372'036;  // for Envoy: of nanoseconds in 63 bits
  constexpr std::int64_t kWaitedSecondsMax = 3'000'000'000;
  if (value.seconds() < 0 || value.nanos() < 0 || value.nanos() >= 1'000'000'000)
    return base::fail(base::Errc::kInvalidArgument, "must be a duration of 0 or more");
  if (value.seconds() >= kTooManySeconds)
    return base::fail(base::Errc::kInvalidArgument, "must be less than 9223372036s");
  // Nobody waits for 95 years.
  return std::chrono::milliseconds(std::min(value.seconds(), kWaitedSecondsMax) * 1000 +
                                   (value.nanos() + 999'999) / 1'000'000);
}

std::chrono::milliseconds Place::duration(std::string_view name,
                                          const google::protobuf::Duration& value) const {
  const auto out = toMilliseconds(value);
  if (!out) fail(name, out.error().text);
  return out.value_or(std::chrono::milliseconds(0));
}

std::string_view typeName(const google::protobuf::Any& any) {
  const std::string_view url = any.type_url();
  const std::size_t slash = url.rfind('/');
  return slash == std::string_view::npos ? std::string_view() : url.substr(slash + 1);
}

}  // namespace postern::proxy
