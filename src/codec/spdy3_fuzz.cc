// SPDY frames from hostile peers: no crash, no more memory than the limits allow, and what is read
// does not depend on how the bytes were cut.
#include "base/check.h"
#include "codec/spdy3.h"

#include <cstdint>
#include <string>
#include <string_view>

namespace {

using postern::codec::SpdyFrame;
using postern::codec::SpdyLimits;
using postern::codec::SpdyParser;
using postern::codec::SpdyType;

constexpr SpdyLimits kLimits{
    .control_bytes_max = 2048, .header_bytes_max = 8192, .header_count_max = 16};

/// Everything that was read, as text; the pieces of one data frame run together.
std::string read(std::string_view bytes, std::size_t piece) {
  SpdyParser parser(kLimits);
  std::string out;
  std::uint32_t data_of = 0;
  while (!bytes.empty()) {
    std::string part(bytes.substr(0, piece));
    bytes.remove_prefix(part.size());
    parser.feed(part);
    while (true) {
      auto frame = parser.next();
      if (!frame) return out + "|error " + frame.error().text;
      if (!*frame) break;
      const SpdyFrame& f = **frame;
      if (f.type == SpdyType::kData) {
        if (data_of != f.stream) out += "|data " + std::to_string(f.stream) + " ";
        data_of = f.fin ? 0 : f.stream;
        out += f.data + (f.fin ? "." : "");
        continue;
      }
      data_of = 0;
      out += "|" + std::to_string(static_cast<int>(f.type)) + " " + std::to_string(f.stream) + " " +
             std::to_string(f.value) + (f.fin ? "." : "");
      std::size_t size = 0;
      for (const auto& [name, value] : f.headers) {
        out += "," + name + "=" + value;
        size += name.size() + value.size();
      }
      POSTERN_CHECK(f.headers.size() <= kLimits.header_count_max &&
                    size <= kLimits.header_bytes_max);
    }
  }
  return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string_view bytes(reinterpret_cast<const char*>(data), size);
  POSTERN_CHECK(read(bytes, size + 1) == read(bytes, 3));
  return 0;
}
