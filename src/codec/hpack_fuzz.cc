// HPACK decoding of arbitrary blocks; the first byte says where the input is cut in two blocks.
#include "codec/hpack.h"

#include <cstdint>

namespace {
struct Count final : postern::codec::HpackSink {
  std::size_t bytes = 0;
  void onField(std::string_view name, std::string_view value) override {
    bytes += name.size() + value.size();
  }
};
}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using postern::codec::HpackDecoder;
  if (size == 0) return 0;
  std::string_view input(reinterpret_cast<const char*>(data) + 1, size - 1);
  HpackDecoder decoder(8192, 100);
  Count sink;
  const std::size_t cut = data[0] < input.size() ? data[0] : input.size();
  if (decoder.decode(input.substr(0, cut), sink) != HpackDecoder::Status::kError)
    decoder.decode(input.substr(cut), sink);
  if (sink.bytes > 2 * 8192 || decoder.table().size() > 4096) __builtin_trap();
  return 0;
}
