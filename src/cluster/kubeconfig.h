// The person's kubeconfig: our context is added to it and taken out again; all other entries stay
// (comments do not). Takes kubectl's lock (FILE.lock), writes by rename, mode 0600. Blocking.
#pragma once

#include "base/error.h"

#include <string>
#include <string_view>

namespace postern::cluster {

inline constexpr const char* kContextName = "postern";
inline constexpr const char* kUserName = "postern-admin";

/// The file kubectl writes to: the first of $KUBECONFIG, or ~/.kube/config; empty without a home.
std::string defaultKubeconfigPath();

/// What must be known to undo the change.
struct KubeconfigChange {
  std::string path;
  std::string previous_context;  // current-context before
  bool made = false;             // there was no file
};

/// Merges the admin's kubeconfig (as the API server writes it) into the text of a kubeconfig and
/// makes our context current. Empty text is an empty configuration.
base::ConfigResult<std::string> addContext(std::string_view kubeconfig, std::string_view admin,
                                           std::string& previous_context);
/// Takes our entries out, if they still lead to `server`; restores the context if ours is current.
/// An empty result: nothing else is left.
base::ConfigResult<std::string> removeContext(std::string_view kubeconfig, std::string_view server,
                                              std::string_view previous_context);

/// Fails, before anything is started, when the file could not be changed later.
base::ConfigResult<void> checkKubeconfig(const std::string& path);
base::ConfigResult<KubeconfigChange> writeContext(const std::string& path, std::string_view admin);
base::ConfigResult<void> restoreContext(const KubeconfigChange& change, std::string_view server);

}  // namespace postern::cluster
