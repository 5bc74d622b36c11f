// Access logs from Envoy's messages.
#include "proxy/config_logs.h"

#include "envoy/config/accesslog/v3/accesslog.pb.h"
#include "envoy/config/core/v3/base.pb.h"
#include "envoy/config/core/v3/substitution_format_string.pb.h"
#include "envoy/config/route/v3/route_components.pb.h"
#include "envoy/extensions/access_loggers/file/v3/file.pb.h"
#include "envoy/extensions/access_loggers/stream/v3/stream.pb.h"
#include "proxy/config_http.h"
#include "proxy/config_matchers.h"

// Fields that Envoy calls deprecated still come from older control planes.
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

namespace postern::proxy {

namespace log = envoy::config::accesslog::v3;
namespace loggers = envoy::extensions::access_loggers;

namespace {

constexpr int kFilterDepthMax = 16;
constexpr std::string_view kDefaultFormat =
    "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" "
    "%RESPONSE_CODE% %RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% %DURATION% "
    "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" "
    "\"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\"\n";

void readComparison(const log::ComparisonFilter& message, LogFilter& out) {
  constexpr LogFilter::Op kOps[] = {LogFilter::Op::kEqual, LogFilter::Op::kAtLeast,
                                    LogFilter::Op::kAtMost, LogFilter::Op::kNotEqual};
  out.op = kOps[message.op() & 3];
  out.value = message.value().default_value();
}

LogFilter readLogFilter(const log::AccessLogFilter& message, const Place& place, int depth);

void readNested(const Repeated<log::AccessLogFilter>& messages, const Place& place, int depth,
                LogFilter& out) {
  if (depth > kFilterDepthMax) return place.fail("is nested too deep");
  for (int i = 0; i < messages.size(); ++i)
    out.nested.push_back(readLogFilter(messages[i], place.item("filters", i), depth + 1));
}

LogFilter readLogFilter(const log::AccessLogFilter& message, const Place& place, int depth) {
  using F = log::AccessLogFilter;
  using Kind = LogFilter::Kind;
  LogFilter out;
  switch (message.filter_specifier_case()) {
    case F::kStatusCodeFilter:
      out.kind = Kind::kStatus;
      readComparison(message.status_code_filter().comparison(), out);
      return out;
    case F::kDurationFilter:
      out.kind = Kind::kDuration;
      readComparison(message.duration_filter().comparison(), out);
      return out;
    case F::kNotHealthCheckFilter:
      out.kind = Kind::kNotHealthCheck;
      return out;
    case F::kRuntimeFilter:
      out.kind = Kind::kRuntime;
      out.independent = message.runtime_filter().use_independent_randomness();
      out.share = readFraction(message.runtime_filter().percent_sampled(),
                               place.field("runtime_filter.percent_sampled"));
      return out;
    case F::kAndFilter:
      readNested(message.and_filter().filters(), place.field("and_filter"), depth, out);
      return out;
    case F::kOrFilter:
      out.kind = Kind::kOr;
      readNested(message.or_filter().filters(), place.field("or_filter"), depth, out);
      return out;
    case F::kHeaderFilter:
      out.kind = Kind::kHeader;
      out.header =
          readHeader(message.header_filter().header(), place.field("header_filter.header"));
      return out;
    case F::kResponseFlagFilter:
      out.kind = Kind::kFlags;
      for (const std::string& name : message.response_flag_filter().flags()) {
        formatter::Flag flag{};
        if (!formatter::ResponseFlags::parse(name, flag))
          place.fail("response_flag_filter.flags", "\"" + name + "\" is not a response flag");
        out.flags |= 1u << static_cast<unsigned>(flag);
      }
      return out;
    case F::kGrpcStatusFilter:
      out.kind = Kind::kGrpcStatus;
      out.exclude = message.grpc_status_filter().exclude();
      for (const int status : message.grpc_status_filter().statuses())
        out.grpc_statuses.push_back(status);
      return out;
    default:
      place.fail("needs a filter");
      return out;
  }
}

void setFormat(FormatString format, AccessLogConfig& out) {
  out.json = std::move(format.json);
  out.text = std::move(format.text);
  out.omit_empty = format.omit_empty;
}

void readFile(const loggers::file::v3::FileAccessLog& message, const Place& place,
              AccessLogConfig& out) {
  out.path = message.path();
  if (out.path.empty()) place.fail("path", "is required");
  std::string error;
  switch (message.access_log_format_case()) {
    case loggers::file::v3::FileAccessLog::kLogFormat:
      return setFormat(readFormatString(message.log_format(), place.field("log_format")), out);
    case loggers::file::v3::FileAccessLog::kFormat:
      out.text = readFormat(message.format(), place.field("format"));
      return;
    case loggers::file::v3::FileAccessLog::kJsonFormat:
    case loggers::file::v3::FileAccessLog::kTypedJsonFormat:
      out.json.emplace();
      if (!formatter::JsonFormat::compile(
              message.has_json_format() ? message.json_format() : message.typed_json_format(),
              *out.json, error))
        place.fail(message.has_json_format() ? "json_format" : "typed_json_format", error);
      return;
    default:
      out.text = readFormat(kDefaultFormat, place);
  }
}

template <class Message>
void readStream(const google::protobuf::Any& any, const char* path, const Place& place,
                AccessLogConfig& out) {
  Message message;
  if (!place.unpack(any, message)) return;
  out.path = path;
  if (message.has_log_format()) {
    setFormat(readFormatString(message.log_format(), place.field("log_format")), out);
  } else {
    out.text = readFormat(kDefaultFormat, place);
  }
}

}  // namespace

LogFilter readLogFilter(const log::AccessLogFilter& message, const Place& place) {
  return readLogFilter(message, place, 0);
}

std::vector<AccessLogConfig> readAccessLogs(const Repeated<log::AccessLog>& messages,
                                            const Place& place, std::string_view name) {
  std::vector<AccessLogConfig> out;
  for (int i = 0; i < messages.size(); ++i) {
    const log::AccessLog& each = messages[i];
    const Place at = place.item(name, i);
    const Place typed = at.field("typed_config");
    const std::string_view type = typeName(each.typed_config());
    AccessLogConfig entry;
    if (type == "envoy.extensions.access_loggers.file.v3.FileAccessLog") {
      loggers::file::v3::FileAccessLog message;
      if (typed.unpack(each.typed_config(), message)) readFile(message, typed, entry);
    } else if (type == "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog") {
      readStream<loggers::stream::v3::StdoutAccessLog>(each.typed_config(), "/dev/stdout", typed,
                                                       entry);
    } else if (type == "envoy.extensions.access_loggers.stream.v3.StderrAccessLog") {
      readStream<loggers::stream::v3::StderrAccessLog>(each.typed_config(), "/dev/stderr", typed,
                                                       entry);
    } else {
      typed.fail("\"" + each.typed_config().type_url() + "\" is not a supported access log");
    }
    if (each.has_filter())
      entry.filter.push_back(readLogFilter(each.filter(), at.field("filter"), 0));
    out.push_back(std::move(entry));
  }
  return out;
}

base::ConfigResult<std::vector<AccessLogConfig>> buildAccessLogs(
    const Repeated<log::AccessLog>& messages, std::string_view path) {
  BuildErrors errors;
  const std::size_t dot = path.rfind('.');
  const Place place(dot == std::string_view::npos ? std::string_view() : path.substr(0, dot),
                    errors);
  auto out =
      readAccessLogs(messages, place, dot == std::string_view::npos ? path : path.substr(dot + 1));
  if (errors.failed()) return std::unexpected(errors.error());
  return out;
}

}  // namespace postern::proxy
