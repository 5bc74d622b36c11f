// The hello read whole, and read as it grows: both must agree.
#include "base/check.h"
#include "codec/client_hello.h"

#include <cstdint>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace postern::codec;
  const std::string_view all(reinterpret_cast<const char*>(data), size);
  ClientHello whole;
  const HelloResult result = readClientHello(all, whole);
  const std::size_t step = size / 64 + 1;
  for (std::size_t length = 0; length < size; length += step) {
    ClientHello part;
    const HelloResult early = readClientHello(all.substr(0, length), part);
    if (early == HelloResult::kMore) continue;
    POSTERN_CHECK(early == result && part.server_name == whole.server_name &&
                  part.protocols == whole.protocols);
  }
  return 0;
}
