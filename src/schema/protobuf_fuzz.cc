// Kubernetes' protobuf bodies of anybody: JSON or a reason. The first byte chooses the kind whose
// envelope is put around the rest; 0 takes the bytes as they are.
#include "base/check.h"
#include "schema/protobuf.h"
#include "schema/types.h"

#include <nlohmann/json.hpp>

#include <cstdint>
#include <string>
#include <string_view>

using namespace postern;  // NOLINT(google-build-using-namespace): a program of its own

namespace {

/// Field `number` with `bytes`, in the wire format.
void field(std::string& out, unsigned number, std::string_view bytes) {
  out += static_cast<char>(number << 3 | 2);
  std::size_t left = bytes.size();
  while (left >= 128) {
    out += static_cast<char>(left | 128);
    left >>= 7;
  }
  out += static_cast<char>(left);
  out += bytes;
}

std::string envelope(unsigned choice, std::string_view object) {
  constexpr std::string_view kKinds[][2] = {
      {"v1", "Pod"},    {"v1", "Service"},       {"apps/v1", "Deployment"},
      {"v1", "Secret"}, {"v1", "DeleteOptions"}, {"autoscaling/v2", "HorizontalPodAutoscaler"},
      {"v1", "Event"},  {"batch/v1", "Job"}};
  const auto& kind = kKinds[choice % 8];
  std::string type;
  field(type, 1, kind[0]);
  field(type, 2, kind[1]);
  std::string out(schema::kProtobufMagic);
  field(out, 1, type);
  field(out, 2, object);
  return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 1) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  const auto decoded =
      schema::decodeProtobuf(data[0] == 0 ? std::string(bytes) : envelope(data[0], bytes));
  if (!decoded) {
    POSTERN_CHECK(!decoded.error().message().empty());
    return 0;
  }
  json::Json object = *decoded;
  const auto* type =
      schema::builtinType(json::stringAt(object, "apiVersion"), json::stringAt(object, "kind"));
  if (type != nullptr) {
    const auto check = schema::checkType(object, *type);
    POSTERN_CHECK(check.unknown.empty() && !check.wrong);
  }
  (void)json::dump(object);
  return 0;
}
