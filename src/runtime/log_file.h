// A container's log in the format of Kubernetes' container runtime interface: one line of text per
// line, "<RFC 3339 with nanoseconds> stdout|stderr F|P <text>", P for a piece of a line longer than
// kLineBytesMax. Kept to two files: the current one and, after it reached its size, one before it
// with ".1" at its name's end. One thread.
#pragma once

#include "base/fd.h"

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace postern::runtime {

class LogFile {
 public:
  static constexpr std::size_t kFileBytesMax = 10 * 1024 * 1024;
  static constexpr std::size_t kLineBytesMax = 16 * 1024;

  /// Appends to `path`; when that cannot be opened, what is written is lost and counted.
  explicit LogFile(std::string path, std::size_t file_bytes_max = kFileBytesMax);
  enum class Stream : unsigned char { kOut, kError };
  /// Bytes as they came; the end of a line may come later.
  void write(Stream stream, std::string_view bytes);
  /// Writes what stands without a line end.
  void finish();
  std::uint64_t lostBytes() const { return lost_bytes_; }

 private:
  void line(std::string& out, Stream stream, char tag, std::string_view text);
  void append(const std::string& text);
  void open();

  std::string path_;
  std::size_t file_bytes_max_;
  base::Fd file_;
  std::size_t file_bytes_ = 0;
  std::uint64_t lost_bytes_ = 0;
  std::string pending_[2];
};

}  // namespace postern::runtime
