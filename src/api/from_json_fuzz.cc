// Resources and durations of anybody: JSON into messages of several kinds and back, bytes into
// messages and JSON. What was accepted of JSON reads the same after a round trip.
#include "api/message.h"
#include "base/check.h"

#include <google/protobuf/message.h>
#include <nlohmann/json.hpp>

#include <cstdint>
#include <iterator>
#include <memory>
#include <string_view>

using namespace postern;  // NOLINT(google-build-using-namespace): a program of its own

namespace {

constexpr std::string_view kTypes[] = {
    api::kListenerType, api::kRouteType,  api::kClusterType,
    api::kEndpointType, api::kSecretType, "type.googleapis.com/google.protobuf.Struct"};

void roundTrip(const google::protobuf::Message& message) {
  const std::string bytes = api::serialize(message);
  const std::unique_ptr<google::protobuf::Message> again(message.New());
  POSTERN_CHECK(api::parseBytes(bytes, *again));
  POSTERN_CHECK(api::serialize(*again) == bytes);
  (void)api::toJson(message);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 1) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  (void)api::parseDuration(text);
  const auto message = api::makeMessage(kTypes[data[0] % std::size(kTypes)]);
  if (const auto value = json::parse(text)) {
    std::vector<std::string> unknown;
    const bool ignored = (data[0] & 128) != 0;
    if (api::fromJson(*value, *message, ignored ? &unknown : nullptr)) roundTrip(*message);
  }
  // What came as bytes is not written as bytes again (the library writes an entry of a map that
  // lacks its key or value with a wrong length), but it is shown.
  if (api::parseBytes(text, *message)) (void)api::toJson(*message);
  return 0;
}
