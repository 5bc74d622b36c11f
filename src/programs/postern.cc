// postern: the command line and the local cluster.
#include "cli/cli.h"
#include "runtime/shim.h"

#include <string_view>

int main(int argc, char** argv) {
  if (argc > 1 && std::string_view(argv[1]) == postern::runtime::kShimArgument)
    return postern::runtime::shimMain(argc - 2, argv + 2);
  return postern::cli::run(argc, argv);
}
