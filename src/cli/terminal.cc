#include "cli/terminal.h"

#include <fmt/format.h>

#include <cstdio>
#include <cstdlib>
#include <iostream>

#include <unistd.h>

namespace postern::cli {
namespace {

const char* code(Tone tone) {
  switch (tone) {
    case Tone::kGood:
      return "\033[32m";
    case Tone::kWarning:
      return "\033[33m";
    case Tone::kBad:
      return "\033[31m";
    case Tone::kDim:
      return "\033[2m";
    case Tone::kBold:
      return "\033[1m";
    case Tone::kPlain:
      break;
  }
  return "";
}

bool wantsColour(int fd) {
  const char* no_colour = std::getenv("NO_COLOR");
  const char* term = std::getenv("TERM");
  return ::isatty(fd) == 1 && (no_colour == nullptr || *no_colour == '\0') && term != nullptr &&
         std::string_view(term) != "dumb";
}

}  // namespace

bool Terminal::bothAreTerminals() {
  return ::isatty(STDIN_FILENO) == 1 && ::isatty(STDERR_FILENO) == 1;
}

void Terminal::setColour(Colour colour) {
  colour_out_ = colour == Colour::kAlways || (colour == Colour::kAuto && wantsColour(1));
  colour_err_ = colour == Colour::kAlways || (colour == Colour::kAuto && wantsColour(2));
}

std::string Terminal::paint(Tone tone, std::string_view text, bool out) const {
  if (tone == Tone::kPlain || !(out ? colour_out_ : colour_err_)) return std::string(text);
  return fmt::format("{}{}\033[0m", code(tone), text);
}

void Terminal::clearLine() const {
  if (waiting_) fmt::print(stderr, "\r\033[K");
  waiting_ = false;
}

void Terminal::done(std::string_view name, std::string_view detail) const {
  clearLine();
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - begun_;
  fmt::print(stderr, "  {} {:<26} {:<36} {}\n", paint(Tone::kGood, "✓"), name, detail,
             paint(Tone::kDim, fmt::format("{:6.2f} s", elapsed.count())));
}

void Terminal::waiting(std::string_view name, std::string_view detail) const {
  if (::isatty(STDERR_FILENO) != 1) return;
  clearLine();
  fmt::print(stderr, "  … {:<26} {}", name, detail.substr(0, 60));
  std::fflush(stderr);
  waiting_ = true;
}

void Terminal::note(std::string_view text) const {
  clearLine();
  fmt::print(stderr, "{}\n", text);
}

void Terminal::warning(std::string_view text) const {
  clearLine();
  fmt::print(stderr, "{} {}\n", paint(Tone::kWarning, "warning:"), text);
}

void Terminal::error(std::string_view text) const {
  clearLine();
  fmt::print(stderr, "{} {}\n", paint(Tone::kBad, "error:"), text);
}

void Terminal::detail(std::string_view text) const {
  if (!verbose_) return;
  clearLine();
  fmt::print(stderr, "{}\n", paint(Tone::kDim, text));
}

bool Terminal::confirm(std::string_view question, bool fallback) const {
  if (!interactive_) return fallback;
  clearLine();
  fmt::print(stderr, "{} [{}] ", question, fallback ? "Y/n" : "y/N");
  std::fflush(stderr);
  std::string answer;
  if (!std::getline(std::cin, answer)) {
    fmt::print(stderr, "\n");
    return false;
  }
  if (answer.empty()) return fallback;
  return answer[0] == 'y' || answer[0] == 'Y';
}

}  // namespace postern::cli
