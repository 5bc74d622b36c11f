#include "apiserver/pki.h"

#include "tls/x509.h"

#include <fstream>
#include <sstream>

#include <sys/stat.h>

namespace postern::apiserver {
namespace {

constexpr std::chrono::hours kLifetime(24 * 3650);

std::string readFile(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

bool writeFile(const std::string& path, const std::string& text) {
  // Created private before the first byte: some of these are keys.
  mode_t before = ::umask(0077);
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  ::umask(before);
  out << text;
  out.close();
  return out.good();
}

base::ConfigResult<tls::KeyPair> pair(const std::string& folder, const std::string& name,
                                      base::Function<base::Result<tls::KeyPair>()> make) {
  tls::KeyPair keys{readFile(folder + "/" + name + ".crt"), readFile(folder + "/" + name + ".key")};
  if (!keys.certificate_pem.empty() && !keys.private_key_pem.empty()) return keys;
  auto made = make();
  if (!made) return base::failConfig(folder + "/" + name + ".crt", made.error().message());
  if (!writeFile(folder + "/" + name + ".crt", made->certificate_pem) ||
      !writeFile(folder + "/" + name + ".key", made->private_key_pem)) {
    return base::failConfig(folder + "/" + name + ".crt", "cannot write");
  }
  return std::move(*made);
}

}  // namespace

base::ConfigResult<Pki> loadOrMakePki(const std::string& folder,
                                      const std::vector<std::string>& server_ips) {
  ::mkdir(folder.c_str(), 0700);
  POSTERN_TRY(auto ca, pair(folder, "ca", [] { return tls::makeRoot("kubernetes", kLifetime); }));
  POSTERN_TRY(auto server, pair(folder, "apiserver", [&] {
                tls::CertificateRequest r;
                r.common_name = "kube-apiserver";
                r.dns_names = {"localhost", "kubernetes", "kubernetes.default",
                               "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"};
                r.ip_addresses = server_ips;
                r.lifetime = kLifetime;
                return tls::issue(ca, r);
              }));
  POSTERN_TRY(auto admin, pair(folder, "admin", [&] {
                tls::CertificateRequest r;
                r.common_name = "kubernetes-admin";
                r.organizations = {"system:masters"};
                r.lifetime = kLifetime;
                return tls::issue(ca, r);
              }));
  std::string token_key = readFile(folder + "/sa.key");
  if (token_key.empty()) {
    auto made = tls::makePrivateKey();
    if (!made) return base::failConfig(folder + "/sa.key", made.error().message());
    token_key = *made;
    if (!writeFile(folder + "/sa.key", token_key)) {
      return base::failConfig(folder + "/sa.key", "cannot write");
    }
  }
  auto token_public = tls::publicKeyOf(token_key);
  if (!token_public) return base::failConfig(folder + "/sa.key", token_public.error().message());
  return Pki{ca.certificate_pem,      server.certificate_pem, server.private_key_pem,
             admin.certificate_pem,   admin.private_key_pem,  token_key,
             std::move(*token_public)};
}

}  // namespace postern::apiserver
