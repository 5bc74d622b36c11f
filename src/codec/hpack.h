// HPACK (RFC 7541): header blocks of HTTP/2 to fields and back, with the dynamic table of one
// direction of one connection. No I/O; owned by the connection, on its loop.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace postern::codec {

/// Receives decoded fields in order; the views live for the call only.
class HpackSink {
 public:
  virtual ~HpackSink() = default;
  virtual void onField(std::string_view name, std::string_view value) = 0;
};

/// Newest entry first; evicts from the end to stay below the capacity (RFC 7541 4). Views of
/// entries are good until the next add() or setCapacity(); add() may be given some.
class HpackTable {
 public:
  static constexpr std::size_t kEntryOverhead = 32;

  void setCapacity(std::size_t capacity);
  std::size_t capacity() const { return capacity_; }
  std::size_t size() const { return size_; }
  std::size_t count() const { return entries_.size() - gone_; }
  std::string_view name(std::size_t index) const {
    const Entry& entry = at(index);
    return {bytes_.get() + entry.begin, entry.name_size};
  }
  std::string_view value(std::size_t index) const {
    const Entry& entry = at(index);
    return {bytes_.get() + entry.begin + entry.name_size, entry.value_size};
  }
  void add(std::string_view name, std::string_view value);

 private:
  struct Entry {
    std::uint32_t begin;  // in bytes_: name, then value
    std::uint32_t name_size;
    std::uint32_t value_size;
  };
  const Entry& at(std::size_t index) const { return entries_[entries_.size() - 1 - index]; }
  void evict(std::size_t room);
  void makeRoom(std::size_t bytes);
  void append(std::string_view name, std::string_view value);

  // Newest at the back; the first `gone_` are evicted and wait to be dropped together. Their bytes
  // lie one behind the other in one piece of memory, which is moved up when its end is reached. An
  // empty table takes none: a connection has two.
  std::vector<Entry> entries_;
  std::size_t gone_ = 0;
  std::unique_ptr<char[]> bytes_;
  std::uint32_t used_ = 0;
  std::uint32_t room_ = 0;
  std::size_t capacity_ = 4096;
  std::size_t size_ = 0;
};

class HpackDecoder {
 public:
  enum class Status : unsigned char {
    kOk,
    kTooLarge,  // the list passes the limit: the rest was not reported, the table is in step
    kError,     // the connection cannot go on (COMPRESSION_ERROR)
  };
  /// `table_bytes_max` is what SETTINGS_HEADER_TABLE_SIZE told the peer.
  explicit HpackDecoder(std::size_t list_bytes_max, std::size_t list_count_max,
                        std::size_t table_bytes_max = 4096)
      : list_bytes_max_(list_bytes_max),
        list_count_max_(list_count_max),
        table_bytes_max_(table_bytes_max) {}
  /// Decodes one whole block.
  Status decode(std::string_view block, HpackSink& sink);
  /// After kTooLarge: whether there were too many fields, not too many bytes.
  bool tooManyFields() const { return list_count_ > list_count_max_; }
  const HpackTable& table() const { return table_; }

 private:
  bool readField(std::string_view& in, HpackSink& sink);
  bool lookUp(std::uint64_t index, std::string_view& name, std::string_view& value) const;
  bool readString(std::string_view& in, std::string& scratch, std::string_view& out) const;
  void report(HpackSink& sink, std::string_view name, std::string_view value);

  std::size_t list_bytes_max_;
  std::size_t list_count_max_;
  std::size_t table_bytes_max_;
  std::size_t list_bytes_ = 0;
  std::size_t list_count_ = 0;
  HpackTable table_;
  std::string name_;
  std::string value_;
};

class HpackEncoder {
 public:
  /// `table_bytes_max`: what we use at most of the table the peer offers.
  explicit HpackEncoder(std::size_t table_bytes_max = 4096) : table_bytes_max_(table_bytes_max) {
    setPeerTableSize(4096);
  }
  /// The peer's SETTINGS_HEADER_TABLE_SIZE; 4096 until it says so.
  void setPeerTableSize(std::uint32_t bytes);
  /// Call once before the fields of a block: table size changes go first.
  void begin(std::string& out);
  void encode(std::string_view name, std::string_view value, std::string& out);

 private:
  char* encode(std::string_view name, std::string_view value, char* to);
  HpackTable table_;
  std::size_t table_bytes_max_;
  bool size_changed_ = false;
  std::size_t smallest_ = 4096;
};

/// Huffman code of RFC 7541 appendix B.
std::size_t huffmanSize(std::string_view in);
/// Writes huffmanSize(in) bytes; returns their end.
char* huffmanEncode(std::string_view in, char* to);
/// False on a wrong padding, EOS, or more than `max` bytes.
bool huffmanDecode(std::string_view in, std::string& out, std::size_t max);

/// Fields of the static table, index 1 to 61.
inline constexpr std::size_t kHpackStaticCount = 61;
struct HpackStaticField {
  std::string_view name;
  std::string_view value;
};
const HpackStaticField& hpackStatic(std::size_t index);
/// The static field of a name that has this value, too, and the first of this name; 0: none.
struct HpackStaticMatch {
  std::size_t field = 0;
  std::size_t name = 0;
};
HpackStaticMatch hpackStaticFind(std::string_view name, std::string_view value);

}  // namespace postern::codec
