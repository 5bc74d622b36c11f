// Header lists of HTTP/2 to HeaderMaps and back: what RFC 9113 8.2 and 8.3 demand of a message is
// checked here, so that the layers above see only well-formed ones. No I/O.
#pragma once

#include "codec/hpack.h"
#include "http/headers.h"
#include "http/stream.h"

#include <cstdint>
#include <optional>
#include <string>

namespace postern::http {

enum class H2Message : unsigned char { kRequest, kResponse, kTrailers };

/// Receives the fields of one block.
class H2HeaderReader final : public codec::HpackSink {
 public:
  explicit H2HeaderReader(H2Message kind) : kind_(kind) {}
  void onField(std::string_view name, std::string_view value) override;
  /// After the last field: null, or what makes the message malformed.
  const char* finish();
  HeaderMap take() { return std::move(map_); }
  /// Of content-length, when there is one.
  std::optional<std::uint64_t> contentLength() const { return content_length_; }
  bool hasProtocol() const;
  /// After finish() failed: a malformed field, or fields that do not make a message.
  ResetReason invalidReason() const {
    return incomplete_ ? ResetReason::kProtocol : ResetReason::kInvalidField;
  }
  /// Memory the list takes, roughly.
  std::size_t heldBytes() const { return map_.bytes() + 32 * map_.size(); }

 private:
  void onPseudo(std::string_view name, std::string_view value);
  const char* checkRequest();
  const char* checkResponse();
  const char* missing(const char* text) {
    incomplete_ = true;
    return text;
  }
  void wrong(const char* text) {
    if (error_ == nullptr) error_ = text;
  }

  const H2Message kind_;
  HeaderMap map_;
  std::string cookie_;  // crumbs, joined (RFC 9113 8.2.3)
  std::optional<std::uint64_t> content_length_;
  const char* error_ = nullptr;
  bool incomplete_ = false;
  unsigned seen_ = 0;  // pseudo headers, one bit each
  bool regular_ = false;
};

/// Encodes a message; fields that belong to an HTTP/1 connection are left out.
void encodeH2Headers(codec::HpackEncoder& encoder, const HeaderMap& headers, std::string& out);

}  // namespace postern::http
