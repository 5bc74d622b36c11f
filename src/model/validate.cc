#include "model/validate.h"

#include "model/check.h"

namespace postern::model {

std::vector<base::ConfigError> validate(std::string_view kind, const json::Json& object) {
  Check check;
  const fields::Json& spec = fields::at(object, "spec");
  if (kind == "Gateway") checkGateway(check, spec);
  if (kind == "VirtualService") checkVirtualService(check, spec);
  if (kind == "ServiceEntry") checkServiceEntry(check, spec);
  if (kind == "DestinationRule") checkDestinationRule(check, spec);
  if (kind == "Sidecar") checkSidecar(check, spec);
  return check.take();
}

}  // namespace postern::model
