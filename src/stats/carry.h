// Statistics on their way from one process to the next (hot restart): counters, and those gauges
// that count things which live in both processes.
#pragma once

#include "stats/stats.h"

#include <map>
#include <string>
#include <string_view>

namespace postern::stats {

/// True for a gauge whose values of two processes add up (connections, requests, bytes), false for
/// one that describes a single process (state, uptime, members of a cluster).
bool addsUp(std::string_view gauge);

/// One line each: "c 12 name" or "g 3 name". Histograms are not carried, as in Envoy.
std::string encodeStats(const std::map<std::string, Stats::Value>& values);
/// Lines it does not understand are left out.
std::map<std::string, Stats::Value> decodeStats(std::string_view text);

}  // namespace postern::stats
