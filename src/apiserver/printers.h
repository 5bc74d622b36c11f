// Columns and cells of built-in kinds; private to the tables.
#pragma once

#include "apiserver/table.h"

#include <string>
#include <vector>

namespace postern::apiserver {

struct PrinterColumn {
  std::string name;
  std::string type = "string";
  int priority = 0;  // 1: only with -o wide
};

struct Printer {
  std::vector<PrinterColumn> columns;  // after Name
  std::vector<Json> (*cells)(const Json& object, const std::string& age, WallTime now);
};

const Printer& printerOf(const schema::Kind& kind);
/// The STATUS column of pods.
std::string podStatus(const Json& pod);

}  // namespace postern::apiserver
