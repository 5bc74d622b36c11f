// The open watches: each streams the changes of one resource, filtered and rendered for its client.
// Owned by the REST layer; one loop.
#pragma once

#include "apiserver/render.h"
#include "apiserver/selectors.h"

#include <list>
#include <memory>

namespace postern::apiserver {

/// A client that leaves this much unread is dropped.
inline constexpr std::size_t kWatchUnsentBytesMax = 64 * 1024 * 1024;

class Watches {
 public:
  Watches(event::Loop& loop, store::Store& store, ArrayStyle arrays);
  ~Watches();
  /// Answers 200 and streams until timeout, client gone or destruction.
  void start(std::shared_ptr<const Call> call, std::unique_ptr<http::Responder> responder,
             LabelSelector labels, FieldSelector fields, Rendering rendering);
  std::size_t count() const { return open_.size(); }

 private:
  class Watch;
  void sweep();
  event::Loop& loop_;
  store::Store& store_;
  ArrayStyle arrays_;
  std::list<std::unique_ptr<Watch>> open_;
  event::Timer sweep_;
};

}  // namespace postern::apiserver
