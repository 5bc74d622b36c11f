#include "apiserver/watch.h"

#include "base/strings.h"

namespace postern::apiserver {
namespace {

constexpr std::chrono::seconds kDefaultTimeout{45 * 60};
constexpr std::chrono::seconds kBookmarkInterval{30};

}  // namespace

class Watches::Watch {
 public:
  Watch(Watches& owner, std::shared_ptr<const Call> call,
        std::unique_ptr<http::Responder> responder, LabelSelector labels, FieldSelector fields,
        Rendering rendering)
      : owner_(owner),
        call_(std::move(call)),
        responder_(std::move(responder)),
        labels_(std::move(labels)),
        fields_(std::move(fields)),
        rendering_(std::move(rendering)),
        timeout_(owner.loop_, [this] { finish(); }),
        bookmark_(owner.loop_, [this] { bookmark(); }) {}

  bool dead() const { return dead_; }

  void begin() {
    responder_->onGone([this] { die(); });
    responder_->start(200, http::HeaderMap{{"content-type", "application/json"},
                                           {"cache-control", "no-cache, private"}});
    auto seconds = base::parseInteger<long long>(call_->parameter("timeoutSeconds"));
    timeout_.arm(seconds && *seconds > 0 ? std::chrono::seconds(*seconds) : kDefaultTimeout);
    std::string since = call_->parameter("resourceVersion");
    bool initial = call_->flag("sendInitialEvents");
    if (initial || since.empty() || since == "0") {
      for (const auto& object : owner_.store_.list(call_->served->kind.storage, call_->ns)) {
        if (selected(*object)) send("ADDED", *object);
      }
      if (initial && bookmarks()) sendBookmark(true);
    } else if (!replay(base::parseInteger<store::Revision>(since).value_or(0))) {
      return;
    }
    seen_ = owner_.store_.revision();
    if (bookmarks()) bookmark_.arm(kBookmarkInterval);
    subscription_ = owner_.store_.subscribe(call_->served->kind.storage,
                                            [this](const store::Change& c) { change(c); });
  }

 private:
  bool bookmarks() const { return call_->flag("allowWatchBookmarks"); }
  bool selected(const Json& object) const {
    return labels_.matches(object) && fields_.matches(object) &&
           (call_->name.empty() || json::stringAt(object, "metadata.name") == call_->name);
  }

  bool replay(store::Revision since) {
    std::vector<store::Change> changes;
    if (!owner_.store_.changes(call_->served->kind.storage, since, changes)) {
      Failure gone = expired("too old resource version: " + std::to_string(since) + " (" +
                             std::to_string(owner_.store_.compacted()) + ")");
      line({{"type", "ERROR"}, {"object", gone.toJson()}});
      finish();
      return false;
    }
    for (const store::Change& c : changes) change(c);
    return !dead_;
  }

  void change(const store::Change& c) {
    if (dead_ || (!call_->ns.empty() && c.ns != call_->ns)) return;
    seen_ = c.revision;
    bool now = c.type != store::Change::Type::kDeleted && selected(*c.object);
    bool before = c.previous && selected(*c.previous);
    if (now)
      send(before ? "MODIFIED" : "ADDED", *c.object);
    else if (before)
      send("DELETED", *c.object);
  }

  void send(const char* type, const Json& object) {
    rendering_.table.now = owner_.loop_.clock().wall();
    Json rendered = renderObject(*call_, rendering_, object);
    if (rendering_.form == Rendering::Form::kTable) {
      if (columns_sent_) rendered["columnDefinitions"] = nullptr;
      columns_sent_ = true;
    }
    line({{"type", type}, {"object", std::move(rendered)}});
  }

  void bookmark() {
    store::Revision now = owner_.store_.revision();
    if (now != marked_) sendBookmark(false);
    if (!dead_) bookmark_.arm(kBookmarkInterval);
  }

  void sendBookmark(bool initial_end) {
    marked_ = owner_.store_.revision();
    const schema::Kind& kind = call_->served->kind;
    bool metadata = rendering_.form == Rendering::Form::kMetadata;
    Json meta = {{"resourceVersion", std::to_string(marked_)}, {"creationTimestamp", nullptr}};
    if (initial_end) meta["annotations"] = {{"k8s.io/initial-events-end", "true"}};
    Json object = {{"kind", metadata ? "PartialObjectMetadata" : kind.kind},
                   {"apiVersion", metadata ? "meta.k8s.io/v1" : kind.apiVersion(call_->version)},
                   {"metadata", meta}};
    if (rendering_.form == Rendering::Form::kTable) {
      object = {{"kind", "Table"},
                {"apiVersion", "meta.k8s.io/" + rendering_.meta_version},
                {"metadata", {{"resourceVersion", std::to_string(marked_)}}},
                {"columnDefinitions", nullptr},
                {"rows", Json::array({{{"cells", nullptr}, {"object", object}}})}};
    }
    line({{"type", "BOOKMARK"}, {"object", std::move(object)}});
  }

  void line(const Json& event) {
    if (dead_) return;
    if (responder_->write(json::dump(event) + "\n") > kWatchUnsentBytesMax) finish();
  }

  void finish() {
    if (dead_) return;
    responder_->end();
    die();
  }
  void die() {
    dead_ = true;
    timeout_.cancel();
    bookmark_.cancel();
    owner_.sweep_.arm(std::chrono::milliseconds(0));  // destroyed in a later turn, not in here
  }

  Watches& owner_;
  std::shared_ptr<const Call> call_;
  std::unique_ptr<http::Responder> responder_;
  LabelSelector labels_;
  FieldSelector fields_;
  Rendering rendering_;
  event::Timer timeout_;
  event::Timer bookmark_;
  std::unique_ptr<store::Subscription> subscription_;
  store::Revision seen_ = 0;
  store::Revision marked_ = 0;
  bool columns_sent_ = false;
  bool dead_ = false;
};

Watches::Watches(event::Loop& loop, store::Store& store, ArrayStyle arrays)
    : loop_(loop), store_(store), arrays_(arrays), sweep_(loop, [this] { sweep(); }) {}
Watches::~Watches() = default;

void Watches::start(std::shared_ptr<const Call> call, std::unique_ptr<http::Responder> responder,
                    LabelSelector labels, FieldSelector fields, Rendering rendering) {
  open_.push_back(std::make_unique<Watch>(*this, std::move(call), std::move(responder),
                                          std::move(labels), std::move(fields),
                                          std::move(rendering)));
  open_.back()->begin();
}

void Watches::sweep() {
  open_.remove_if([](const std::unique_ptr<Watch>& w) { return w->dead(); });
}

}  // namespace postern::apiserver
