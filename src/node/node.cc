#include "node/node.h"

#include "base/log.h"
#include "base/strings.h"
#include "http/server.h"
#include "network/network.h"
#include "node/container_logs.h"
#include "node/image_map.h"
#include "node/pod_backend.h"
#include "node/pod_files.h"
#include "node/registration.h"
#include "runtime/shim.h"
#include "streaming/server.h"

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include <filesystem>
#include <set>
#include <thread>

#include <sys/stat.h>
#include <unistd.h>

namespace postern::node {
namespace {

namespace fs = std::filesystem;
using json::Json;

base::LogComponent kNodeLog("node");

constexpr int kPoolThreads = 8;
constexpr std::size_t kImageMapBytesMax = 1024 * 1024;

/// The image map's file, read again when its time changes. Loop thread.
class Images {
 public:
  Images(std::string programs_dir, std::string file)
      : programs_dir_(std::move(programs_dir)), file_(std::move(file)) {}

  std::shared_ptr<const ImageMap> get() {
    struct stat facts{};
    const bool there = !file_.empty() && ::stat(file_.c_str(), &facts) == 0;
    const long long stamp =
        there ? facts.st_mtim.tv_sec * 1'000'000'000LL + facts.st_mtim.tv_nsec : 0;
    if (map_ && stamp == stamp_) return map_;
    stamp_ = stamp;
    auto map = std::make_shared<ImageMap>(programs_dir_);
    if (there) {
      const auto text = readTextFile(file_, kImageMapBytesMax);
      auto added = text ? map->addYaml(*text)
                        : base::ConfigResult<void>(base::failConfig("", "cannot be read"));
      // The entries before the mistake are lost too: a half-read map would surprise more.
      if (!added) kNodeLog.error("image map {}: {}", file_, added.error().message());
      map->setSource(file_, added ? "" : added.error().message());
    } else {
      map->setSource(file_, file_.empty() ? "" : "it is not there");
    }
    map_ = std::move(map);
    return map_;
  }

 private:
  const std::string programs_dir_;
  const std::string file_;
  long long stamp_ = -1;
  std::shared_ptr<const ImageMap> map_;
};

class NodeImpl final : public Node {
 public:
  NodeImpl(event::Loop& loop, NodeOptions options)
      : loop_(loop),
        options_(std::move(options)),
        images_(options_.programs_dir, options_.image_map_file) {}

  ~NodeImpl() override {
    server_.reset();
    streaming_.reset();
    pods_.reset();
    services_.reset();
    registration_.reset();
    workers_.clear();
    pool_.reset();
    events_.reset();
  }

  base::ConfigResult<void> open() {
    POSTERN_TRY(client_, kube::Client::make(options_.client));
    pool_ = std::make_unique<WorkPool>(loop_, kPoolThreads);
    events_ = EventRecorder::start(*client_, options_.node_name);
    if (options_.shim_command.empty())
      options_.shim_command = {"/proc/self/exe", runtime::kShimArgument};
    if (options_.node_ip.empty())
      options_.node_ip = options_.network != nullptr ? network::kNodeAddress : "127.0.0.1";
    PodFacts facts;
    facts.host_ip = options_.node_ip;
    facts.cpu_milli = std::max(1U, std::thread::hardware_concurrency()) * 1000;
    facts.memory_bytes =
        static_cast<std::int64_t>(::sysconf(_SC_PHYS_PAGES)) * ::sysconf(_SC_PAGE_SIZE);
    context_.reset(new WorkerContext{
        .loop = loop_,
        .client = *client_,
        .pool = *pool_,
        .events = *events_,
        .network = options_.network,
        .pods_dir = options_.data_dir + "/pods",
        .programs_dir = options_.programs_dir,
        .hidden = hiddenFolders(),
        .shim_command = options_.shim_command,
        .cluster_domain = options_.cluster_domain,
        .facts = facts,
        .images = [this] { return images_.get(); },
        .services =
            [this] { return services_ ? services_->list() : std::vector<kube::ObjectPtr>(); }});
    std::error_code error;
    fs::create_directories(context_->pods_dir, error);
    if (error) return base::failConfig(context_->pods_dir, error.message());
    POSTERN_TRY_VOID(serve());
    registration_ =
        Registration::start(*client_, options_.node_name, options_.node_ip, options_.pods_max);
    services_ = kube::Informer::start(*client_, kube::types::kService);
    pods_ = kube::Informer::start(
        *client_, kube::types::kPod, "",
        {.label_selector = "", .field_selector = "spec.nodeName=" + options_.node_name});
    pods_->addHandler([this, alive = alive_.watch()](const kube::InformerEvent& event) {
      loop_.post([this, alive, type = event.type, object = event.object] {
        if (alive.lock()) onPod(type, object);
      });
    });
    pool_->run(
        alive_,
        [this] {
          return services_->waitSynced(std::chrono::hours(24)) &&
                 pods_->waitSynced(std::chrono::hours(24));
        },
        // Behind the events of the first list, which were posted before.
        [this](bool) {
          loop_.post([this, alive = alive_.watch()] {
            if (alive.lock()) sweep();
          });
        });
    kNodeLog.info("node {} runs pods in {}", options_.node_name, context_->pods_dir);
    return {};
  }

  void stopPods() override {
    for (const std::string& uid : folders()) {
      if (auto identity = loadSandbox(context_->pods_dir + "/" + uid)) {
        runtime::Sandbox::kill(*identity);
        while (runtime::Sandbox::alive(*identity))
          std::this_thread::sleep_for(std::chrono::milliseconds(2));
      }
      if (options_.network != nullptr) options_.network->detach(uid);
    }
  }

 private:
  /// Pods must not read the cluster's keys. By their real names, as they appear in a pod.
  std::vector<std::string> hiddenFolders() const {
    std::vector<std::string> out = options_.hidden_dirs;
    out.push_back(options_.data_dir);
    for (std::string& folder : out) {
      std::error_code error;
      const fs::path real = fs::canonical(folder, error);
      if (!error) folder = real.native();
    }
    return out;
  }

  base::ConfigResult<void> serve() {
    const std::string path = options_.run_dir + "/node.sock";
    ::unlink(path.c_str());
    auto listener = net::listenSocket(net::Address::unixPath(path));
    if (!listener) return base::failConfig(path, listener.error().message());
    backend_ = std::make_unique<PodBackend>(
        loop_, *pool_, [this](const streaming::PodRef& pod) { return find(pod); });
    streaming_ = streaming::Server::make(loop_, *backend_);
    server_ = http::Server::make(
        loop_, {}, [this](http::Request request, std::unique_ptr<http::Responder> responder) {
          if (streaming_->handle(request, responder)) return;
          answer(request, std::move(responder));
        });
    server_->listen(std::move(*listener));
    return {};
  }

  PodWorker* find(const streaming::PodRef& pod) {
    for (auto& [uid, worker] : workers_) {
      const Json& object = worker->pod();
      if (json::stringAt(object, "metadata.namespace") == pod.ns &&
          json::stringAt(object, "metadata.name") == pod.name &&
          (pod.uid.empty() || pod.uid == uid))
        return worker.get();
    }
    return nullptr;
  }

  /// /containerLogs/{ns}/{pod}/{container}
  void answer(const http::Request& request, std::unique_ptr<http::Responder> responder) {
    if (request.path == "/healthz") return responder->respond(200, {}, "ok");
    std::vector<std::string> parts;
    for (std::string_view part : base::split(std::string_view(request.path).substr(1), '/'))
      parts.push_back(base::percentDecode(part).value_or(""));
    if (parts.size() != 4 || parts[0] != "containerLogs")
      return responder->respond(404, {}, "404 page not found\n");
    const streaming::PodRef ref{parts[1], parts[2], ""};
    PodWorker* worker = find(ref);
    if (worker == nullptr) {
      return responder->respond(404, {}, fmt::format("pod \"{}\" not found", parts[2]));
    }
    auto info = worker->container(parts[3]);
    if (!info) {
      return responder->respond(
          404, {}, fmt::format("container {} is not valid for pod {}", parts[3], parts[2]));
    }
    const bool previous = request.parameter("previous") == "true";
    const std::string& file = previous ? info->previous_log : info->log_file;
    if (previous && file.empty()) {
      return responder->respond(
          400, {},
          fmt::format("previous terminated container \"{}\" in pod \"{}\" not found", parts[3],
                      parts[2]));
    }
    if (file.empty()) {
      return responder->respond(
          400, {},
          fmt::format("container \"{}\" in pod \"{}\" is waiting to start: {}", parts[3], parts[2],
                      info->waiting_reason));
    }
    serveLog(
        loop_, std::move(responder), file, logOptions(request, nowMs()),
        [this, ref, container = parts[3], run = info->run_id, previous, alive = alive_.watch()] {
          if (previous || !alive.lock()) return false;
          PodWorker* still = find(ref);
          auto now = still == nullptr ? std::nullopt : still->container(container);
          return now && now->run_id == run && now->state == ContainerView::State::kRunning;
        });
  }

  void onPod(kube::InformerEvent::Type type, const kube::ObjectPtr& pod) {
    const std::string uid = json::stringAt(*pod, "metadata.uid");
    auto it = workers_.find(uid);
    if (type == kube::InformerEvent::Type::kDeleted) {
      if (it != workers_.end()) it->second->removed();
      return;
    }
    if (it != workers_.end()) return it->second->update(pod);
    start(uid, pod);
  }

  PodWorker& start(const std::string& uid, kube::ObjectPtr pod) {
    auto worker = std::make_unique<PodWorker>(*context_, std::move(pod), [this, uid] {
      loop_.post([this, uid, alive = alive_.watch()] {
        if (alive.lock()) workers_.erase(uid);
      });
    });
    return *(workers_[uid] = std::move(worker));
  }

  std::vector<std::string> folders() const {
    std::vector<std::string> out;
    std::error_code error;
    for (const auto& entry : fs::directory_iterator(context_->pods_dir, error))
      out.push_back(entry.path().filename());
    return out;
  }

  /// After the first list: pods that were deleted while no agent ran are ended.
  void sweep() {
    // The informer knows its list before its handlers are told of it: ask it, not only the workers.
    std::map<std::string, kube::ObjectPtr> wanted;
    for (const kube::ObjectPtr& pod : pods_->list())
      wanted[json::stringAt(*pod, "metadata.uid")] = pod;
    for (const std::string& uid : folders()) {
      if (workers_.contains(uid)) continue;
      if (const auto it = wanted.find(uid); it != wanted.end()) {
        onPod(kube::InformerEvent::Type::kAdded, it->second);
        continue;
      }
      const std::string folder = context_->pods_dir + "/" + uid;
      auto pod = loadPod(folder);
      if (pod && json::stringAt(*pod, "metadata.uid") == uid) {
        start(uid, std::make_shared<const Json>(std::move(*pod))).removed();
      } else {
        pool_->run(
            alive_,
            [folder, uid, network = options_.network] {
              if (auto identity = loadSandbox(folder)) runtime::Sandbox::kill(*identity);
              if (network != nullptr) network->detach(uid);
              std::error_code error;
              fs::remove_all(folder, error);
              return 0;
            },
            [](int) {});
      }
    }
  }

  event::Loop& loop_;
  NodeOptions options_;
  Images images_;
  std::unique_ptr<kube::Client> client_;
  std::unique_ptr<WorkPool> pool_;
  std::unique_ptr<EventRecorder> events_;
  std::unique_ptr<WorkerContext> context_;
  std::map<std::string, std::unique_ptr<PodWorker>> workers_;  // by uid
  std::unique_ptr<Registration> registration_;
  std::unique_ptr<kube::Informer> services_;
  std::unique_ptr<kube::Informer> pods_;
  std::unique_ptr<PodBackend> backend_;
  std::unique_ptr<streaming::Server> streaming_;
  std::unique_ptr<http::Server> server_;
  Alive alive_;
};

}  // namespace

base::ConfigResult<std::unique_ptr<Node>> Node::start(event::Loop& loop, NodeOptions options) {
  auto out = std::make_unique<NodeImpl>(loop, std::move(options));
  POSTERN_TRY_VOID(out->open());
  return out;
}

}  // namespace postern::node
