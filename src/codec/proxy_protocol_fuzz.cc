// PROXY headers from hostile clients: what is read does not depend on how much is shown at once,
// no more is asked for than the limit, and what was read can be written and read again.
#include "base/check.h"
#include "codec/proxy_protocol.h"

#include <cstdint>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace postern::codec;
  const std::string_view all(reinterpret_cast<const char*>(data), size);
  ProxyHeader whole;
  const ProxyRead read = readProxyHeader(all, whole);
  POSTERN_CHECK(read.bytes <= kProxyHeaderBytesMax);
  const std::size_t step = size / 64 + 1;
  for (std::size_t length = 0; length < size; length += step) {
    ProxyHeader part;
    const ProxyRead early = readProxyHeader(all.substr(0, length), part);
    if (early.result == ProxyResult::kMore) {
      POSTERN_CHECK(early.bytes > length && early.bytes <= kProxyHeaderBytesMax);
      continue;
    }
    POSTERN_CHECK(early.result == read.result && early.bytes == read.bytes);
  }
  if (read.result != ProxyResult::kHeader) return 0;
  POSTERN_CHECK(read.bytes <= size);
  ProxyHeader again;
  const std::string written = writeProxyHeader(whole);
  POSTERN_CHECK(readProxyHeader(written, again).result == ProxyResult::kHeader);
  POSTERN_CHECK(again.family == whole.family && again.source == whole.source &&
                again.destination == whole.destination && again.tlvs == whole.tlvs);
  return 0;
}
