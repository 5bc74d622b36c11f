// Small files of the cluster: whole reads, atomic writes, locks. Errors carry the path and the
// kernel's words, because a person reads them. Any thread; blocking.
#pragma once

#include "base/error.h"
#include "base/fd.h"

#include <chrono>
#include <string>
#include <string_view>

#include <sys/types.h>

namespace postern::cluster {

/// Nothing we read this way is larger; a larger file is an error, not a full memory.
inline constexpr std::size_t kFileBytesMax = 8 * 1024 * 1024;

base::ConfigResult<std::string> readFile(const std::string& path);
/// Writes beside the file and renames: readers see the old text or the new one. Follows a symbolic
/// link to the file it names.
base::ConfigResult<void> writeFile(const std::string& path, std::string_view text,
                                   mode_t mode = 0600);
/// Makes the folder and its parents (0700); fine if it is there.
base::ConfigResult<void> makeFolder(const std::string& path);

/// An flock that ends with the descriptor. kWait: until `timeout` is over.
base::ConfigResult<base::Fd> lockFile(const std::string& path,
                                      std::chrono::milliseconds timeout = {});
/// True when some process holds the lock.
bool isLocked(const std::string& path);

}  // namespace postern::cluster
