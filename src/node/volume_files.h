// Files of a volume that change together, as the kubelet lays them out: the files lie in a folder
// "..N", "..data" is a link to it, each first path step is a link into "..data". A reader sees the
// old set or the new one. Blocking; any thread, one at a time per volume.
#pragma once

#include <expected>
#include <map>
#include <string>

#include <sys/types.h>

namespace postern::node {

struct VolumeFile {
  std::string bytes;
  mode_t mode = 0644;
};
/// By path within the volume.
using VolumeFiles = std::map<std::string, VolumeFile>;

/// Makes the volume's folder hold exactly these files; touches nothing when it does already.
std::expected<void, std::string> writeVolumeFiles(const std::string& folder,
                                                  const VolumeFiles& files);

/// "key" or "folder/key": relative, without "..".
bool isVolumePath(const std::string& path);

}  // namespace postern::node
