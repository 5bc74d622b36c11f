#include "proxy/secrets.h"

#include "api/message.h"
#include "base/log.h"
#include "base/strings.h"
#include "envoy/extensions/transport_sockets/tls/v3/secret.pb.h"
#include "envoy/service/discovery/v3/discovery.pb.h"
#include "json/json.h"
#include "proxy/config_tls.h"
#include "proxy/logs.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstdio>

namespace postern::proxy {

namespace {

namespace ssl = envoy::extensions::transport_sockets::tls::v3;

constexpr std::size_t kFileBytesMax = 4 << 20;

std::string fileKey(const SecretUse& use) { return use.file + "|" + use.name; }

base::ConfigResult<std::string> readWhole(const std::string& path) {
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "re"),
                                                       &std::fclose);
  if (file == nullptr) return base::failConfig(path, "cannot be read");
  std::string out;
  char piece[4096];
  while (const std::size_t size = std::fread(piece, 1, sizeof piece, file.get())) {
    out.append(piece, size);
    if (out.size() > kFileBytesMax) return base::failConfig(path, "is too large");
  }
  return out;
}

/// A file in the form of a discovery response: `resources` is a list of Secrets.
base::ConfigResult<std::shared_ptr<const ssl::Secret>> readSecretFile(const std::string& path,
                                                                      const std::string& name) {
  POSTERN_TRY(const std::string text, readWhole(path));
  auto document = json::parseYaml(text);
  if (!document) return base::failConfig(path, document.error().message());
  envoy::service::discovery::v3::DiscoveryResponse response;
  if (auto read = api::fromJson(*document, response); !read)
    return base::failConfig(path, read.error().message());
  for (const auto& any : response.resources()) {
    auto secret = std::make_shared<ssl::Secret>();
    if (!api::unpack(any, *secret)) return base::failConfig(path, "holds what is no Secret");
    if (secret->name() == name) return secret;
  }
  return base::failConfig(path, "holds no secret \"" + name + "\"");
}

bool isSensitive(const google::protobuf::FieldDescriptor& field) {
  static const std::set<std::string, std::less<>> kFields = {
      "envoy.extensions.transport_sockets.tls.v3.TlsCertificate.private_key",
      "envoy.extensions.transport_sockets.tls.v3.TlsCertificate.pkcs12",
      "envoy.extensions.transport_sockets.tls.v3.TlsCertificate.password",
      "envoy.extensions.transport_sockets.tls.v3.TlsCertificate.private_key_provider",
      "envoy.extensions.transport_sockets.tls.v3.TlsSessionTicketKeys.keys",
      "envoy.extensions.transport_sockets.tls.v3.GenericSecret.secret",
      "envoy.extensions.transport_sockets.tls.v3.GenericSecret.secrets"};
  return kFields.contains(field.full_name());
}

/// True when something was replaced.
bool redact(google::protobuf::Message& message, bool all);

bool redactAny(google::protobuf::Any& any) {
  const auto inner = api::unpack(any);
  if (!inner || !redact(**inner, false)) return false;
  api::pack(**inner, any);
  return true;
}

bool redactField(google::protobuf::Message& message, const google::protobuf::FieldDescriptor* field,
                 bool all) {
  const auto* reflection = message.GetReflection();
  const bool text = field->cpp_type() == google::protobuf::FieldDescriptor::CPPTYPE_STRING;
  const bool inner = field->cpp_type() == google::protobuf::FieldDescriptor::CPPTYPE_MESSAGE;
  if (!inner && !(text && all)) return false;
  if (!field->is_repeated()) {
    if (inner) return redact(*reflection->MutableMessage(&message, field), all);
    reflection->SetString(&message, field, "[redacted]");
    return true;
  }
  bool changed = false;
  for (int i = 0; i < reflection->FieldSize(message, field); ++i) {
    if (inner) {
      changed = redact(*reflection->MutableRepeatedMessage(&message, field, i), all) || changed;
    } else {
      reflection->SetRepeatedString(&message, field, i, "[redacted]");
      changed = true;
    }
  }
  return changed;
}

bool redact(google::protobuf::Message& message, bool all) {
  if (auto* any = google::protobuf::DynamicCastToGenerated<google::protobuf::Any>(&message)) {
    if (!all) return redactAny(*any);
    any->Clear();
    return true;
  }
  std::vector<const google::protobuf::FieldDescriptor*> set;
  message.GetReflection()->ListFields(message, &set);
  bool changed = false;
  for (const auto* field : set)
    changed = redactField(message, field, all || isSensitive(*field)) || changed;
  return changed;
}

}  // namespace

void redactSecrets(google::protobuf::Message& message) { (void)redact(message, false); }

SecretStore::SecretStore(event::Loop& loop, stats::Store& stats, base::Function<void()> changed)
    : loop_(loop),
      stats_(stats),
      changed_(std::move(changed)),
      tickets_(tls::TicketKeys::rotating(loop.clock())),
      watch_(loop, [this](const std::string& directory) { onMoved(directory); }) {}

void SecretStore::count(std::string_view name, std::string_view counter) {
  stats_.scope("sds." + stats::statName(name) + ".").counter(counter).add();
}

base::ConfigResult<void> SecretStore::addStatic(const ssl::Secret& message, const std::string& path,
                                                ResourceText text) {
  if (message.name().empty()) return base::failConfig(path + ".name", "must not be empty");
  POSTERN_TRY_VOID(checkSecret(message, path));
  Record& record = static_[message.name()];
  if (record.secret != nullptr)
    return base::failConfig(path + ".name", "\"" + message.name() + "\" is there twice");
  record.secret = std::make_shared<const ssl::Secret>(message);
  record.text = std::move(text);
  return {};
}

base::ConfigResult<void> SecretStore::take(const google::protobuf::Message& message,
                                           ResourceText text) {
  const auto& secret = *google::protobuf::DynamicCastToGenerated<const ssl::Secret>(&message);
  const auto it = ads_.find(secret.name());
  if (it == ads_.end()) return {};
  count(secret.name(), "update_attempt");
  if (auto good = checkSecret(secret, ""); !good) return good;
  count(secret.name(), "update_success");
  it->second.secret = std::make_shared<const ssl::Secret>(secret);
  it->second.text = std::move(text);
  it->second.error.reset();
  it->second.gone = false;
  return {};
}

void SecretStore::fail(const std::string& name, ResourceError error) {
  const auto it = ads_.find(name);
  if (it == ads_.end()) return;
  count(name, "update_rejected");
  redactSecrets(error.message);
  it->second.error = std::move(error);
}

void SecretStore::removed(const std::string& name) {
  const auto it = ads_.find(name);
  // One in use stays until another comes; one that never came is not waited for.
  if (it != ads_.end()) it->second.gone = true;
}

std::set<std::string> SecretStore::names() const {
  std::set<std::string> out;
  for (const auto& [name, record] : ads_) out.insert(name);
  return out;
}

void SecretStore::follow(const std::vector<std::shared_ptr<TlsSocket>>& sockets) {
  std::map<std::string, const SecretUse*> ads;
  std::map<std::string, const SecretUse*> files;
  socket_directories_.clear();
  for (const auto& socket : sockets) {
    socket_directories_.insert(socket->directories().begin(), socket->directories().end());
    for (const SecretUse& use : socket->secrets()) {
      if (use.from == SecretUse::From::kAds) ads.emplace(use.name, &use);
      if (use.from == SecretUse::From::kFile) files.emplace(fileKey(use), &use);
    }
  }
  std::erase_if(ads_, [&](const auto& each) { return !ads.contains(each.first); });
  std::erase_if(files_, [&](const auto& each) { return !files.contains(each.first); });
  for (const auto& [name, use] : ads) {
    const auto [it, added] = ads_.try_emplace(name);
    if (added && use->timeout.count() > 0) it->second.deadline = loop_.now() + use->timeout;
  }
  bool loaded = false;
  for (const auto& [key, use] : files) {
    const auto [it, added] = files_.try_emplace(key);
    if (!added) continue;
    it->second.file = use->file;
    it->second.directory = use->directory.empty() ? directoryOf(use->file) : use->directory;
    if (use->timeout.count() > 0) it->second.deadline = loop_.now() + use->timeout;
    loadFile(use->name, it->second);
    loaded = loaded || it->second.secret != nullptr;
  }
  std::set<std::string> directories = socket_directories_;
  for (const Records* records : {&static_, &ads_, &files_}) {
    for (const auto& [name, record] : *records) {
      if (!record.directory.empty()) directories.insert(record.directory);
      if (record.secret != nullptr) directories.merge(secretDirectories(*record.secret));
    }
  }
  watch_.watch(directories);
  if (loaded) changed_();
}

void SecretStore::loadFile(const std::string& name, Record& record) {
  count(name, "update_attempt");
  auto read = readSecretFile(record.file, name);
  base::ConfigResult<void> good;
  if (!read) {
    good = std::unexpected(read.error());
  } else {
    good = checkSecret(**read, record.file);
  }
  if (good) {
    count(name, "update_success");
    record.secret = std::move(*read);
    api::pack(*record.secret, record.text.message);
    record.text.updated = loop_.clock().wall();
    record.error.reset();
    return;
  }
  count(name, "update_rejected");
  kSecretLog.warning("secret {}: {}", name, good.error().message());
  record.error = ResourceError{{}, "", loop_.clock().wall(), good.error().message()};
}

void SecretStore::onMoved(const std::string& directory) {
  bool meant = socket_directories_.contains(directory);
  for (auto& [key, record] : files_) {
    if (record.directory != directory) continue;
    loadFile(key.substr(key.find('|') + 1), record);
    meant = true;
  }
  for (const Records* records : {&static_, &ads_, &files_}) {
    for (const auto& [name, record] : *records)
      meant = meant ||
              (record.secret != nullptr && secretDirectories(*record.secret).contains(directory));
  }
  if (meant) changed_();
}

const SecretStore::Record* SecretStore::record(const SecretUse& use) const {
  const Records& records = use.from == SecretUse::From::kBootstrap ? static_
                           : use.from == SecretUse::From::kAds     ? ads_
                                                                   : files_;
  const auto it = records.find(use.from == SecretUse::From::kFile ? fileKey(use) : use.name);
  return it == records.end() ? nullptr : &it->second;
}

const ssl::Secret* SecretStore::find(const SecretUse& use) const {
  const Record* found = record(use);
  return found == nullptr ? nullptr : found->secret.get();
}

bool SecretStore::waitsFor(const SecretUse& use) const {
  const Record* found = record(use);
  if (found == nullptr) return use.from != SecretUse::From::kBootstrap;
  if (use.from == SecretUse::From::kAds && found->error) return false;  // refused
  return found->secret == nullptr && !found->gone && found->deadline > loop_.now();
}

base::MonotonicTime SecretStore::nextDeadline() const {
  base::MonotonicTime out = base::MonotonicTime::max();
  for (const Records* records : {&ads_, &files_}) {
    for (const auto& [name, record] : *records) {
      if (record.secret == nullptr && record.deadline > loop_.now())
        out = std::min(out, record.deadline);
    }
  }
  return out;
}

}  // namespace postern::proxy
