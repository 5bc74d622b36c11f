#include "base/strings.h"
#include "proxy/admin.h"
#include "proxy/server.h"
#include "stats/tags.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <re2/re2.h>

#include <optional>

namespace postern::proxy {

namespace {

using json = nlohmann::json;
using Values = std::map<std::string, stats::Stats::Value>;

constexpr std::array kQuantiles = {0.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.5, 99.9, 100.0};

/// "true", or given without a value.
bool hasParameter(const http::Request& request, std::string_view name) {
  for (const auto piece : base::split(request.query, '&')) {
    if (piece == name || piece == fmt::format("{}=true", name)) return true;
    if (piece.starts_with(fmt::format("{}=", name))) return piece.back() != '0';
  }
  return false;
}

const char* typeName(stats::Stats::Value::Kind kind) {
  switch (kind) {
    case stats::Stats::Value::Kind::kCounter:
      return "counter";
    case stats::Stats::Value::Kind::kGauge:
      return "gauge";
    case stats::Stats::Value::Kind::kHistogram:
      break;
  }
  return "histogram";
}

bool isType(const std::string& type) {
  return type.empty() || type == "All" || type == "Counters" || type == "Gauges" ||
         type == "Histograms" || type == "TextReadouts";
}

bool wantedStat(const std::string& type, stats::Stats::Value::Kind kind) {
  if (type.empty() || type == "All") return true;
  if (type == "Counters") return kind == stats::Stats::Value::Kind::kCounter;
  if (type == "Gauges") return kind == stats::Stats::Value::Kind::kGauge;
  return type == "Histograms" && kind == stats::Stats::Value::Kind::kHistogram;
}

std::string histogramText(const Values& values) {
  std::string out;
  for (const auto& [name, value] : values) {
    if (value.kind != stats::Stats::Value::Kind::kHistogram) {
      out += fmt::format("{}: {}\n", name, value.number);
      continue;
    }
    out += name + ":";
    if (value.histogram.count == 0) {
      out += " No recorded values\n";
      continue;
    }
    for (const double quantile : kQuantiles) {
      out += fmt::format(" P{:g}(nan,{:g})", quantile, value.histogram.quantile(quantile / 100));
    }
    out += '\n';
  }
  return out;
}

json jsonOf(const Values& values) {
  json stats = json::array();
  json histograms = json::array();
  for (const auto& [name, value] : values) {
    if (value.kind != stats::Stats::Value::Kind::kHistogram) {
      stats.push_back({{"name", name}, {"value", value.number}});
      continue;
    }
    json computed = json::array();
    for (const double quantile : kQuantiles) {
      json cumulative;
      if (value.histogram.count != 0) cumulative = value.histogram.quantile(quantile / 100);
      computed.push_back({{"interval", nullptr}, {"cumulative", std::move(cumulative)}});
    }
    histograms.push_back({{"name", name}, {"values", std::move(computed)}});
  }
  if (!histograms.empty()) {
    stats.push_back(
        {{"histograms",
          {{"supported_quantiles", kQuantiles}, {"computed_quantiles", std::move(histograms)}}}});
  }
  return {{"stats", std::move(stats)}};
}

/// Lines of one metric name must stand together.
struct Family {
  const char* type = "";
  std::string lines;
};

void addHistogram(std::string& out, const std::string& name, const std::string& labels,
                  const stats::Histogram::Values& values) {
  const std::string before = labels.empty() ? "" : labels + ",";
  std::uint64_t sum = 0;
  for (std::size_t i = 0; i < stats::kHistogramBounds.size(); ++i) {
    sum += values.buckets[i];
    out += fmt::format("{}_bucket{{{}le=\"{:.32g}\"}} {}\n", name, before,
                       stats::kHistogramBounds[i], sum);
  }
  out += fmt::format("{}_bucket{{{}le=\"+Inf\"}} {}\n", name, before, values.count);
  out += fmt::format("{}_sum{{{}}} {:.32g}\n", name, labels, values.sum);
  out += fmt::format("{}_count{{{}}} {}\n", name, labels, values.count);
}

std::string prometheusOf(const Values& values) {
  std::map<std::string, Family> families;
  for (const auto& [full, value] : values) {
    const stats::TaggedStat stat = stats::extractTags(full);
    const std::string name = "envoy_" + stats::prometheusName(stat.name);
    Family& family = families[name];
    family.type = typeName(value.kind);
    std::string labels;
    for (const auto& [tag, text] : stat.tags) {
      if (!labels.empty()) labels += ',';
      labels += fmt::format("{}=\"{}\"", stats::prometheusName(tag), stats::prometheusLabel(text));
    }
    if (value.kind == stats::Stats::Value::Kind::kHistogram) {
      addHistogram(family.lines, name, labels, value.histogram);
    } else {
      family.lines += fmt::format("{}{{{}}} {}\n", name, labels, value.number);
    }
  }
  std::string out;
  for (const auto& [name, family] : families)
    out += fmt::format("# TYPE {} {}\n{}\n", name, family.type, family.lines);
  return out;
}

}  // namespace

void answerStats(Server& server, const http::Request& request, bool prometheus,
                 http::Responder& responder) {
  const std::string pattern = request.parameter("filter");
  const std::string format = request.parameter("format");
  const std::string type = request.parameter("type");
  RE2::Options options;
  options.set_log_errors(false);
  const RE2 filter(pattern, options);
  if (!filter.ok())
    return respondText(responder, 400, "Invalid re2 regex: " + filter.error() + "\n");
  if (!format.empty() && format != "json" && format != "text" && format != "prometheus") {
    return respondText(responder, 400, "usage: /stats?format=(json|prometheus|text)\n\n");
  }
  if (!isType(type)) return respondText(responder, 400, "invalid &type= param");
  server.refreshGauges();
  Values values = server.stats().read();
  const bool used_only = hasParameter(request, "usedonly");
  std::erase_if(values, [&](const auto& entry) {
    if (used_only && !entry.second.used) return true;
    if (!wantedStat(type, entry.second.kind)) return true;
    return !pattern.empty() && !RE2::PartialMatch(entry.first, filter);
  });
  if (prometheus || format == "prometheus") {
    return responder.respond(
        200,
        {{"content-type", "text/plain; version=0.0.4"}, {"cache-control", "no-cache, max-age=0"}},
        prometheusOf(values));
  }
  if (format == "json") return respondJson(responder, jsonOf(values));
  respondText(responder, 200, histogramText(values));
}

}  // namespace postern::proxy
