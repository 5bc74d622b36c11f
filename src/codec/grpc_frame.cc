#include "codec/grpc_frame.h"

#include "codec/h2_frame.h"

#include <utility>

namespace postern::codec {
namespace {

constexpr std::size_t kStoreKeptBytes = 64 * 1024;

int hexValue(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

}  // namespace

void writeGrpcMessage(base::Buffer& out, std::string_view message) {
  out.append('\0');
  writeU32(out, static_cast<std::uint32_t>(message.size()));
  out.append(message);
}

GrpcReader::Event GrpcReader::next(base::Buffer& in) {
  in.drain(std::exchange(drain_, 0));
  if (!have_prefix_) {
    if (in.size() < kGrpcPrefixBytes) return Event::kNeedMore;
    const std::string_view prefix = in.contiguous(kGrpcPrefixBytes);
    if (prefix[0] != 0) return Event::kCompressed;
    left_ = readU32(prefix.substr(1));
    if (left_ > message_bytes_max_) return Event::kTooLarge;
    in.drain(kGrpcPrefixBytes);
    have_prefix_ = true;
  }
  if (in.size() < left_) return Event::kNeedMore;
  have_prefix_ = false;
  if (left_ <= base::Buffer::kBlockBytes) {
    message_ = in.contiguous(left_);
    drain_ = left_;
    return Event::kMessage;
  }
  if (store_.capacity() > kStoreKeptBytes) store_ = std::string();
  store_.clear();
  store_.reserve(left_);
  while (store_.size() < left_) {
    const std::string_view piece = in.front().substr(0, left_ - store_.size());
    store_.append(piece);
    in.drain(piece.size());
  }
  message_ = store_;
  return Event::kMessage;
}

std::string encodeGrpcText(std::string_view text) {
  static constexpr char kHex[] = "0123456789ABCDEF";
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte <= 0x7e && c != '%') {
      out += c;
    } else {
      out += '%';
      out += kHex[byte >> 4];
      out += kHex[byte & 15];
    }
  }
  return out;
}

std::string decodeGrpcText(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const int high = text[i] == '%' && i + 2 < text.size() ? hexValue(text[i + 1]) : -1;
    const int low = high >= 0 ? hexValue(text[i + 2]) : -1;
    if (low < 0) {
      out += text[i];
      continue;
    }
    out += static_cast<char>(high * 16 + low);
    i += 2;
  }
  return out;
}

}  // namespace postern::codec
