// Access-log formats of anybody: compile or be refused with a reason, and print. The first byte
// chooses between a text format and a JSON one.
#include "api/message.h"
#include "base/check.h"
#include "formatter/format.h"

#include <google/protobuf/struct.pb.h>
#include <nlohmann/json.hpp>

#include <cstdint>
#include <string>
#include <string_view>

using namespace postern;             // NOLINT(google-build-using-namespace): a program of its own
using namespace postern::formatter;  // NOLINT(google-build-using-namespace)

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 1) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  const http::HeaderMap request{{":method", "GET"}, {":path", "/a?b=\"\x01\xff"}, {"x", "y,z"}};
  const http::HeaderMap response{{":status", "200"}, {"grpc-status", "5"}, {"x", ""}};
  AccessRecord record;
  record.request = &request;
  record.response = &response;
  record.start = base::WallTime(std::chrono::milliseconds(1580682029191));
  std::string error;
  std::string out;
  if ((data[0] & 1) == 0) {
    Format format;
    if (!Format::compile(text, format, error)) {
      POSTERN_CHECK(!error.empty());
      return 0;
    }
    format.append(out, record);
    format.append(out, AccessRecord());
    if (format.constant()) POSTERN_CHECK(out.size() % 2 == 0);
    return 0;
  }
  const auto value = json::parse(text);
  google::protobuf::Struct fields;
  if (!value || !value->is_object() || !api::fromJson(*value, fields)) return 0;
  JsonFormat format;
  if (!JsonFormat::compile(fields, format, error)) {
    POSTERN_CHECK(!error.empty());
    return 0;
  }
  if ((data[0] & 2) != 0) format.omitEmpty();
  format.append(out, record);
  POSTERN_CHECK(json::parse(out).has_value());
  return 0;
}
