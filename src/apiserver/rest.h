// The REST core: reads, writes and watches of objects over the store, with defaults, validation,
// admission webhooks, finalizers and subresources. Everything on one loop; sockets stay outside
// (http::Request in, http::Responder out).
#pragma once

#include "apiserver/call.h"
#include "apiserver/defaults.h"
#include "apiserver/render.h"
#include "apiserver/watch.h"
#include "base/random.h"

#include <memory>
#include <string>
#include <vector>

namespace postern::apiserver {

/// One write on its way through admission.
struct Write {
  std::shared_ptr<const Call> call;
  std::string operation;  // "CREATE", "UPDATE", "DELETE"
  std::string name;
  store::ObjectPtr old;
  Json object;
  bool dry_run = false;
  int success = 200;
  int attempts = 0;
  std::vector<std::string> warnings;
  std::unique_ptr<http::Responder> responder;
  /// What the request makes of the current object (null when it does not exist).
  base::Function<ApiResult<Json>(Write& write, const Json* current)> compute;

  const schema::Kind& kind() const { return call->served->kind; }
  bool onStatus() const { return call->sub == "status"; }
};
using WritePtr = std::shared_ptr<Write>;
using AdmissionDone = base::Function<void(ApiResult<bool>)>;

/// Admission webhooks, called around validation. The callback may come at once or later.
class Admission {
 public:
  virtual ~Admission() = default;
  virtual void mutate(WritePtr write, AdmissionDone done) = 0;
  virtual void validate(WritePtr write, AdmissionDone done) = 0;
};

class Rest {
 public:
  struct Options {
    ServiceRanges ranges;
    ArrayStyle arrays = ArrayStyle::kBrackets;
  };
  Rest(event::Loop& loop, store::Store& store, Catalog& catalog, Admission& admission,
       Options options);

  /// A call on a stored resource (call->served is set). Subresources that are not about the stored
  /// object are the caller's.
  void handle(std::shared_ptr<Call> call, std::unique_ptr<http::Responder> responder);
  /// POST of pods/binding and pods/eviction (the latter under the disruption budgets).
  void bind(const Call& call, std::unique_ptr<http::Responder> responder);
  void evict(const Call& call, std::unique_ptr<http::Responder> responder);
  /// Stores an object at start-up unless it exists.
  void ensure(const std::string& storage, const std::string& ns, Json object);

 private:
  using ResponderPtr = std::unique_ptr<http::Responder>;
  void get(const Call& call, ResponderPtr responder);
  void list(std::shared_ptr<const Call> call, ResponderPtr responder);
  void create(std::shared_ptr<Call> call, ResponderPtr responder);
  void update(std::shared_ptr<Call> call, ResponderPtr responder);
  void patch(std::shared_ptr<Call> call, ResponderPtr responder);
  void remove(std::shared_ptr<Call> call, ResponderPtr responder);
  void removeCollection(const Call& call, ResponderPtr responder);
  ApiResult<Json> removeOne(const Call& call, const std::string& ns, const std::string& name,
                            const Json& delete_options, bool dry_run);

  void run(WritePtr write);
  ApiResult<bool> prepare(Write& write);
  ApiResult<bool> checkNamespace(const Write& write);
  ApiResult<bool> check(Write& write);
  void commit(WritePtr write);
  void finish(WritePtr write, const Json& object);
  void carryOver(Write& write);
  WallTime now() const { return loop_.clock().wall(); }

  event::Loop& loop_;
  store::Store& store_;
  Catalog& catalog_;
  Admission& admission_;
  Options options_;
  base::Random random_;
  Watches watches_;
};

/// Larger requests and larger objects are refused with 413, as Kubernetes does.
inline constexpr std::size_t kRequestBytesMax = 3 * 1024 * 1024;
inline constexpr std::size_t kObjectBytesMax = 1536 * 1024;

/// JSON, YAML or protobuf by content type; anything else 415.
ApiResult<Json> decodeBody(const Call& call);
void respondJson(http::Responder& responder, int status, const Json& body,
                 const std::vector<std::string>& warnings = {});
void respondFailure(http::Responder& responder, const Failure& failure);
/// The Scale of an object, by its spec.replicas or the paths a custom kind declares.
Json scaleOf(const Call& call, const Json& object);

}  // namespace postern::apiserver
