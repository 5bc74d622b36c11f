// The files of a pod's folder: what the agent must know after a restart, and the pod's /etc/hosts,
// /etc/resolv.conf and /etc/hostname. Blocking.
//   pod.json       the object as last seen
//   sandbox.json   which process is its pid 1
//   sandbox/       the sandbox's own (socket, shim.log)
//   etc/ volumes/ logs/ termination/
#pragma once

#include "json/json.h"
#include "runtime/sandbox.h"

#include <optional>
#include <string>

namespace postern::node {

bool writeTextFile(const std::string& path, const std::string& text);
std::optional<std::string> readTextFile(const std::string& path, std::size_t bytes_max);

void makePodFolders(const std::string& folder);
void savePod(const std::string& folder, const json::Json& pod);
std::optional<json::Json> loadPod(const std::string& folder);
void saveSandbox(const std::string& folder, const runtime::Sandbox::Identity& identity);
/// Nothing when it does not live any more.
std::optional<runtime::Sandbox::Identity> loadSandbox(const std::string& folder);

std::string podHostname(const json::Json& pod);
std::string hostsText(const json::Json& pod, const std::string& ip,
                      const std::string& cluster_domain);
/// `cluster`: there is a cluster DNS server.
std::string resolvText(const json::Json& pod, const std::string& cluster_domain, bool cluster);

}  // namespace postern::node
