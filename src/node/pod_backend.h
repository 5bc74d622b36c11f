// exec, attach and port-forward of the streaming server on this node's pods. Loop thread.
#pragma once

#include "event/loop.h"
#include "node/pod_worker.h"
#include "node/work_pool.h"
#include "streaming/backend.h"

#include <memory>
#include <string>

namespace postern::node {

class PodBackend final : public streaming::ExecBackend {
 public:
  /// Null when the node has no such pod.
  using Find = base::Function<PodWorker*(const streaming::PodRef& pod)>;
  PodBackend(event::Loop& loop, WorkPool& pool, Find find)
      : loop_(loop), pool_(pool), find_(std::move(find)) {}

  std::optional<streaming::Refusal> check(streaming::Purpose purpose, const streaming::PodRef& pod,
                                          const std::string& container) override;
  std::unique_ptr<streaming::StreamProcess> exec(const streaming::ExecRequest& request,
                                                 streaming::StreamSession& session) override;
  std::unique_ptr<streaming::StreamProcess> attach(const streaming::ExecRequest& request,
                                                   streaming::StreamSession& session) override;
  void dial(const streaming::PodRef& pod, std::uint16_t port, DialCallback callback) override;

 private:
  event::Loop& loop_;
  WorkPool& pool_;
  Find find_;
  Alive alive_;
};

}  // namespace postern::node
