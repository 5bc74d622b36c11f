#include "node/image_map.h"

#include "json/json.h"

#include <fmt/core.h>
#include <nlohmann/json.hpp>

namespace postern::node {
namespace {

constexpr std::size_t kEntriesMax = 1000;
constexpr std::string_view kProgramsVariable = "${programs}";

std::string expand(std::string text, const std::string& programs_dir) {
  const std::size_t at = text.find(kProgramsVariable);
  if (at != std::string::npos) text.replace(at, kProgramsVariable.size(), programs_dir);
  return text;
}

base::ConfigResult<std::vector<std::string>> stringsOf(const json::Json& entry, const char* field,
                                                       const std::string& path,
                                                       const std::string& programs_dir) {
  std::vector<std::string> out;
  const json::Json* list = json::find(entry, field);
  if (list == nullptr) return out;
  if (!list->is_array()) return base::failConfig(path + "." + field, "must be a list of strings");
  for (const json::Json& item : *list) {
    if (!item.is_string()) return base::failConfig(path + "." + field, "must be a list of strings");
    out.push_back(expand(item.get<std::string>(), programs_dir));
  }
  return out;
}

base::ConfigResult<ImageProgram> parseEntry(const json::Json& entry, const std::string& path,
                                            const std::string& programs_dir) {
  if (!entry.is_object()) return base::failConfig(path, "must be an object");
  ImageProgram out;
  out.match = json::stringAt(entry, "match");
  if (out.match.empty()) return base::failConfig(path + ".match", "must be an image name pattern");
  POSTERN_TRY(out.command, stringsOf(entry, "command", path, programs_dir));
  if (out.command.empty()) return base::failConfig(path + ".command", "must name a program");
  POSTERN_TRY(out.args, stringsOf(entry, "args", path, programs_dir));
  if (const json::Json* env = json::find(entry, "env")) {
    if (!env->is_object()) return base::failConfig(path + ".env", "must be a map of strings");
    for (const auto& [name, value] : env->items()) {
      if (!value.is_string()) return base::failConfig(path + ".env." + name, "must be a string");
      out.env[name] = value.get<std::string>();
    }
  }
  return out;
}

}  // namespace

ImageMap::ImageMap(std::string programs_dir) : programs_dir_(std::move(programs_dir)) {
  const auto add = [this](std::string match, const char* program, std::vector<std::string> args) {
    entries_.push_back({std::move(match), {programs_dir_ + "/" + program}, std::move(args), {}});
  };
  add("*istio*proxyv2*", "postern-proxy", {});
  add("*postern-proxy*", "postern-proxy", {});
  add("*postern-control*", "postern-control", {});
  add("*istio*pilot*", "postern-control", {});
  add("*echoserver*", "postern-demo", {"echo"});
  add("*allspark*", "postern-demo", {"allspark"});
  add("*httpbin*", "postern-demo", {"httpbin"});
  add("*postern-demo*", "postern-demo", {});
}

base::ConfigResult<void> ImageMap::addYaml(std::string_view text) {
  POSTERN_TRY(json::Json document, json::parseYaml(text));
  const json::Json* images = json::find(document, "images");
  if (images == nullptr || !images->is_array()) {
    return base::failConfig("images", "must be a list of entries");
  }
  if (images->size() > kEntriesMax) return base::failConfig("images", "has over 1000 entries");
  std::vector<ImageProgram> added;
  for (std::size_t i = 0; i < images->size(); ++i) {
    POSTERN_TRY(ImageProgram program,
                parseEntry((*images)[i], fmt::format("images[{}]", i), programs_dir_));
    added.push_back(std::move(program));
  }
  entries_.insert(entries_.begin(), added.begin(), added.end());
  return {};
}

const ImageProgram* ImageMap::find(std::string_view image) const {
  for (const ImageProgram& entry : entries_) {
    if (imageMatches(entry.match, image)) return &entry;
  }
  return nullptr;
}

void ImageMap::setSource(std::string file, std::string mistake) {
  file_ = std::move(file);
  mistake_ = std::move(mistake);
}

std::string ImageMap::unknownImageMessage(std::string_view image) const {
  if (!mistake_.empty()) {
    return fmt::format("image \"{}\" is not in the image map, and {} is not used: {}", image, file_,
                       mistake_);
  }
  const std::string where =
      file_.empty() ? "a file given by \"postern up --image-map FILE\"" : file_;
  return fmt::format(
      "image \"{0}\" is not in the image map: add an entry \"- match: '{0}'\" with \"command: "
      "[program]\" under \"images:\" of {1}, or set the container's command",
      image, where);
}

bool imageMatches(std::string_view pattern, std::string_view image) {
  std::size_t p = 0;
  std::size_t i = 0;
  std::size_t star = std::string_view::npos;
  std::size_t resume = 0;
  while (i < image.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      resume = i;
    } else if (p < pattern.size() && pattern[p] == image[i]) {
      ++p;
      ++i;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      i = ++resume;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

}  // namespace postern::node
