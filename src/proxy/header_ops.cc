#include "proxy/header_ops.h"

namespace postern::proxy {

namespace {

bool wanted(const HeaderOp& op, const http::HeaderMap& headers) {
  switch (op.action) {
    case HeaderOp::Action::kAddIfAbsent:
      return !headers.has(op.name);
    case HeaderOp::Action::kOverwrite:
      return headers.has(op.name);
    default:
      return true;
  }
}

}  // namespace

void HeaderOps::apply(http::HeaderMap& headers, const AccessRecord& record) const {
  for (const std::string& each : remove) headers.remove(each);
  std::string formatted;
  auto run = [&](bool overwriting) {
    for (const HeaderOp& op : add) {
      const bool overwrites = op.action == HeaderOp::Action::kOverwriteOrAdd ||
                              op.action == HeaderOp::Action::kOverwrite;
      if (overwrites != overwriting || !wanted(op, headers)) continue;
      std::string_view value = op.fixed;
      if (!op.constant) {
        formatted.clear();
        op.value.append(formatted, record, "");
        value = formatted;
      }
      if (value.empty() && !op.keep_empty) continue;
      if (overwrites) headers.remove(op.name);  // it moves to the end
      headers.add(op.name, value);
    }
  };
  // What is overwritten comes before what is added, as in Envoy.
  run(true);
  run(false);
}

}  // namespace postern::proxy
