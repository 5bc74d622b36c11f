// The OpenSSL side of the contexts declared in tls/tls.h. Only for .cc files of this folder.
#pragma once

#include "tls/openssl_handles.h"
#include "tls/tls.h"

#include <string>
#include <utility>

namespace postern::tls {

class OpensslServerContext final : public ServerContext {
 public:
  CtxPtr ctx;
  std::string alpn;  // wire form, in order of preference
};

class OpensslClientContext final : public ClientContext {
 public:
  CtxPtr ctx;
  bool verify = true;
};

}  // namespace postern::tls
