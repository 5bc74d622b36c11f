// Owning handles of OpenSSL objects. Only for .cc files of this folder.
#pragma once

#include <openssl/bio.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <memory>
#include <string>
#include <string_view>

namespace postern::tls {

template <auto Free>
struct Freer {
  template <class T>
  void operator()(T* object) const {
    Free(object);
  }
};
using BioPtr = std::unique_ptr<BIO, Freer<BIO_free_all>>;
using KeyPtr = std::unique_ptr<EVP_PKEY, Freer<EVP_PKEY_free>>;
using CertPtr = std::unique_ptr<X509, Freer<X509_free>>;
using CtxPtr = std::unique_ptr<SSL_CTX, Freer<SSL_CTX_free>>;
using SslPtr = std::unique_ptr<SSL, Freer<SSL_free>>;
using MdPtr = std::unique_ptr<EVP_MD_CTX, Freer<EVP_MD_CTX_free>>;

inline BioPtr readBio(std::string_view bytes) {
  return BioPtr(BIO_new_mem_buf(bytes.data(), static_cast<int>(bytes.size())));
}
inline std::string bioText(BIO* bio) {
  char* data = nullptr;
  long size = BIO_get_mem_data(bio, &data);
  return size > 0 ? std::string(data, static_cast<std::size_t>(size)) : std::string();
}
inline CertPtr readCertificate(std::string_view pem) {
  return CertPtr(PEM_read_bio_X509(readBio(pem).get(), nullptr, nullptr, nullptr));
}
inline KeyPtr readKey(std::string_view pem) {
  return KeyPtr(PEM_read_bio_PrivateKey(readBio(pem).get(), nullptr, nullptr, nullptr));
}

}  // namespace postern::tls
