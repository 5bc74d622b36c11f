// The command line of postern-demo: echo, allspark, httpbin, load. Builds the loop and runs until
// SIGINT or SIGTERM (load: until its time is over). Call from main, before any thread exists.
#pragma once

#include <span>
#include <string_view>

namespace postern::demo {

/// Arguments without the program's name; returns the exit status.
int run(std::span<const std::string_view> arguments);

}  // namespace postern::demo
