// Our HPACK against nghttp2's: the same blocks give the same fields and the same verdict, and what
// either side encodes the other decodes. The input is blocks, each after a byte with its length.
#include "base/check.h"
#include "codec/hpack.h"

#include <nghttp2/nghttp2.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace {

using namespace postern::codec;  // NOLINT(google-build-using-namespace): a program of its own

using Fields = std::vector<std::pair<std::string, std::string>>;

struct Sink final : HpackSink {
  Fields fields;
  void onField(std::string_view name, std::string_view value) override {
    fields.emplace_back(name, value);
  }
};

bool inflate(nghttp2_hd_inflater* inflater, std::string_view block, Fields& out) {
  const auto* at = reinterpret_cast<const std::uint8_t*>(block.data());
  std::size_t left = block.size();
  for (;;) {
    nghttp2_nv field;
    int flags = 0;
    const auto used = nghttp2_hd_inflate_hd2(inflater, &field, &flags, at, left, 1);
    if (used < 0) return false;
    at += used;
    left -= static_cast<std::size_t>(used);
    if ((flags & NGHTTP2_HD_INFLATE_EMIT) != 0) {
      out.emplace_back(std::string(reinterpret_cast<char*>(field.name), field.namelen),
                       std::string(reinterpret_cast<char*>(field.value), field.valuelen));
    }
    if ((flags & NGHTTP2_HD_INFLATE_FINAL) != 0) break;
    if ((flags & NGHTTP2_HD_INFLATE_EMIT) == 0 && left == 0) break;
  }
  nghttp2_hd_inflate_end_headers(inflater);
  return true;
}

void decodeBoth(std::string_view bytes) {
  HpackDecoder ours(1 << 24, 1 << 20);
  nghttp2_hd_inflater* theirs = nullptr;
  POSTERN_CHECK(nghttp2_hd_inflate_new(&theirs) == 0);
  while (!bytes.empty()) {
    const std::size_t length = static_cast<unsigned char>(bytes[0]);
    const std::string block(bytes.substr(1, length));
    bytes.remove_prefix(1 + block.size());
    Sink sink;
    Fields fields;
    const bool ok = ours.decode(block, sink) == HpackDecoder::Status::kOk;
    const bool their_ok = inflate(theirs, block, fields);
    POSTERN_CHECK(ok == their_ok);
    if (!ok) break;
    POSTERN_CHECK(sink.fields == fields);
    POSTERN_CHECK(ours.table().size() == nghttp2_hd_inflate_get_dynamic_table_size(theirs));
  }
  nghttp2_hd_inflate_del(theirs);
}

/// Fields out of the bytes: names and values of lengths that the bytes say.
Fields takeFields(std::string_view bytes) {
  Fields out;
  while (bytes.size() > 2 && out.size() < 50) {
    const std::size_t name = 1 + static_cast<unsigned char>(bytes[0]) % 20U;
    const std::size_t value = static_cast<unsigned char>(bytes[1]) % 60U;
    bytes.remove_prefix(2);
    std::string text(bytes.substr(0, name));
    bytes.remove_prefix(text.size());
    out.emplace_back(std::move(text), bytes.substr(0, value));
    bytes.remove_prefix(std::min(value, bytes.size()));
  }
  return out;
}

void encodeBoth(std::string_view bytes) {
  const Fields fields = takeFields(bytes);
  HpackEncoder encoder;
  HpackDecoder decoder(1 << 24, 1 << 20);
  nghttp2_hd_inflater* inflater = nullptr;
  nghttp2_hd_deflater* deflater = nullptr;
  POSTERN_CHECK(nghttp2_hd_inflate_new(&inflater) == 0);
  POSTERN_CHECK(nghttp2_hd_deflate_new(&deflater, 4096) == 0);
  for (int round = 0; round < 2; ++round) {
    std::string block;
    encoder.begin(block);
    std::vector<nghttp2_nv> pairs;
    for (const auto& [name, value] : fields) {
      encoder.encode(name, value, block);
      pairs.push_back({reinterpret_cast<std::uint8_t*>(const_cast<char*>(name.data())),
                       reinterpret_cast<std::uint8_t*>(const_cast<char*>(value.data())),
                       name.size(), value.size(), NGHTTP2_NV_FLAG_NONE});
    }
    Fields read;
    POSTERN_CHECK(inflate(inflater, block, read) && read == fields);
    std::string theirs(nghttp2_hd_deflate_bound(deflater, pairs.data(), pairs.size()), '\0');
    const auto used =
        nghttp2_hd_deflate_hd(deflater, reinterpret_cast<std::uint8_t*>(theirs.data()),
                              theirs.size(), pairs.data(), pairs.size());
    POSTERN_CHECK(used >= 0);
    theirs.resize(static_cast<std::size_t>(used));
    Sink sink;
    POSTERN_CHECK(decoder.decode(theirs, sink) == HpackDecoder::Status::kOk);
    POSTERN_CHECK(sink.fields == fields);
  }
  nghttp2_hd_inflate_del(inflater);
  nghttp2_hd_deflate_del(deflater);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  decodeBoth(bytes);
  encodeBoth(bytes);
  return 0;
}
