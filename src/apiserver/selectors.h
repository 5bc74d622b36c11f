// Label and field selectors of list, watch and deletecollection. Values.
#pragma once

#include "apiserver/status.h"

#include <string>
#include <string_view>
#include <vector>

namespace postern::apiserver {

class LabelSelector {
 public:
  static ApiResult<LabelSelector> parse(std::string_view text);
  /// metav1.LabelSelector (matchLabels, matchExpressions); null or empty selects everything.
  static LabelSelector fromJson(const Json& selector);
  bool matches(const Json& object) const;
  bool matchesLabels(const Json& labels) const;
  bool empty() const { return requirements_.empty(); }

 private:
  enum class Op : unsigned char { kIn, kNotIn, kExists, kAbsent };
  struct Requirement {
    std::string key;
    Op op;
    std::vector<std::string> values;
  };
  std::vector<Requirement> requirements_;
};

class FieldSelector {
 public:
  /// Refuses fields that the kind does not offer.
  static ApiResult<FieldSelector> parse(std::string_view text, const schema::Kind& kind);
  bool matches(const Json& object) const;
  bool empty() const { return terms_.empty(); }

 private:
  struct Term {
    std::string path;
    std::string value;
    bool equal;
  };
  std::vector<Term> terms_;
};

}  // namespace postern::apiserver
