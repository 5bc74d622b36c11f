#include "codec/hpack.h"

#include <algorithm>

namespace postern::codec {
namespace {

constexpr std::size_t kStringBytesMax = 256 * 1024;

/// An integer with an N-bit prefix (RFC 7541 5.1); at most 32 bits.
bool readInteger(std::string_view& in, unsigned prefix_bits, std::uint64_t& out) {
  if (in.empty()) return false;
  const std::uint64_t mask = (1U << prefix_bits) - 1;
  out = static_cast<unsigned char>(in[0]) & mask;
  in.remove_prefix(1);
  if (out < mask) return true;
  for (unsigned shift = 0; shift <= 28; shift += 7) {
    if (in.empty()) return false;
    const auto byte = static_cast<unsigned char>(in[0]);
    in.remove_prefix(1);
    out += static_cast<std::uint64_t>(byte & 0x7f) << shift;
    if ((byte & 0x80) == 0) return out <= 0xffffffffU;
  }
  return false;
}

void writeInteger(std::string& out, unsigned first, unsigned prefix_bits, std::uint64_t value) {
  const std::uint64_t mask = (1U << prefix_bits) - 1;
  if (value < mask) {
    out += static_cast<char>(first | value);
    return;
  }
  out += static_cast<char>(first | mask);
  value -= mask;
  while (value >= 0x80) {
    out += static_cast<char>((value & 0x7f) | 0x80);
    value >>= 7;
  }
  out += static_cast<char>(value);
}

/// Huffman coding costs more than anything else here and saves a fifth of the bytes: it pays for
/// what stays in the table, not for what is different in each message.
enum class Coding : bool { kPlain, kShortest };

void writeString(std::string& out, std::string_view value, Coding coding) {
  const std::size_t coded = coding == Coding::kPlain ? value.size() : huffmanSize(value);
  if (coded < value.size()) {
    writeInteger(out, 0x80, 7, coded);
    huffmanEncode(value, out);
  } else {
    writeInteger(out, 0, 7, value.size());
    out += value;
  }
}

enum class Indexing : unsigned char { kYes, kNo, kNever };

/// What changes with each request would only push useful entries out of the table; what is secret
/// stays out of it.
Indexing indexing(std::string_view name, std::string_view value) {
  if (name == "authorization" || name == "proxy-authorization" || name == "set-cookie")
    return Indexing::kNever;
  if (name == "cookie") return value.size() < 20 ? Indexing::kNever : Indexing::kNo;
  if (name == ":path" || name == "content-length" || name == "date" || name == "etag" ||
      name == "x-request-id" || name == "grpc-message" || name == "grpc-timeout" ||
      name == "x-envoy-upstream-service-time" || name == "traceparent" || value.size() > 512)
    return Indexing::kNo;
  return Indexing::kYes;
}

}  // namespace

void HpackTable::setCapacity(std::size_t capacity) {
  capacity_ = capacity;
  evict(0);
}

void HpackTable::evict(std::size_t room) {
  constexpr std::size_t kGoneMin = 16;
  while (count() > 0 && size_ + room > capacity_) {
    Entry& oldest = entries_[gone_++];
    size_ -= oldest.bytes.size() + kEntryOverhead;
    oldest = {};
  }
  if (gone_ == entries_.size()) {
    entries_.clear();
    gone_ = 0;
  } else if (gone_ >= kGoneMin && gone_ > entries_.size() / 2) {
    entries_.erase(entries_.begin(), entries_.begin() + static_cast<std::ptrdiff_t>(gone_));
    gone_ = 0;
  }
}

void HpackTable::add(std::string_view name, std::string_view value) {
  const std::size_t bytes = name.size() + value.size() + kEntryOverhead;
  Entry entry{{}, name.size()};  // before the eviction: the name may be a view of an entry
  if (bytes <= capacity_) {
    entry.bytes.reserve(name.size() + value.size());
    entry.bytes.append(name).append(value);
  }
  evict(bytes);
  if (bytes > capacity_) return;
  size_ += bytes;
  entries_.push_back(std::move(entry));
}

HpackDecoder::Status HpackDecoder::decode(std::string_view block, HpackSink& sink) {
  list_bytes_ = list_count_ = 0;
  bool fields = false;
  while (!block.empty()) {
    if ((static_cast<unsigned char>(block[0]) & 0xe0) == 0x20) {
      std::uint64_t capacity = 0;
      if (fields || !readInteger(block, 5, capacity) || capacity > table_bytes_max_)
        return Status::kError;
      table_.setCapacity(capacity);
      continue;
    }
    fields = true;
    if (!readField(block, sink)) return Status::kError;
  }
  return list_bytes_ > list_bytes_max_ || list_count_ > list_count_max_ ? Status::kTooLarge
                                                                        : Status::kOk;
}

bool HpackDecoder::readField(std::string_view& in, HpackSink& sink) {
  const auto first = static_cast<unsigned char>(in[0]);
  std::uint64_t index = 0;
  std::string_view name;
  std::string_view value;
  if ((first & 0x80) != 0) {
    if (!readInteger(in, 7, index) || !lookUp(index, name, value)) return false;
    report(sink, name, value);
    return true;
  }
  const bool indexed = (first & 0x40) != 0;
  if (!readInteger(in, indexed ? 6 : 4, index)) return false;
  if (index == 0) {
    if (!readString(in, name_, name)) return false;
  } else if (!lookUp(index, name, value)) {
    return false;
  }
  if (!readString(in, value_, value)) return false;
  report(sink, name, value);
  if (indexed) table_.add(name, value);
  return true;
}

bool HpackDecoder::lookUp(std::uint64_t index, std::string_view& name,
                          std::string_view& value) const {
  if (index == 0) return false;
  if (index <= kHpackStaticCount) {
    name = hpackStatic(index).name;
    value = hpackStatic(index).value;
    return true;
  }
  index -= kHpackStaticCount + 1;
  if (index >= table_.count()) return false;
  name = table_.at(index).name();
  value = table_.at(index).value();
  return true;
}

bool HpackDecoder::readString(std::string_view& in, std::string& scratch,
                              std::string_view& out) const {
  if (in.empty()) return false;
  const bool huffman = (static_cast<unsigned char>(in[0]) & 0x80) != 0;
  std::uint64_t size = 0;
  if (!readInteger(in, 7, size) || size > in.size()) return false;
  out = in.substr(0, size);
  in.remove_prefix(size);
  if (!huffman) return true;
  scratch.clear();
  if (!huffmanDecode(out, scratch, kStringBytesMax)) return false;
  out = scratch;
  return true;
}

void HpackDecoder::report(HpackSink& sink, std::string_view name, std::string_view value) {
  list_bytes_ += name.size() + value.size() + HpackTable::kEntryOverhead;
  ++list_count_;
  if (list_bytes_ > list_bytes_max_ || list_count_ > list_count_max_) return;
  sink.onField(name, value);
}

void HpackEncoder::setPeerTableSize(std::uint32_t bytes) {
  const std::size_t capacity = std::min<std::size_t>(bytes, table_bytes_max_);
  if (capacity == table_.capacity()) return;
  smallest_ = size_changed_ ? std::min(smallest_, capacity) : capacity;
  size_changed_ = true;
  table_.setCapacity(capacity);
}

void HpackEncoder::begin(std::string& out) {
  if (!size_changed_) return;
  size_changed_ = false;
  if (smallest_ < table_.capacity()) writeInteger(out, 0x20, 5, smallest_);
  writeInteger(out, 0x20, 5, table_.capacity());
}

void HpackEncoder::encode(std::string_view name, std::string_view value, std::string& out) {
  std::size_t name_index = 0;
  for (std::size_t i = hpackStaticName(name.size(), 0); i != 0;
       i = hpackStaticName(name.size(), i)) {
    const HpackStaticField& field = hpackStatic(i);
    if (field.name != name) continue;
    if (field.value == value && !value.empty()) return writeInteger(out, 0x80, 7, i);
    if (name_index == 0) name_index = i;
  }
  const Indexing how = indexing(name, value);
  if (how == Indexing::kYes || name_index == 0) {
    for (std::size_t i = 0; i < table_.count(); ++i) {
      const HpackTable::Entry& entry = table_.at(i);
      if (entry.name_size != name.size() || entry.name() != name) continue;
      if (how == Indexing::kYes && entry.value() == value)
        return writeInteger(out, 0x80, 7, i + kHpackStaticCount + 1);
      if (name_index == 0) name_index = i + kHpackStaticCount + 1;
    }
  }
  switch (how) {
    case Indexing::kYes:
      writeInteger(out, 0x40, 6, name_index);
      break;
    case Indexing::kNo:
      writeInteger(out, 0, 4, name_index);
      break;
    case Indexing::kNever:
      writeInteger(out, 0x10, 4, name_index);
      break;
  }
  const Coding coding = how == Indexing::kYes ? Coding::kShortest : Coding::kPlain;
  if (name_index == 0) writeString(out, name, coding);
  writeString(out, value, coding);
  if (how == Indexing::kYes) table_.add(name, value);
}

}  // namespace postern::codec
