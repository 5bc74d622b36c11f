#include "kube/informer.h"

#include "base/log.h"
#include "base/random.h"
#include "kube/client_impl.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <condition_variable>
#include <mutex>

namespace postern::kube {
namespace {

using json::Json;

base::LogComponent kInformerLog("informer");

constexpr std::chrono::milliseconds kRelistFirst{100};
constexpr std::chrono::milliseconds kRelistMax{10'000};
constexpr std::chrono::milliseconds kAbsentRetry{1000};
constexpr std::size_t kEventBytesMax = 16 * 1024 * 1024;

/// Everything that lives on the loop thread; the front (InformerImpl) posts to it and destroys it
/// there.
class InformerImpl final : public Informer {
 public:
  InformerImpl(ClientImpl& client, ResourceType type, std::string ns, ListOptions options)
      : client_(client), type_(std::move(type)), ns_(std::move(ns)), options_(std::move(options)) {
    client_.loop().post([this] {
      timer_ = std::make_unique<event::Timer>(client_.loop(), [this] { list(); });
      list();
    });
  }

  ~InformerImpl() override {
    // The loop's half ends on the loop; wait for it, so that no callback finds us gone.
    std::mutex mutex;
    std::condition_variable done;
    bool over = false;
    client_.loop().post([&] {
      call_.reset();
      timer_.reset();
      std::lock_guard lock(mutex);
      over = true;
      done.notify_one();
    });
    std::unique_lock lock(mutex);
    done.wait(lock, [&] { return over; });
  }

  void addHandler(Handler handler) override {
    client_.loop().post([this, handler = std::move(handler)]() mutable {
      for (const auto& [key, object] : snapshot())
        handler({InformerEvent::Type::kAdded, object, nullptr});
      handlers_.push_back(std::move(handler));
    });
  }
  bool synced() const override {
    std::lock_guard lock(mutex_);
    return synced_;
  }
  bool waitSynced(std::chrono::milliseconds timeout) override {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, timeout, [this] { return synced_; });
  }
  ObjectPtr get(std::string_view ns, std::string_view name) const override {
    std::lock_guard lock(mutex_);
    std::string key = ns.empty() || !type_.namespaced ? std::string(name)
                                                      : std::string(ns) + "/" + std::string(name);
    auto it = objects_.find(key);
    return it == objects_.end() ? nullptr : it->second;
  }
  std::vector<ObjectPtr> list(std::string_view ns) const override {
    std::lock_guard lock(mutex_);
    std::vector<ObjectPtr> out;
    for (const auto& [key, object] : objects_) {
      if (ns.empty() || splitKey(key).ns == ns) out.push_back(object);
    }
    return out;
  }
  const ResourceType& type() const override { return type_; }

 private:
  std::map<std::string, ObjectPtr> snapshot() const {
    std::lock_guard lock(mutex_);
    return objects_;
  }

  std::string url(const std::string& more) const {
    std::string query = selectorQuery(options_);
    if (!more.empty()) query += (query.empty() ? "" : "&") + more;
    return type_.url(ns_) + (query.empty() ? "" : "?" + query);
  }

  void list() {
    http::ClientRequest request;
    request.path = url("resourceVersion=0");
    request.headers = client_.requestHeaders();
    call_ = client_.http().fetch(
        std::move(request),
        [this](base::Result<http::ClientResponse> response) { onList(std::move(response)); });
  }

  void onList(base::Result<http::ClientResponse> response) {
    if (response && response->status == 404) {
      replace(Json::array());  // the type does not exist (yet)
      timer_->arm(kAbsentRetry);
      return;
    }
    base::ConfigResult<Json> parsed = response && response->status == 200
                                          ? json::parse(response->body)
                                          : base::failConfig("", "no list");
    if (!parsed || !parsed->contains("items") || !(*parsed)["items"].is_array()) {
      std::string why =
          !response ? response.error().message() : "status " + std::to_string(response->status);
      kInformerLog.debug("list {}: {}", type_.plural, why);
      return again();
    }
    resource_version_ = json::stringAt(*parsed, "metadata.resourceVersion");
    replace((*parsed)["items"]);
    watch();
  }

  void again() {
    backoff_ = std::clamp(backoff_ * 2, kRelistFirst, kRelistMax);
    auto jitter = std::chrono::milliseconds(
        static_cast<long>(random_.below(static_cast<std::uint64_t>(backoff_.count()))));
    timer_->arm(backoff_ / 2 + jitter / 2);
  }

  /// A new list: tells the difference to what was known.
  void replace(const Json& items) {
    std::map<std::string, ObjectPtr> before = snapshot();
    std::map<std::string, ObjectPtr> now;
    for (const Json& item : items) {
      Json object = item;
      object["apiVersion"] = type_.apiVersion();  // items of a list carry neither
      object["kind"] = type_.kind;
      std::string key = keyOf(object);
      now[std::move(key)] = std::make_shared<const Json>(std::move(object));
    }
    {
      std::lock_guard lock(mutex_);
      objects_ = now;
      synced_ = true;
    }
    changed_.notify_all();
    for (const auto& [key, object] : before) {
      if (!now.contains(key)) tell({InformerEvent::Type::kDeleted, object, nullptr});
    }
    for (const auto& [key, object] : now) {
      auto it = before.find(key);
      if (it == before.end()) {
        tell({InformerEvent::Type::kAdded, object, nullptr});
      } else if (*it->second != *object) {
        tell({InformerEvent::Type::kModified, object, it->second});
      }
    }
  }

  void watch() {
    line_.clear();
    relist_ = false;
    http::ClientRequest request;
    request.path = url("watch=true&allowWatchBookmarks=true&resourceVersion=" + resource_version_);
    request.headers = client_.requestHeaders();
    http::Client::StreamCallbacks callbacks;
    callbacks.on_headers = [this](int status, const http::HeaderMap&) { relist_ = status != 200; };
    callbacks.on_data = [this](std::string_view bytes) { onBytes(bytes); };
    callbacks.on_end = [this](std::optional<base::Error>) { onEnd(); };
    call_ = client_.http().stream(std::move(request), std::move(callbacks));
  }

  void onBytes(std::string_view bytes) {
    if (relist_) return;
    backoff_ = {};
    while (!bytes.empty()) {
      std::size_t end = bytes.find('\n');
      line_.append(bytes.substr(0, end));
      if (line_.size() > kEventBytesMax) {
        relist_ = true;
        return;
      }
      if (end == std::string_view::npos) return;
      bytes.remove_prefix(end + 1);
      std::string line = std::exchange(line_, {});
      if (!line.empty()) onLine(line);
      if (relist_) return;
    }
  }

  void onLine(const std::string& line) {
    auto event = json::parse(line);
    if (!event || !event->contains("object") || json::stringAt(*event, "type") == "ERROR") {
      relist_ = true;  // 410 Gone, or a server that speaks something else
      return;
    }
    const std::string type = json::stringAt(*event, "type");
    ObjectPtr object = std::make_shared<const Json>(std::move((*event)["object"]));
    resource_version_ = json::stringAt(*object, "metadata.resourceVersion", resource_version_);
    if (type == "BOOKMARK") return;
    ObjectPtr previous;
    {
      std::lock_guard lock(mutex_);
      ObjectPtr& slot = objects_[keyOf(*object)];
      previous = slot;
      if (type == "DELETED") {
        objects_.erase(keyOf(*object));
      } else {
        slot = object;
      }
    }
    if (type == "DELETED") return tell({InformerEvent::Type::kDeleted, object, nullptr});
    tell({previous ? InformerEvent::Type::kModified : InformerEvent::Type::kAdded, object,
          previous});
  }

  void onEnd() {
    // A watch ends by itself every few minutes, or with the server: a list after a short pause
    // tells what was missed.
    again();
  }

  void tell(const InformerEvent& event) {
    for (const Handler& handler : handlers_) handler(event);
  }

  ClientImpl& client_;
  const ResourceType type_;
  const std::string ns_;
  const ListOptions options_;

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::string, ObjectPtr> objects_;  // guarded
  bool synced_ = false;                       // guarded

  // Loop thread only.
  std::vector<Handler> handlers_;
  std::unique_ptr<http::Client::Call> call_;
  std::unique_ptr<event::Timer> timer_;
  std::string resource_version_;
  std::string line_;
  bool relist_ = false;
  std::chrono::milliseconds backoff_{0};
  base::Random random_;
};

}  // namespace

std::unique_ptr<Informer> Informer::start(Client& client, ResourceType type, std::string ns,
                                          ListOptions options) {
  return std::make_unique<InformerImpl>(static_cast<ClientImpl&>(client), std::move(type),
                                        std::move(ns), std::move(options));
}

}  // namespace postern::kube
