#include "node/volume_files.h"

#include <fmt/core.h>

#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

#include <sys/stat.h>

namespace postern::node {
namespace {

namespace fs = std::filesystem;

constexpr const char* kData = "..data";

std::string firstStep(const std::string& path) { return path.substr(0, path.find('/')); }

bool same(const fs::path& data, const VolumeFiles& files) {
  std::error_code error;
  std::size_t found = 0;
  for (const auto& entry : fs::recursive_directory_iterator(data, error)) {
    if (!entry.is_regular_file(error)) continue;
    const auto it = files.find(fs::relative(entry.path(), data, error).native());
    if (it == files.end()) return false;
    std::ifstream file(entry.path(), std::ios::binary);
    std::stringstream text;
    text << file.rdbuf();
    struct stat info{};
    if (text.str() != it->second.bytes || ::stat(entry.path().c_str(), &info) != 0 ||
        (info.st_mode & 07777) != it->second.mode) {
      return false;
    }
    ++found;
  }
  return !error && found == files.size();
}

fs::path newFolder(const fs::path& folder) {
  for (int number = 1;; ++number) {
    const fs::path at = folder / fmt::format("..{}", number);
    std::error_code error;
    if (fs::create_directory(at, error) || error) return at;
  }
}

}  // namespace

bool isVolumePath(const std::string& path) {
  if (path.empty() || path.starts_with('/') || path.starts_with("..")) return false;
  for (const fs::path& step : fs::path(path)) {
    if (step == "..") return false;
  }
  return true;
}

std::expected<void, std::string> writeVolumeFiles(const std::string& folder,
                                                  const VolumeFiles& files) {
  std::error_code error;
  const fs::path root(folder);
  fs::create_directories(root, error);
  const fs::path before = fs::canonical(root / kData, error);
  if (!error && same(before, files)) return {};

  const fs::path now = newFolder(root);
  std::set<std::string> steps;
  for (const auto& [path, file] : files) {
    if (!isVolumePath(path)) return std::unexpected("invalid path \"" + path + "\"");
    steps.insert(firstStep(path));
    fs::create_directories((now / path).parent_path(), error);
    std::ofstream out(now / path, std::ios::binary);
    out << file.bytes;
    out.close();
    if (!out) return std::unexpected("cannot write " + (now / path).native());
    ::chmod((now / path).c_str(), file.mode);
  }
  fs::remove(root / "..data_tmp", error);
  fs::create_directory_symlink(now.filename(), root / "..data_tmp", error);
  fs::rename(root / "..data_tmp", root / kData, error);
  if (error) return std::unexpected(folder + ": " + error.message());
  for (const std::string& step : steps) {
    std::error_code present;
    if (fs::is_symlink(fs::symlink_status(root / step, present))) continue;
    fs::create_symlink(fs::path(kData) / step, root / step, error);
    if (error) return std::unexpected((root / step).native() + ": " + error.message());
  }
  for (const auto& entry : fs::directory_iterator(root, error)) {
    const std::string name = entry.path().filename();
    if (name.starts_with("..") ? entry.is_directory() && !entry.is_symlink() && entry.path() != now
                               : !steps.contains(name)) {
      std::error_code ignored;
      fs::remove_all(entry.path(), ignored);
    }
  }
  return {};
}

}  // namespace postern::node
