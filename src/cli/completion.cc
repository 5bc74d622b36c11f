// completion: scripts for shells. They ask the program itself for its commands and flags, so they
// never grow old.
#include "cli/context.h"

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include <memory>
#include <string>
#include <vector>

namespace postern::cli {
namespace {

constexpr const char* kBash =
    R"SHELL(# postern completion for bash: source <(postern completion bash)
_postern() {
  local IFS=$'\n'
  COMPREPLY=($(compgen -W "$(postern __complete "${COMP_WORDS[@]:1:COMP_CWORD-1}" 2>/dev/null)" -- "${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F _postern postern
)SHELL";
constexpr const char* kZsh = R"SHELL(#compdef postern
# postern completion for zsh: source <(postern completion zsh)
_postern() {
  local -a found
  found=(${(f)"$(postern __complete ${
  words[2, CURRENT - 1]} 2>/dev/null)"})
  compadd -a found
}
compdef _postern postern
)SHELL";
constexpr const char* kFish =
    R"SHELL(# postern completion for fish: postern completion fish | source
complete -c postern -f -a '(postern __complete (commandline -opc)[2..-1] 2>/dev/null)'
)SHELL";

/// The words that may follow: commands and flags of the deepest command that was typed.
void complete(const CLI::App& root, const std::vector<std::string>& typed) {
  const CLI::App* at = &root;
  for (const std::string& word : typed) {
    for (const CLI::App* each : at->get_subcommands(nullptr)) {
      if (each->get_name() == word) {
        at = each;
        break;
      }
    }
  }
  for (const CLI::App* each : at->get_subcommands(nullptr)) {
    if (!each->get_group().empty()) fmt::print("{}\n", each->get_name());
  }
  auto flags = [](const CLI::App& app) {
    for (const CLI::Option* option : app.get_options()) {
      for (const std::string& name : option->get_lnames()) fmt::print("--{}\n", name);
    }
  };
  flags(*at);
  if (at != &root) flags(root);
}

}  // namespace

void addCompletionCommand(CLI::App& app, Context& context) {
  auto shell = std::make_shared<std::string>();
  CLI::App* command = app.add_subcommand("completion", "print the completion script of a shell");
  command->add_option("shell", *shell, "bash, zsh or fish")
      ->required()
      ->check(CLI::IsMember({"bash", "zsh", "fish"}));
  command->footer(
      "Examples:\n  source <(postern completion bash)\n  postern completion fish | source");
  command->callback([&context, shell] {
    context.action = [shell] {
      fmt::print("{}", *shell == "bash" ? kBash : *shell == "zsh" ? kZsh : kFish);
      return kExitOk;
    };
  });
  CLI::App* words = app.add_subcommand("__complete", "")->group("");
  words->prefix_command();
  words->fallthrough(false);
  words->callback([&app, &context, words] {
    context.action = [&app, words] {
      complete(app, words->remaining());
      return kExitOk;
    };
  });
}

}  // namespace postern::cli
