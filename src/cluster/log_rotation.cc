// Logs are rotated by copy and truncate: the processes append to a descriptor they keep (O_APPEND),
// and outlive whoever rotates. What is written between copy and truncate may be lost.
#include "cluster/supervisor.h"

#include <filesystem>
#include <system_error>

namespace postern::cluster {

void rotateLogs(const std::string& folder, std::uint64_t bytes_max) {
  namespace fs = std::filesystem;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    const fs::path path = entry.path();
    if (path.extension() != ".log" || !entry.is_regular_file(error)) continue;
    if (entry.file_size(error) <= bytes_max || error) continue;
    fs::rename(path.string() + ".1", path.string() + ".2", error);
    fs::copy_file(path, path.string() + ".1", fs::copy_options::overwrite_existing, error);
    fs::resize_file(path, 0, error);
  }
}

}  // namespace postern::cluster
