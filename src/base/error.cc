#include "base/error.h"

#include <cerrno>
#include <cstring>

namespace postern::base {

std::string_view toString(Errc code) {
  switch (code) {
    case Errc::kOk:
      return "ok";
    case Errc::kInvalidArgument:
      return "invalid argument";
    case Errc::kNotFound:
      return "not found";
    case Errc::kAlreadyExists:
      return "already exists";
    case Errc::kConflict:
      return "conflict";
    case Errc::kPermissionDenied:
      return "permission denied";
    case Errc::kUnauthenticated:
      return "unauthenticated";
    case Errc::kLimitExceeded:
      return "limit exceeded";
    case Errc::kProtocol:
      return "protocol error";
    case Errc::kClosed:
      return "closed";
    case Errc::kReset:
      return "reset";
    case Errc::kRefused:
      return "refused";
    case Errc::kTimeout:
      return "timeout";
    case Errc::kCancelled:
      return "cancelled";
    case Errc::kUnavailable:
      return "unavailable";
    case Errc::kUnsupported:
      return "unsupported";
    case Errc::kParse:
      return "parse error";
    case Errc::kSystem:
      return "system error";
    case Errc::kInternal:
      return "internal error";
  }
  return "unknown";
}

std::string Error::message() const {
  std::string out =
      (text != nullptr && *text != '\0') ? std::string(text) : std::string(toString(code));
  if (sys != 0) {
    char buffer[128];
    out += ": ";
    out += strerror_r(sys, buffer, sizeof buffer);
  }
  return out;
}

Error errnoError(const char* text, int sys) {
  Errc code = Errc::kSystem;
  switch (sys) {
    case ECONNREFUSED:
      code = Errc::kRefused;
      break;
    case ECONNRESET:
    case EPIPE:
      code = Errc::kReset;
      break;
    case ETIMEDOUT:
      code = Errc::kTimeout;
      break;
    case EACCES:
    case EPERM:
      code = Errc::kPermissionDenied;
      break;
    case ENOENT:
      code = Errc::kNotFound;
      break;
    case EEXIST:
    case EADDRINUSE:
      code = Errc::kAlreadyExists;
      break;
    case EMFILE:
    case ENFILE:
      code = Errc::kLimitExceeded;
      break;
    default:
      break;
  }
  return Error{code, text, sys};
}

std::unexpected<Error> failErrno(const char* text) {
  return std::unexpected(errnoError(text, errno));
}

std::string ConfigError::message() const { return path.empty() ? text : path + ": " + text; }

}  // namespace postern::base
