// What `install` and `demoapp` put into a cluster, component by component, with progress. Blocking.
#pragma once

#include "cli/context.h"
#include "cli/installer.h"

#include <string>
#include <vector>

namespace postern::cli {

inline constexpr const char* kDemoNamespace = "backyards-demo";

/// The client for --kubeconfig and --context.
base::ConfigResult<std::unique_ptr<kube::Client>> connect(const Context& context);
/// The name of the context that connect() used.
std::string contextName(const Context& context);

/// CRDs, control plane and the mesh resource, until the mesh is Available.
Problem installMesh(Installer& installer);
/// The same, told apart for --dump-resources.
std::vector<json::Json> meshObjects();

/// The demo application's objects in `ns`; only the named services unless the list is empty.
base::ConfigResult<std::vector<json::Json>> demoObjects(const std::string& ns,
                                                        const std::vector<std::string>& services);
Problem installDemo(Installer& installer, const std::string& ns,
                    const std::vector<json::Json>& objects);
/// Removes the demo application with its namespace. True if there was one.
base::ConfigResult<bool> uninstallDemo(Installer& installer, const std::string& ns);

/// Starts the load generator in the cluster; `ns` holds the demo application.
Problem startLoad(Installer& installer, const std::string& ns, int rps, int duration_seconds);

/// All documents as one YAML stream.
std::string dumpObjects(const std::vector<json::Json>& objects);

}  // namespace postern::cli
