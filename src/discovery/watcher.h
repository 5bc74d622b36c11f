// Keeps Sources fresh from informers and delivers snapshots to the discovery loop: a few
// milliseconds after a change, once for a burst. Lives on that loop; informer handlers run on the
// client's I/O thread and only post.
#pragma once

#include "discovery/snapshot.h"
#include "event/loop.h"
#include "kube/informer.h"

#include <chrono>
#include <functional>
#include <memory>

namespace postern::discovery {

class Watcher {
 public:
  /// `sources` are the objects the snapshot was made of.
  using OnSnapshot = std::function<void(std::shared_ptr<const Snapshot>, const Sources& sources)>;
  /// The first snapshot comes when every informer is synced.
  Watcher(event::Loop& loop, kube::Client& client, OnSnapshot on_snapshot,
          std::chrono::milliseconds debounce = std::chrono::milliseconds(5));
  ~Watcher();
  Watcher(const Watcher&) = delete;
  Watcher& operator=(const Watcher&) = delete;

 private:
  struct Shared;
  std::shared_ptr<Shared> shared_;
};

}  // namespace postern::discovery
