#include "base/log_format.h"

#include <fmt/format.h>

#include <cstdlib>
#include <ctime>
#include <iterator>

namespace postern::base {

namespace {

constexpr std::string_view kFlags = "v_jlLntPYymdHIMSpefFETRDzaAbBcCrgs#!%";

void appendEscaped(std::string& out, std::string_view text, bool json) {
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '\n') {
      out += "\\n";
    } else if (c == '\r') {
      out += "\\r";
    } else if (c == '\t') {
      out += "\\t";
    } else if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (byte < 0x20 || byte == 0x7f) {
      json ? fmt::format_to(std::back_inserter(out), "\\u{:04x}", byte)
           : fmt::format_to(std::back_inserter(out), "\\x{:02x}", byte);
    } else {
      out += c;
    }
  }
}

void appendTime(std::string& out, const std::tm& at, const char* format) {
  char text[64];
  out.append(text, ::strftime(text, sizeof text, format, &at));
}

void appendZone(std::string& out, const std::tm& at) {
  const long minutes = at.tm_gmtoff / 60;
  fmt::format_to(std::back_inserter(out), "{}{:02}:{:02}", minutes < 0 ? '-' : '+',
                 std::abs(minutes) / 60, std::abs(minutes) % 60);
}

void appendFlag(std::string& out, char flag, const LogLine& line, const std::tm& at) {
  const auto into = std::back_inserter(out);
  switch (flag) {
    case 'v':
      out += line.text;
      return;
    case '_': {
      for (const char c : line.text) c == '\n' ? out += "\\n" : out += c;
      return;
    }
    case 'j':
      return appendEscaped(out, line.text, true);
    case 'l':
      out += toString(line.level);
      return;
    case 'L':
      out += static_cast<char>(toString(line.level)[0] - 'a' + 'A');
      return;
    case 'n':
      out += line.component;
      return;
    case 't':
      fmt::format_to(into, "{}", line.thread);
      return;
    case 'P':
      fmt::format_to(into, "{}", line.process);
      return;
    case 'e':
      fmt::format_to(into, "{:03}", line.time.tv_nsec / 1'000'000);
      return;
    case 'f':
      fmt::format_to(into, "{:06}", line.time.tv_nsec / 1'000);
      return;
    case 'F':
      fmt::format_to(into, "{:09}", line.time.tv_nsec);
      return;
    case 'E':
      fmt::format_to(into, "{}", line.time.tv_sec);
      return;
    case 'C':
      return appendTime(out, at, "%y");
    case 'z':
      return appendZone(out, at);
    case 'g':
    case 's':
    case '#':
    case '!':
      return;  // no source location is kept
    case '%':
      out += '%';
      return;
    default:
      const char format[] = {'%', flag, '\0'};
      appendTime(out, at, format);
  }
}

}  // namespace

std::optional<LogFormat> LogFormat::parse(std::string_view pattern) {
  LogFormat out;
  for (std::size_t i = 0; i < pattern.size(); ++i) {
    if (pattern[i] != '%') {
      if (out.pieces_.empty() || out.pieces_.back().flag != '\0') out.pieces_.emplace_back();
      out.pieces_.back().literal += pattern[i];
      continue;
    }
    if (++i == pattern.size() || kFlags.find(pattern[i]) == std::string_view::npos)
      return std::nullopt;
    out.pieces_.push_back({pattern[i], {}});
  }
  return out;
}

void LogFormat::append(std::string& out, const LogLine& line) const {
  std::tm at{};
  ::localtime_r(&line.time.tv_sec, &at);
  for (const Piece& piece : pieces_) {
    if (piece.flag == '\0') {
      out += piece.literal;
    } else {
      appendFlag(out, piece.flag, line, at);
    }
  }
  out += '\n';
}

std::string escapeC(std::string_view text) {
  std::string out;
  appendEscaped(out, text, false);
  return out;
}

}  // namespace postern::base
