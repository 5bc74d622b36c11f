// YAML 1.2 core schema over yaml-cpp; the only file that sees its exceptions.
#include "base/strings.h"
#include "json/json.h"

#include <nlohmann/json.hpp>
#include <yaml-cpp/yaml.h>

#include <cmath>
#include <cstdlib>
#include <limits>

namespace postern::json {
namespace {

Json scalar(const std::string& text) {
  if (text.empty() || text == "~" || text == "null" || text == "Null" || text == "NULL")
    return nullptr;
  if (text == "true" || text == "True" || text == "TRUE") return true;
  if (text == "false" || text == "False" || text == "FALSE") return false;
  std::string_view digits = text;
  if (digits.starts_with('+')) digits.remove_prefix(1);
  if (auto whole = base::parseInteger<std::int64_t>(digits)) return *whole;
  if (auto whole = base::parseInteger<std::uint64_t>(digits)) return *whole;
  if (text.starts_with("0x") || text.starts_with("0o")) {
    char* end = nullptr;
    unsigned long long value = std::strtoull(text.c_str() + 2, &end, text[1] == 'x' ? 16 : 8);
    if (end != nullptr && *end == '\0' && text.size() > 2) return value;
    return text;
  }
  bool numeric = text.find_first_not_of("0123456789+-.eE") == std::string::npos &&
                 text.find_first_of("0123456789") != std::string::npos;
  if (numeric) {
    char* end = nullptr;
    double value = std::strtod(text.c_str(), &end);
    if (end != nullptr && *end == '\0' && std::isfinite(value)) return value;
  }
  return text;
}

bool convert(const YAML::Node& node, Json& out, int depth) {
  if (depth > kDepthMax) return false;
  switch (node.Type()) {
    case YAML::NodeType::Undefined:
    case YAML::NodeType::Null:
      out = nullptr;
      return true;
    case YAML::NodeType::Scalar:
      // Tag "!" marks a quoted scalar: text as written.
      if (node.Tag() == "!" || node.Tag() == "tag:yaml.org,2002:str")
        out = node.Scalar();
      else
        out = scalar(node.Scalar());
      return true;
    case YAML::NodeType::Sequence:
      out = Json::array();
      for (const auto& item : node) {
        Json value;
        if (!convert(item, value, depth + 1)) return false;
        out.push_back(std::move(value));
      }
      return true;
    case YAML::NodeType::Map:
      out = Json::object();
      for (const auto& item : node) {
        Json value;
        if (!convert(item.second, value, depth + 1)) return false;
        out[item.first.Scalar()] = std::move(value);
      }
      return true;
  }
  return false;
}

void emit(YAML::Emitter& emitter, const Json& value) {
  switch (value.type()) {
    case Json::value_t::object:
      if (value.empty()) {
        emitter << YAML::Flow << YAML::BeginMap << YAML::EndMap;
        return;
      }
      emitter << YAML::BeginMap;
      for (const auto& [key, item] : value.items()) {
        emitter << YAML::Key << key << YAML::Value;
        emit(emitter, item);
      }
      emitter << YAML::EndMap;
      return;
    case Json::value_t::array:
      if (value.empty()) {
        emitter << YAML::Flow << YAML::BeginSeq << YAML::EndSeq;
        return;
      }
      emitter << YAML::BeginSeq;
      for (const Json& item : value) emit(emitter, item);
      emitter << YAML::EndSeq;
      return;
    case Json::value_t::string: {
      const auto& text = value.get_ref<const std::string&>();
      if (text.find('\n') != std::string::npos)
        emitter << YAML::Literal << text;
      else if (!scalar(text).is_string())
        emitter << YAML::DoubleQuoted << text;
      else
        emitter << text;
      return;
    }
    case Json::value_t::null:
      emitter << YAML::Null;
      return;
    case Json::value_t::boolean:
      emitter << value.get<bool>();
      return;
    default:
      emitter << value.dump();
      return;
  }
}

}  // namespace

base::ConfigResult<std::vector<Json>> parseYamlStream(std::string_view text) {
  try {
    std::vector<Json> out;
    for (const YAML::Node& node : YAML::LoadAll(std::string(text))) {
      if (!node.IsDefined() || node.IsNull()) continue;
      Json value;
      if (!convert(node, value, 0)) return base::failConfig("", "exceeded max depth");
      out.push_back(std::move(value));
    }
    return out;
  } catch (const YAML::Exception& e) {
    return base::failConfig(
        "", std::string("yaml: line ") + std::to_string(e.mark.line + 1) + ": " + e.msg);
  }
}

base::ConfigResult<Json> parseYaml(std::string_view text) {
  POSTERN_TRY(auto documents, parseYamlStream(text));
  if (documents.size() > 1) return base::failConfig("", "more than one YAML document");
  if (documents.empty()) return Json(nullptr);
  return std::move(documents.front());
}

std::string dumpYaml(const Json& value) {
  YAML::Emitter emitter;
  emit(emitter, value);
  return std::string(emitter.c_str()) + "\n";
}

}  // namespace postern::json
