// gRPC messages out of a hostile body: the verdict does not depend on how the bytes were cut, and
// no message is larger than allowed. The first byte chooses the cut.
#include "base/check.h"
#include "codec/grpc_frame.h"

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>

namespace {

using postern::base::Buffer;
using postern::codec::GrpcReader;

constexpr std::size_t kMessageBytesMax = 1000;

std::string read(std::string_view bytes, std::size_t piece) {
  GrpcReader reader(kMessageBytesMax);
  Buffer in;
  std::string out;
  do {
    const std::string_view part = bytes.substr(0, piece);
    in.append(part);
    bytes.remove_prefix(part.size());
    GrpcReader::Event event = reader.next(in);
    while (event == GrpcReader::Event::kMessage) {
      POSTERN_CHECK(reader.message().size() <= kMessageBytesMax);
      out.append("|").append(reader.message());
      event = reader.next(in);
    }
    if (event == GrpcReader::Event::kTooLarge) return out + "|too large";
    if (event == GrpcReader::Event::kCompressed) return out + "|compressed";
  } while (!bytes.empty());
  return out + (reader.inside(in) ? "|inside" : "|end");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  POSTERN_CHECK(read(bytes, size) == read(bytes, 1 + data[0] % 16U));
  const std::string encoded = postern::codec::encodeGrpcText(bytes);
  POSTERN_CHECK(postern::codec::decodeGrpcText(encoded) == bytes);
  POSTERN_CHECK(postern::codec::decodeGrpcText(bytes).size() <= bytes.size());
  return 0;
}
