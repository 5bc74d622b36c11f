// YAML 1.2 core schema over yaml-cpp; the only file that sees its exceptions.
#include "base/strings.h"
#include "json/json.h"

#include <nlohmann/json.hpp>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include <cmath>
#include <cstdlib>
#include <limits>
#include <map>
#include <sstream>

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

/// Builds one document's value from the parser's events. The parser may loop: what does not begin
/// after the document before it is an error. Aliases copy, so their number of values is bounded.
class Builder final : public YAML::EventHandler {
 public:
  static constexpr std::size_t kValuesMax = 1'000'000;

  /// False: no document is left.
  bool next(YAML::Parser& parser) {
    stack_.clear();
    anchors_.clear();
    root_ = nullptr;
    return parser.HandleNextDocument(*this);
  }
  Json take() { return std::move(root_); }

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (begun_ && mark.pos == last_start_) fail(mark, "did not find expected <document start>");
    begun_ = true;
    last_start_ = mark.pos;
  }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    if (wantsKey()) return setKey("");
    put(mark, anchor, nullptr);
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    const auto found = anchors_.find(anchor);
    if (found == anchors_.end()) return fail(mark, "an alias inside its own value");
    if (wantsKey()) {
      if (!found->second.is_string()) return fail(mark, "a key must be a scalar");
      return setKey(found->second.get<std::string>());
    }
    values_ += countValues(found->second);
    if (values_ > kValuesMax) return fail(mark, "too many values");
    put(mark, YAML::NullAnchor, found->second);
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    if (wantsKey()) {
      if (anchor != YAML::NullAnchor) anchors_[anchor] = value;
      return setKey(value);
    }
    // Tag "!" marks a quoted scalar: text as written.
    const bool text = tag == "!" || tag == "tag:yaml.org,2002:str";
    put(mark, anchor, text ? Json(value) : scalar(value));
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    open(mark, anchor, Json::array());
  }
  void OnSequenceEnd() override { close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    open(mark, anchor, Json::object());
  }
  void OnMapEnd() override { close(); }

 private:
  struct Level {
    Json value;
    YAML::anchor_t anchor = YAML::NullAnchor;
    YAML::Mark mark;
    std::string key;
    bool has_key = false;
  };

  static std::size_t countValues(const Json& value) {
    std::size_t count = 1;
    if (value.is_structured()) {
      for (const Json& each : value) count += countValues(each);
    }
    return count;
  }
  bool wantsKey() const {
    return !stack_.empty() && stack_.back().value.is_object() && !stack_.back().has_key;
  }
  void setKey(std::string key) {
    stack_.back().key = std::move(key);
    stack_.back().has_key = true;
  }
  void open(const YAML::Mark& mark, YAML::anchor_t anchor, Json value) {
    if (wantsKey()) return fail(mark, "a key must be a scalar");
    if (stack_.size() >= static_cast<std::size_t>(kDepthMax))
      return fail(mark, "exceeded max depth");
    Level level;
    level.value = std::move(value);
    level.anchor = anchor;
    level.mark = mark;
    stack_.push_back(std::move(level));
  }
  void close() {
    Level level = std::move(stack_.back());
    stack_.pop_back();
    put(level.mark, level.anchor, std::move(level.value));
  }
  void put(const YAML::Mark& mark, YAML::anchor_t anchor, Json value) {
    if (++values_ > kValuesMax) return fail(mark, "too many values");
    if (anchor != YAML::NullAnchor) anchors_[anchor] = value;
    if (stack_.empty()) {
      root_ = std::move(value);
      return;
    }
    Level& level = stack_.back();
    if (level.value.is_array()) {
      level.value.push_back(std::move(value));
    } else {
      level.value[level.key] = std::move(value);
      level.has_key = false;
    }
  }
  /// Ends the parsing by the parser's own way out.
  [[noreturn]] static void fail(const YAML::Mark& mark, const char* what) {
    throw YAML::ParserException(mark, what);
  }

  std::vector<Level> stack_;
  std::map<YAML::anchor_t, Json> anchors_;
  Json root_;
  std::size_t values_ = 0;
  bool begun_ = false;
  int last_start_ = 0;
};

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
    std::istringstream in{std::string(text)};
    YAML::Parser parser(in);
    Builder builder;
    while (builder.next(parser)) {
      Json value = builder.take();
      if (!value.is_null()) out.push_back(std::move(value));
    }
    return out;
  } catch (const YAML::Exception& e) {
    return base::failConfig(
        "", std::string("yaml: line ") + std::to_string(e.mark.line + 1) + ": " + e.msg);
  }
}

base::ConfigResult<Json> parseYaml(std::string_view text) {
  // JSON is YAML too, and its own parser takes a tenth of the time: large configurations are JSON.
  const std::size_t first = text.find_first_not_of(" \t\r\n");
  if (first != std::string_view::npos && text[first] == '{') {
    if (auto value = parse(text)) return value;
  }
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
