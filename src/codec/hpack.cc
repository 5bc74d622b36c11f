#include "codec/hpack.h"

#include "base/words.h"

#include <algorithm>
#include <cstring>

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

/// What a field takes at most beside its name and value: its index and two lengths.
constexpr std::size_t kFieldRoom = 3 * 6;

char* writeInteger(char* to, unsigned first, unsigned prefix_bits, std::uint64_t value) {
  const std::uint64_t mask = (1U << prefix_bits) - 1;
  if (value < mask) {
    *to++ = static_cast<char>(first | value);
    return to;
  }
  *to++ = static_cast<char>(first | mask);
  value -= mask;
  while (value >= 0x80) {
    *to++ = static_cast<char>((value & 0x7f) | 0x80);
    value >>= 7;
  }
  *to++ = static_cast<char>(value);
  return to;
}

/// Huffman coding costs more than anything else here and saves a fifth of the bytes: it pays for
/// what stays in the table, not for what is different in each message.
enum class Coding : bool { kPlain, kShortest };

char* writeString(char* to, std::string_view value, Coding coding) {
  const std::size_t coded = coding == Coding::kPlain ? value.size() : huffmanSize(value);
  if (coded < value.size()) return huffmanEncode(value, writeInteger(to, 0x80, 7, coded));
  to = writeInteger(to, 0, 7, value.size());
  base::copyBytes(to, value.data(), value.size());
  return to + value.size();
}

enum class Indexing : unsigned char { kYes, kNo, kNever };

/// What changes with each request would only push useful entries out of the table; what is secret
/// stays out of it.
Indexing indexing(std::string_view name, std::string_view value) {
  switch (name.size()) {
    case 4:
      if (name == "date" || name == "etag") return Indexing::kNo;
      break;
    case 5:
      if (name == ":path") return Indexing::kNo;
      break;
    case 6:
      if (name == "cookie") return value.size() < 20 ? Indexing::kNever : Indexing::kNo;
      break;
    case 10:
      if (name == "set-cookie") return Indexing::kNever;
      break;
    case 11:
      if (name == "traceparent") return Indexing::kNo;
      break;
    case 12:
      if (name == "x-request-id" || name == "grpc-message" || name == "grpc-timeout")
        return Indexing::kNo;
      break;
    case 13:
      if (name == "authorization") return Indexing::kNever;
      break;
    case 14:
      if (name == "content-length") return Indexing::kNo;
      break;
    case 19:
      if (name == "proxy-authorization") return Indexing::kNever;
      break;
    case 29:
      if (name == "x-envoy-upstream-service-time") return Indexing::kNo;
      break;
    default:
      break;
  }
  return value.size() > 512 ? Indexing::kNo : Indexing::kYes;
}

}  // namespace

void HpackTable::setCapacity(std::size_t capacity) {
  capacity_ = capacity;
  evict(0);
  if (count() > 0) return;
  bytes_.reset();
  used_ = room_ = 0;
}

void HpackTable::evict(std::size_t room) {
  constexpr std::size_t kGoneMin = 16;
  while (count() > 0 && size_ + room > capacity_) {
    const Entry& oldest = entries_[gone_++];
    size_ -= oldest.name_size + oldest.value_size + kEntryOverhead;
  }
  if (gone_ == entries_.size()) {
    entries_.clear();
    gone_ = 0;
  } else if (gone_ >= kGoneMin && gone_ > entries_.size() / 2) {
    entries_.erase(entries_.begin(), entries_.begin() + static_cast<std::ptrdiff_t>(gone_));
    gone_ = 0;
  }
}

/// Room for so many bytes at the end: in twice the memory, or where the evicted ones were if they
/// are more than half. Twice the capacity always suffices.
void HpackTable::makeRoom(std::size_t bytes) {
  constexpr std::size_t kFirstBytes = 128;
  if (room_ - used_ >= bytes) return;
  const std::uint32_t begin = count() == 0 ? used_ : entries_[gone_].begin;
  const std::size_t live = used_ - begin;
  std::size_t wanted = std::max<std::size_t>(room_, kFirstBytes);
  while (wanted < 2 * (live + bytes)) wanted *= 2;
  wanted = std::min(wanted, 2 * capacity_);
  auto fresh = std::make_unique_for_overwrite<char[]>(wanted);
  if (live > 0) std::memcpy(fresh.get(), bytes_.get() + begin, live);
  bytes_ = std::move(fresh);
  room_ = static_cast<std::uint32_t>(wanted);
  used_ = static_cast<std::uint32_t>(live);
  for (std::size_t i = gone_; i < entries_.size(); ++i) entries_[i].begin -= begin;
}

void HpackTable::add(std::string_view name, std::string_view value) {
  const std::size_t text = name.size() + value.size();
  evict(text + kEntryOverhead);
  if (text + kEntryOverhead > capacity_) return;
  if (room_ - used_ >= text) return append(name, value);
  // Either may be that of an entry, whose bytes are about to be moved.
  const std::string kept_name(name);
  const std::string kept_value(value);
  makeRoom(text);
  append(kept_name, kept_value);
}

void HpackTable::append(std::string_view name, std::string_view value) {
  char* const to = bytes_.get() + used_;
  base::copyBytes(to, name.data(), name.size());
  base::copyBytes(to + name.size(), value.data(), value.size());
  entries_.push_back(
      {used_, static_cast<std::uint32_t>(name.size()), static_cast<std::uint32_t>(value.size())});
  used_ += static_cast<std::uint32_t>(name.size() + value.size());
  size_ += name.size() + value.size() + kEntryOverhead;
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
  name = table_.name(index);
  value = table_.value(index);
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
  char room[2 * 6];
  char* to = room;
  if (smallest_ < table_.capacity()) to = writeInteger(to, 0x20, 5, smallest_);
  to = writeInteger(to, 0x20, 5, table_.capacity());
  out.append(room, static_cast<std::size_t>(to - room));
}

void HpackEncoder::encode(std::string_view name, std::string_view value, std::string& out) {
  const std::size_t before = out.size();
  out.resize_and_overwrite(before + name.size() + value.size() + kFieldRoom,
                           [&](char* bytes, std::size_t) {
                             char* const end = encode(name, value, bytes + before);
                             return static_cast<std::size_t>(end - bytes);
                           });
}

char* HpackEncoder::encode(std::string_view name, std::string_view value, char* to) {
  const HpackStaticMatch known = hpackStaticFind(name, value);
  if (known.field != 0) return writeInteger(to, 0x80, 7, known.field);
  std::size_t name_index = known.name;
  const Indexing how = indexing(name, value);
  if (how == Indexing::kYes || name_index == 0) {
    for (std::size_t i = 0; i < table_.count(); ++i) {
      if (!base::sameBytes(table_.name(i), name)) continue;
      if (how == Indexing::kYes && base::sameBytes(table_.value(i), value))
        return writeInteger(to, 0x80, 7, i + kHpackStaticCount + 1);
      if (name_index == 0) name_index = i + kHpackStaticCount + 1;
    }
  }
  switch (how) {
    case Indexing::kYes:
      to = writeInteger(to, 0x40, 6, name_index);
      break;
    case Indexing::kNo:
      to = writeInteger(to, 0, 4, name_index);
      break;
    case Indexing::kNever:
      to = writeInteger(to, 0x10, 4, name_index);
      break;
  }
  const Coding coding = how == Indexing::kYes ? Coding::kShortest : Coding::kPlain;
  if (name_index == 0) to = writeString(to, name, coding);
  to = writeString(to, value, coding);
  if (how == Indexing::kYes) table_.add(name, value);
  return to;
}

}  // namespace postern::codec
