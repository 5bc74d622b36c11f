#include "formatter/header_ops.h"

#include "codec/h1_chars.h"

namespace postern::formatter {

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
  // Which are wanted, and with which values, is decided by the headers as they came: no operation
  // sees what another one of its level did.
  struct Wanted {
    const HeaderOp& op;
    std::size_t begin;  // of its value in `formatted`, unless it is constant
    std::size_t size;
  };
  std::vector<Wanted> all;
  all.reserve(add.size());
  std::string formatted;
  for (const HeaderOp& op : add) {
    if (!wanted(op, headers)) continue;
    const std::size_t begin = formatted.size();
    if (!op.constant) op.value.append(formatted, record, "");
    // Whatever it was made of, a line's end in it would begin another field.
    if (!codec::isValue(std::string_view(formatted).substr(begin))) continue;
    const std::size_t size = op.constant ? op.fixed.size() : formatted.size() - begin;
    if (size > 0 || op.keep_empty) all.push_back({op, begin, size});
  }
  const auto value = [&](const Wanted& each) {
    if (each.op.constant) return std::string_view(each.op.fixed);
    return std::string_view(formatted).substr(each.begin, each.size);
  };
  // What is overwritten comes before what is added, as in Envoy.
  for (const Wanted& each : all) {
    if (!each.op.overwrites()) continue;
    headers.remove(each.op.name);  // it moves to the end
    headers.add(each.op.name, value(each));
  }
  for (const Wanted& each : all) {
    if (!each.op.overwrites()) headers.add(each.op.name, value(each));
  }
}

}  // namespace postern::formatter
