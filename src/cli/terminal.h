// What a person sees: results on stdout, progress, hints and errors on stderr; colours only on a
// terminal. Progress lines carry the time since the command began.
#pragma once

#include <chrono>
#include <string>
#include <string_view>

namespace postern::cli {

enum class Colour : unsigned char { kAuto, kNever, kAlways };
enum class Tone : unsigned char { kPlain, kGood, kWarning, kBad, kDim, kBold };

class Terminal {
 public:
  void setColour(Colour colour);
  void setVerbose(bool verbose) { verbose_ = verbose; }

  /// "text", coloured if stderr (or, with `out`, stdout) is a terminal.
  std::string paint(Tone tone, std::string_view text, bool out = false) const;
  /// A part is done: "  ✓ name   detail   0.12 s".
  void done(std::string_view name, std::string_view detail = "") const;
  /// A part is being waited for; on a terminal the line is replaced by the next one.
  void waiting(std::string_view name, std::string_view detail = "") const;
  void note(std::string_view text) const;
  void warning(std::string_view text) const;
  void error(std::string_view text) const;
  /// Only with --verbose.
  void detail(std::string_view text) const;
  /// Asks a yes/no question; `fallback` when nobody can answer.
  bool confirm(std::string_view question, bool fallback) const;
  void setInteractive(bool interactive) { interactive_ = interactive; }
  bool interactive() const { return interactive_; }
  static bool bothAreTerminals();

 private:
  void clearLine() const;
  std::chrono::steady_clock::time_point begun_ = std::chrono::steady_clock::now();
  bool colour_out_ = false;
  bool colour_err_ = false;
  bool verbose_ = false;
  bool interactive_ = false;
  mutable bool waiting_ = false;
};

}  // namespace postern::cli
