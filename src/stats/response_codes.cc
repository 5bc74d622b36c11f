#include "stats/response_codes.h"

#include <string>

namespace postern::stats {

void ResponseCodes::count(int code) {
  completed_.add();
  if (code < 100 || code > 999) return;
  for (const Kept& each : kept_) {
    if (each.code != code) continue;
    each.exact->add();
    each.by_class->add();
    return;
  }
  const std::string text = std::to_string(code);
  Kept& kept = kept_[next_++ % kept_.size()];
  kept = {code, &scope_.counter("upstream_rq_" + text),
          &scope_.counter("upstream_rq_" + text.substr(0, 1) + "xx")};
  kept.exact->add();
  kept.by_class->add();
}

}  // namespace postern::stats
