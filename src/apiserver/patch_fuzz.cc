// Patches of anybody against objects of anybody: {"object": …, "patch": …}, by all four patch
// types, and selectors: {"selector": "…"}. A result or a Status, never a crash.
#include "apiserver/apply.h"
#include "apiserver/patch.h"
#include "apiserver/selectors.h"
#include "base/check.h"

#include <cstdint>
#include <string>
#include <string_view>

using namespace postern;             // NOLINT(google-build-using-namespace): a program of its own
using namespace postern::apiserver;  // NOLINT(google-build-using-namespace)

namespace {

void select(const Json& input) {
  const auto text = input.find("selector");
  if (text == input.end()) return;
  const Json object = input.value("object", Json());
  (void)LabelSelector::fromJson(*text).matches(object);
  if (!text->is_string()) return;
  const auto labels = LabelSelector::parse(text->get<std::string>());
  if (labels) (void)labels->matches(object);
  for (const auto& kind : schema::builtinKinds()) {
    const auto fields = FieldSelector::parse(text->get<std::string>(), kind);
    if (fields) (void)fields->matches(object);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto input = json::parse(text);
  if (!input || !input->is_object()) return 0;
  select(*input);
  const Json object = input->value("object", Json());
  const Json patch = input->value("patch", Json());
  (void)jsonPatch(object, patch);
  const Json merged = mergePatch(object, patch);
  POSTERN_CHECK(mergePatch(merged, patch) == merged);
  (void)strategicPatch(object, patch);
  if (!patch.is_object() || !(object.is_object() || object.is_null())) return 0;
  auto applied = applyPatch(object, patch, "fuzz", "", true, nullptr);
  if (applied) (void)applyPatch(*applied, patch, "other", "", true, nullptr);
  Json changed = patch;
  trackUpdate(object.is_object() ? &object : nullptr, changed, "fuzz", "", "2024-01-01T00:00:00Z");
  return 0;
}
