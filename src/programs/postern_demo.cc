// postern-demo: the demonstration services and the load generator of the walkthrough.
#include "demo/demo.h"

#include <string_view>
#include <vector>

int main(int argc, char** argv) {
  std::vector<std::string_view> arguments(argv + 1, argv + argc);
  return postern::demo::run(arguments);
}
