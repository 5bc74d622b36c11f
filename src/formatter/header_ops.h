// Changes of header fields that configuration asks for, compiled: at each level removals run before
// additions; values are formats. Immutable, shared by the workers.
#pragma once

#include "formatter/format.h"
#include "http/headers.h"

#include <string>
#include <vector>

namespace postern::formatter {

struct HeaderOp {
  enum class Action : unsigned char { kAppend, kAddIfAbsent, kOverwriteOrAdd, kOverwrite };
  std::string name;  // lower case
  Format value;
  std::string fixed;  // the value when it is constant
  bool constant = true;
  Action action = Action::kAppend;
  bool keep_empty = false;

  bool overwrites() const {
    return action == Action::kOverwriteOrAdd || action == Action::kOverwrite;
  }
};

struct HeaderOps {
  std::vector<std::string> remove;
  std::vector<HeaderOp> add;

  bool empty() const { return remove.empty() && add.empty(); }
  void apply(http::HeaderMap& headers, const AccessRecord& record) const;
};

}  // namespace postern::formatter
