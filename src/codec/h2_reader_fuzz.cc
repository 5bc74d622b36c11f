// HTTP/2 frames from hostile peers: no crash, bounded memory, and the events do not depend on how
// the bytes were cut.
#include "base/check.h"
#include "codec/h2_reader.h"

#include <cstdint>
#include <string>
#include <string_view>

namespace {

using postern::codec::H2FrameReader;
using Event = H2FrameReader::Event;

constexpr std::size_t kBlockBytesMax = 4096;

/// All events as text; pieces of one DATA frame are joined.
std::string eventsOf(std::string_view bytes, std::size_t piece, H2FrameReader::Role role) {
  H2FrameReader reader(role, {.block_bytes_max = kBlockBytesMax});
  postern::base::Buffer in;
  std::string out;
  std::uint64_t data = 0;
  std::uint64_t flow = 0;
  while (!bytes.empty()) {
    in.append(bytes.substr(0, piece));
    bytes.remove_prefix(std::min(piece, bytes.size()));
    for (Event event = reader.next(in); event != Event::kNeedMore; event = reader.next(in)) {
      if (event == Event::kError) return out + "!" + reader.text();
      if (event == Event::kData) {
        POSTERN_CHECK(reader.dataBytes() <= in.size());
        in.drain(reader.dataBytes());
        data += reader.dataBytes();
        flow += reader.flowBytes();
        if (reader.endStream()) out += "end" + std::to_string(reader.stream()) + ";";
        continue;
      }
      out += std::to_string(static_cast<int>(event)) + ":" + std::to_string(reader.stream());
      if (event == Event::kHeaders) {
        POSTERN_CHECK(reader.block().size() <= kBlockBytesMax);
        out += std::string(reader.block()) + (reader.endStream() ? "e" : "");
      }
      if (event == Event::kReset || event == Event::kGoAway || event == Event::kStreamError)
        out += std::to_string(static_cast<std::uint32_t>(reader.code()));
      out += ";";
    }
  }
  // The rest of a cut-off DATA frame counts only in the windows.
  POSTERN_CHECK(data <= flow);
  return out + std::to_string(data);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string_view bytes(reinterpret_cast<const char*>(data), size);
  for (auto role : {H2FrameReader::Role::kServer, H2FrameReader::Role::kClient}) {
    const std::string whole = eventsOf(bytes, size + 1, role);
    POSTERN_CHECK(whole == eventsOf(bytes, 1, role));
    POSTERN_CHECK(whole == eventsOf(bytes, 13, role));
  }
  return 0;
}
