// postern: the command line and the local cluster.
#include "cli/cli.h"

int main(int argc, char** argv) { return postern::cli::run(argc, argv); }
