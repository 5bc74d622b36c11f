#include "codec/spdy3.h"

#include "base/check.h"
#include "codec/spdy3_dictionary.h"

#include <zlib.h>

#include <algorithm>

namespace postern::codec {
namespace {

using base::Errc;

constexpr std::size_t kHeadBytes = 8;
constexpr std::size_t kDataBytesMax = 0xffffff;
constexpr std::size_t kPieceBytesMax = 64 * 1024;
constexpr std::uint16_t kVersion = 3;
constexpr std::uint8_t kFin = 1;
constexpr std::uint32_t kIdMask = 0x7fffffff;

std::uint32_t read32(std::string_view bytes, std::size_t at) {
  std::uint32_t out = 0;
  for (std::size_t i = 0; i < 4; ++i) out = out << 8 | static_cast<std::uint8_t>(bytes[at + i]);
  return out;
}

void write32(std::string& out, std::uint32_t value) {
  for (int shift = 24; shift >= 0; shift -= 8) {
    out.push_back(static_cast<char>(value >> shift & 0xff));
  }
}

std::string controlFrame(SpdyType type, std::uint8_t flags, std::string_view payload) {
  std::string out;
  out.reserve(kHeadBytes + payload.size());
  write32(out, 0x80000000U | std::uint32_t{kVersion} << 16 | static_cast<std::uint32_t>(type));
  write32(out, std::uint32_t{flags} << 24 | static_cast<std::uint32_t>(payload.size()));
  out.append(payload);
  return out;
}

/// A frame of two numbers.
std::string pairFrame(SpdyType type, std::uint32_t first, std::uint32_t second) {
  std::string payload;
  write32(payload, first);
  write32(payload, second);
  return controlFrame(type, 0, payload);
}

Bytef* bytesOf(std::string_view text) {
  // zlib does not write through next_in; its type only lacks the const.
  return reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
}

}  // namespace

SpdyParser::SpdyParser(const SpdyLimits& limits)
    : limits_(limits), inflater_(std::make_unique<z_stream>()) {
  POSTERN_CHECK(inflateInit(inflater_.get()) == Z_OK);
}
SpdyParser::~SpdyParser() {
  if (inflater_) inflateEnd(inflater_.get());
}
SpdyParser::SpdyParser(SpdyParser&&) noexcept = default;

void SpdyParser::feed(std::string_view bytes) {
  if (taken_ == input_.size() || taken_ > kPieceBytesMax) {
    input_.erase(0, taken_);
    taken_ = 0;
  }
  input_.append(bytes);
}

base::Result<std::optional<SpdyFrame>> SpdyParser::next() {
  while (true) {
    if (data_left_ > 0) return dataPiece();
    std::string_view bytes = rest();
    if (bytes.size() < kHeadBytes) return std::nullopt;
    const std::uint32_t first = read32(bytes, 0);
    const std::uint32_t second = read32(bytes, 4);
    const auto flags = static_cast<std::uint8_t>(second >> 24);
    const std::size_t length = second & kDataBytesMax;
    if ((first & 0x80000000U) == 0) {
      if (first == 0) return base::fail(Errc::kProtocol, "spdy: data on stream 0");
      taken_ += kHeadBytes;
      stream_ = first;
      data_left_ = length;
      data_fin_ = (flags & kFin) != 0;
      if (length == 0) return SpdyFrame{.stream = stream_, .fin = data_fin_};
      continue;
    }
    if ((first >> 16 & 0x7fff) != kVersion) {
      return base::fail(Errc::kProtocol, "spdy: version is not 3");
    }
    if (length > limits_.control_bytes_max) {
      return base::fail(Errc::kLimitExceeded, "spdy: control frame too long");
    }
    if (bytes.size() - kHeadBytes < length) return std::nullopt;
    taken_ += kHeadBytes + length;
    POSTERN_TRY(std::optional<SpdyFrame> frame, control(static_cast<std::uint16_t>(first & 0xffff),
                                                        flags, bytes.substr(kHeadBytes, length)));
    if (frame) return frame;
  }
}

base::Result<std::optional<SpdyFrame>> SpdyParser::dataPiece() {
  const std::size_t size = std::min({rest().size(), data_left_, kPieceBytesMax});
  if (size == 0) return std::nullopt;
  SpdyFrame out{.stream = stream_, .data = std::string(rest().substr(0, size))};
  taken_ += size;
  data_left_ -= size;
  out.fin = data_left_ == 0 && data_fin_;
  return out;
}

base::Result<std::optional<SpdyFrame>> SpdyParser::control(std::uint16_t type, std::uint8_t flags,
                                                           std::string_view payload) {
  SpdyFrame out;
  out.type = static_cast<SpdyType>(type);
  out.fin = (flags & kFin) != 0;
  std::size_t fixed = 0;
  switch (out.type) {
    case SpdyType::kSynStream:
      fixed = 10;  // stream, associated stream, priority, slot
      break;
    case SpdyType::kSynReply:
    case SpdyType::kHeaders:
    case SpdyType::kSettings:
    case SpdyType::kPing:
      fixed = 4;
      break;
    case SpdyType::kRstStream:
    case SpdyType::kGoAway:
    case SpdyType::kWindowUpdate:
      fixed = 8;
      break;
    default:
      return std::nullopt;
  }
  if (payload.size() < fixed) return base::fail(Errc::kProtocol, "spdy: control frame too short");
  const std::uint32_t first = read32(payload, 0);
  if (out.type == SpdyType::kSettings) return out;
  if (out.type == SpdyType::kPing) {
    out.value = first;
    return out;
  }
  out.stream = first & kIdMask;
  if (fixed == 8) {
    out.value = read32(payload, 4);
    return out;
  }
  POSTERN_TRY(out.headers, headerBlock(payload.substr(fixed)));
  if (out.stream == 0) return base::fail(Errc::kProtocol, "spdy: headers on stream 0");
  return out;
}

base::Result<SpdyHeaders> SpdyParser::headerBlock(std::string_view compressed) {
  POSTERN_TRY(std::string block, inflateBlock(compressed));
  SpdyHeaders out;
  std::size_t at = 0;
  auto number = [&](std::uint32_t& value) {
    if (block.size() - at < 4) return false;
    value = read32(block, at);
    at += 4;
    return true;
  };
  auto text = [&](std::string& value) {
    std::uint32_t size = 0;
    if (!number(size) || block.size() - at < size) return false;
    value = block.substr(at, size);
    at += size;
    return true;
  };
  std::uint32_t count = 0;
  if (!number(count)) return base::fail(Errc::kProtocol, "spdy: malformed header block");
  if (count > limits_.header_count_max) {
    return base::fail(Errc::kLimitExceeded, "spdy: too many headers");
  }
  for (std::uint32_t i = 0; i < count; ++i) {
    std::string name;
    std::string value;
    if (!text(name) || !text(value) || name.empty()) {
      return base::fail(Errc::kProtocol, "spdy: malformed header block");
    }
    out.emplace_back(std::move(name), std::move(value));
  }
  return out;
}

base::Result<std::string> SpdyParser::inflateBlock(std::string_view compressed) {
  std::string out;
  z_stream& stream = *inflater_;
  stream.next_in = bytesOf(compressed);
  stream.avail_in = static_cast<uInt>(compressed.size());
  while (true) {
    char buffer[4096];
    stream.next_out = reinterpret_cast<Bytef*>(buffer);
    stream.avail_out = sizeof buffer;
    int result = inflate(&stream, Z_SYNC_FLUSH);
    if (result == Z_NEED_DICT) {
      if (inflateSetDictionary(&stream, kSpdyDictionary.data(), kSpdyDictionary.size()) != Z_OK) {
        return base::fail(Errc::kProtocol, "spdy: another compression dictionary");
      }
      continue;
    }
    out.append(buffer, sizeof buffer - stream.avail_out);
    if (out.size() > limits_.header_bytes_max) {
      return base::fail(Errc::kLimitExceeded, "spdy: header block too long");
    }
    // Z_BUF_ERROR: nothing more to do, which is how a flushed block ends.
    if (result == Z_BUF_ERROR || (result == Z_OK && stream.avail_out > 0)) break;
    if (result != Z_OK) return base::fail(Errc::kProtocol, "spdy: header block does not inflate");
  }
  return out;
}

SpdyWriter::SpdyWriter() : deflater_(std::make_unique<z_stream>()) {
  // The dictionary and our few headers fit a 2 KiB window; the default one would take 256 KiB.
  constexpr int kWindowBits = 11;
  constexpr int kMemoryLevel = 1;
  POSTERN_CHECK(deflateInit2(deflater_.get(), Z_DEFAULT_COMPRESSION, Z_DEFLATED, kWindowBits,
                             kMemoryLevel, Z_DEFAULT_STRATEGY) == Z_OK);
  POSTERN_CHECK(deflateSetDictionary(deflater_.get(), kSpdyDictionary.data(),
                                     kSpdyDictionary.size()) == Z_OK);
}
SpdyWriter::~SpdyWriter() {
  if (deflater_) deflateEnd(deflater_.get());
}
SpdyWriter::SpdyWriter(SpdyWriter&&) noexcept = default;

std::string SpdyWriter::compress(const SpdyHeaders& headers) {
  std::string plain;
  write32(plain, static_cast<std::uint32_t>(headers.size()));
  for (const auto& [name, value] : headers) {
    write32(plain, static_cast<std::uint32_t>(name.size()));
    plain += name;
    write32(plain, static_cast<std::uint32_t>(value.size()));
    plain += value;
  }
  z_stream& stream = *deflater_;
  stream.next_in = bytesOf(plain);
  stream.avail_in = static_cast<uInt>(plain.size());
  std::string out;
  do {
    char buffer[1024];
    stream.next_out = reinterpret_cast<Bytef*>(buffer);
    stream.avail_out = sizeof buffer;
    deflate(&stream, Z_SYNC_FLUSH);
    out.append(buffer, sizeof buffer - stream.avail_out);
  } while (stream.avail_out == 0);
  return out;
}

std::string SpdyWriter::synStream(std::uint32_t stream, bool fin, const SpdyHeaders& headers) {
  std::string payload;
  write32(payload, stream & kIdMask);
  write32(payload, 0);
  payload.append(2, '\0');
  payload += compress(headers);
  return controlFrame(SpdyType::kSynStream, fin ? kFin : 0, payload);
}

std::string SpdyWriter::synReply(std::uint32_t stream, bool fin, const SpdyHeaders& headers) {
  std::string payload;
  write32(payload, stream & kIdMask);
  payload += compress(headers);
  return controlFrame(SpdyType::kSynReply, fin ? kFin : 0, payload);
}

std::string SpdyWriter::rstStream(std::uint32_t stream, SpdyStatus status) {
  return pairFrame(SpdyType::kRstStream, stream, static_cast<std::uint32_t>(status));
}

std::string SpdyWriter::ping(std::uint32_t id) {
  std::string payload;
  write32(payload, id);
  return controlFrame(SpdyType::kPing, 0, payload);
}

std::string SpdyWriter::goAway(std::uint32_t last_good_stream) {
  return pairFrame(SpdyType::kGoAway, last_good_stream, 0);
}

std::string SpdyWriter::windowUpdate(std::uint32_t stream, std::uint32_t growth) {
  return pairFrame(SpdyType::kWindowUpdate, stream, growth);
}

std::string SpdyWriter::dataHead(std::uint32_t stream, bool fin, std::size_t size) {
  POSTERN_CHECK(size <= kDataBytesMax);
  std::string out;
  write32(out, stream & kIdMask);
  write32(out, (fin ? std::uint32_t{kFin} << 24 : 0) | static_cast<std::uint32_t>(size));
  return out;
}

}  // namespace postern::codec
