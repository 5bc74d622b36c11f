#include "controllers/manager.h"

#include "controllers/context.h"

namespace postern::controllers {
namespace {

class ManagerImpl final : public Manager {
 public:
  ManagerImpl(kube::Client& client, Options options) : context_(client, std::move(options)) {
    // Read by handlers of the others, so made first.
    for (const auto* type : {&kube::types::kPod, &kube::types::kService, &kube::types::kNamespace,
                             &kube::types::kNode}) {
      context_.informer(*type);
    }
    startNamespaces(context_, controllers_);
    startDeployments(context_, controllers_);
    startWorkloads(context_, controllers_);
    startPods(context_, controllers_);
    startServices(context_, controllers_);
    startEndpoints(context_, controllers_);
    startAutoscalers(context_, controllers_);
    startDisruptionBudgets(context_, controllers_);
    startGarbageCollector(context_, controllers_);
  }
  ~ManagerImpl() override { controllers_.clear(); }

 private:
  Context context_;
  std::vector<ControllerPtr> controllers_;
};

}  // namespace

std::unique_ptr<Manager> Manager::start(kube::Client& client, Options options) {
  return std::make_unique<ManagerImpl>(client, std::move(options));
}

}  // namespace postern::controllers
