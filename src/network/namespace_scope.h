// Moves the calling thread into another network namespace for the life of this object.
#pragma once

#include "base/error.h"
#include "base/fd.h"

namespace postern::network {

class NamespaceScope {
 public:
  static base::Result<NamespaceScope> enter(int netns_fd);
  NamespaceScope(NamespaceScope&&) = default;
  NamespaceScope& operator=(NamespaceScope&&) = delete;
  /// Back again; a thread that cannot go back ends the process.
  ~NamespaceScope();

 private:
  explicit NamespaceScope(base::Fd home) : home_(std::move(home)) {}
  base::Fd home_;
};

}  // namespace postern::network
