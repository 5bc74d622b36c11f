// Tells when a file of a folder was replaced or written (inotify). Loop thread; ends with the
// object.
#pragma once

#include "base/error.h"
#include "base/fd.h"
#include "base/function.h"
#include "event/loop.h"

#include <memory>
#include <string>

namespace postern::network {

class FileWatch {
 public:
  /// `changed` is also called once in a later turn, for what is there already.
  static base::Result<std::unique_ptr<FileWatch>> start(event::Loop& loop,
                                                        const std::string& folder, std::string file,
                                                        base::Function<void()> changed);

 private:
  FileWatch(event::Loop& loop, base::Fd inotify, std::string file, base::Function<void()> changed);
  void read();

  base::Fd inotify_;
  std::string file_;
  base::Function<void()> changed_;
  event::Timer first_;
  event::FdWatch watch_;
};

}  // namespace postern::network
