#include "proxy/header_ops.h"

namespace postern::proxy {

void HeaderOps::apply(http::HeaderMap& headers, const AccessRecord& record) const {
  for (const std::string& each : remove) headers.remove(each);
  std::string formatted;
  for (const HeaderOp& op : add) {
    std::string_view value = op.fixed;
    if (!op.constant) {
      formatted.clear();
      op.value.append(formatted, record, "");
      value = formatted;
    }
    if (value.empty() && !op.keep_empty) continue;
    switch (op.action) {
      case HeaderOp::Action::kAppend:
        headers.add(op.name, value);
        break;
      case HeaderOp::Action::kAddIfAbsent:
        if (!headers.has(op.name)) headers.add(op.name, value);
        break;
      case HeaderOp::Action::kOverwrite:
        if (!headers.has(op.name)) break;
        [[fallthrough]];
      case HeaderOp::Action::kOverwriteOrAdd:
        // It moves to the end, as in Envoy.
        headers.remove(op.name);
        headers.add(op.name, value);
        break;
    }
  }
}

}  // namespace postern::proxy
