// Directories whose files are replaced by renaming: told when something moves into one (also a
// symbolic link, as the kubelet swaps its ..data). Loop thread.
#pragma once

#include "base/fd.h"
#include "base/function.h"
#include "event/loop.h"

#include <map>
#include <set>
#include <string>

namespace postern::proxy {

class DirectoryWatch {
 public:
  DirectoryWatch(event::Loop& loop, base::Function<void(const std::string& directory)> changed);
  /// Watches exactly these. One that does not exist is tried again with the next call.
  void watch(const std::set<std::string>& directories);

 private:
  void read();

  event::Loop& loop_;
  base::Function<void(const std::string&)> changed_;
  base::Fd fd_;
  event::FdWatch events_;
  std::map<std::string, int> watches_;
};

}  // namespace postern::proxy
