// Which local program stands for an image name. Read from a YAML file:
//   images:
//   - match: "docker.io/acme/web:*"    # '*' matches any run of characters
//     command: ["/usr/bin/python3"]    # "${programs}" is the folder of the running program
//     args: ["-m", "http.server"]
//     env: {MODE: dev}
// The first match wins; the file's entries come before the built-in ones. Immutable, any thread.
#pragma once

#include "base/error.h"

#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace postern::node {

struct ImageProgram {
  std::string match;
  std::vector<std::string> command;  // stands for the image's entry point
  std::vector<std::string> args;     // stands for the image's default arguments
  std::map<std::string, std::string> env;
};

class ImageMap {
 public:
  /// The built-in entries, with programs taken from `programs_dir`.
  explicit ImageMap(std::string programs_dir);
  /// Puts the entries of a YAML document before the present ones.
  base::ConfigResult<void> addYaml(std::string_view text);
  /// Null when no entry matches.
  const ImageProgram* find(std::string_view image) const;
  /// The file whose entries are (or, because of `mistake`, are not) here; both may be empty.
  void setSource(std::string file, std::string mistake);
  /// What to tell the owner of a pod with an image nobody mapped.
  std::string unknownImageMessage(std::string_view image) const;

 private:
  std::string programs_dir_;
  std::string file_;
  std::string mistake_;
  std::vector<ImageProgram> entries_;
};

/// '*' matches any run of characters, everything else itself.
bool imageMatches(std::string_view pattern, std::string_view image);

}  // namespace postern::node
