#include "cluster/data_folder.h"
#include "cluster/files.h"
#include "cluster/kubeconfig.h"
#include "cluster/node_namespace.h"
#include "cluster/process.h"
#include "cluster/supervisor.h"
#include "json/json.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <string>

#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

namespace postern::cluster {
namespace {

namespace fs = std::filesystem;

class TemporaryFolder {
 public:
  TemporaryFolder() {
    char name[] = "/tmp/postern-cluster-XXXXXX";
    path_ = ::mkdtemp(name);
  }
  ~TemporaryFolder() { fs::remove_all(path_); }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

constexpr const char* kAdmin = R"(
clusters: [{name: postern, cluster: {server: "https://127.0.0.1:6443", certificate-authority-data: Q0E=}}]
users: [{name: admin, user: {client-certificate-data: Q0VSVA==, client-key-data: S0VZ}}]
)";
constexpr const char* kServer = "https://127.0.0.1:6443";
constexpr const char* kOthers = R"(
apiVersion: v1
kind: Config
current-context: work
clusters: [{name: work, cluster: {server: "https://work"}}]
users: [{name: me, user: {token: secret}}]
contexts: [{name: work, context: {cluster: work, user: me}}]
preferences: {colors: true}
)";

TEST(Kubeconfig, AddsOurContextAndKeepsTheOthers) {
  std::string previous;
  auto text = addContext(kOthers, kAdmin, previous);
  ASSERT_TRUE(text) << text.error().message();
  EXPECT_EQ(previous, "work");
  auto config = json::parseYaml(*text);
  ASSERT_TRUE(config);
  EXPECT_EQ(json::stringAt(*config, "current-context"), "postern");
  EXPECT_EQ((*config)["contexts"].size(), 2U);
  EXPECT_EQ((*config)["users"][0]["user"]["token"], "secret");
  EXPECT_EQ((*config)["preferences"]["colors"], true);
}

TEST(Kubeconfig, AddingTwiceChangesNothing) {
  std::string previous;
  auto once = addContext(kOthers, kAdmin, previous);
  ASSERT_TRUE(once);
  std::string again_previous;
  auto twice = addContext(*once, kAdmin, again_previous);
  ASSERT_TRUE(twice);
  EXPECT_EQ(*once, *twice);
  EXPECT_EQ(again_previous, "");  // ours is current: it is not what to go back to
}

TEST(Kubeconfig, RemovingRestoresWhatWas) {
  std::string previous;
  auto with = addContext(kOthers, kAdmin, previous);
  ASSERT_TRUE(with);
  auto without = removeContext(*with, kServer, previous);
  ASSERT_TRUE(without);
  EXPECT_EQ(*json::parseYaml(*without), *json::parseYaml(kOthers));
}

TEST(Kubeconfig, RemovingLeavesAContextThatSomebodyElseTook) {
  std::string previous;
  auto with = addContext(kOthers, kAdmin, previous);
  ASSERT_TRUE(with);
  auto without = removeContext(*with, "https://127.0.0.1:7000", previous);
  ASSERT_TRUE(without);
  EXPECT_EQ(*without, *with);
}

TEST(Kubeconfig, RemovingKeepsAContextTheUserChose) {
  std::string previous;
  auto with = addContext(kOthers, kAdmin, previous);
  ASSERT_TRUE(with);
  auto config = json::parseYaml(*with);
  (*config)["current-context"] = "elsewhere";
  auto without = removeContext(json::dumpYaml(*config), kServer, previous);
  ASSERT_TRUE(without);
  EXPECT_EQ(json::stringAt(*json::parseYaml(*without), "current-context"), "elsewhere");
}

TEST(Kubeconfig, FileIsMadePrivateAndGoesAgain) {
  TemporaryFolder folder;
  const std::string path = folder / "sub/config";
  ASSERT_TRUE(checkKubeconfig(path));
  auto change = writeContext(path, kAdmin);
  ASSERT_TRUE(change) << change.error().message();
  struct stat made{};
  ASSERT_EQ(::stat(path.c_str(), &made), 0);
  EXPECT_EQ(made.st_mode & 0777, 0600U);
  EXPECT_FALSE(fs::exists(path + ".lock"));
  ASSERT_TRUE(restoreContext(*change, kServer));
  EXPECT_FALSE(fs::exists(path));
}

TEST(Kubeconfig, RefusesWhatIsNoKubeconfig) {
  TemporaryFolder folder;
  const std::string path = folder / "config";
  std::ofstream(path) << "clusters: {a: b}\n";
  auto checked = checkKubeconfig(path);
  ASSERT_FALSE(checked);
  EXPECT_NE(checked.error().message().find("clusters"), std::string::npos);
}

TEST(DataFolder, RefusesAnotherVersionAndSaysTheWayOut) {
  TemporaryFolder temporary;
  const auto folder = DataFolder::at(temporary / "data");
  ASSERT_TRUE(folder);
  ASSERT_TRUE(folder->prepare());
  ASSERT_TRUE(folder->prepare());
  ASSERT_TRUE(writeFile(folder->file("version"), "99\n"));
  auto refused = folder->prepare();
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message().find("data version 99"), std::string::npos);
  EXPECT_NE(refused.error().message().find("--purge"), std::string::npos);
}

TEST(DataFolder, RefusesAFolderOfSomethingElse) {
  TemporaryFolder temporary;
  std::ofstream(temporary / "thesis.tex") << "\\begin{document}";
  const auto folder = DataFolder::at(temporary.path());
  ASSERT_TRUE(folder);
  EXPECT_FALSE(folder->prepare());
}

TEST(DataFolder, RefusesAPathThatSocketsCannotTake) {
  EXPECT_FALSE(DataFolder::at("/tmp/" + std::string(90, 'x')));
}

TEST(DataFolder, RemembersOptions) {
  TemporaryFolder temporary;
  const auto folder = DataFolder::at(temporary / "data");
  ASSERT_TRUE(folder->prepare());
  ClusterOptions options;
  options.api_port = 7001;
  options.externals = {*External::parse("httpbin.org:80=127.0.0.1:8080"),
                       *External::parse("Example.com:443=demo:httpbin")};
  ASSERT_TRUE(options.save(*folder));
  auto loaded = ClusterOptions::load(*folder);
  ASSERT_TRUE(loaded) << loaded.error().message();
  EXPECT_EQ(loaded->api_port, 7001);
  ASSERT_EQ(loaded->externals.size(), 2U);
  EXPECT_EQ(loaded->externals[1].toString(), "example.com:443=demo:httpbin");
  EXPECT_TRUE(loaded->externals[1].isStandIn());
}

TEST(External, RefusesWhatIsNoMapping) {
  for (const char* text : {"", "httpbin.org", "httpbin.org=127.0.0.1:80", "a:0=127.0.0.1:80",
                           "a:70000=127.0.0.1:80", "a:80=localhost:80", "a:80=127.0.0.1",
                           "a b:80=127.0.0.1:80", ":80=127.0.0.1:80", "a:80=127.0.0.1:0"}) {
    EXPECT_FALSE(External::parse(text)) << text;
  }
}

TEST(NodeNamespace, TakesTheLargestRangeOfTheUser) {
  const char* text = "other:1:99999\nme:100000:10\n1001:200000:65536\n# me:5:5\nme:x:y\n";
  const IdRange range = subordinateIds(text, "me", 1001);
  EXPECT_EQ(range.first, 200000U);
  EXPECT_EQ(range.count, 65536U);
  EXPECT_EQ(subordinateIds(text, "nobody", 7).count, 0U);
}

TEST(Process, IsKnownByPidAndStartTime) {
  const pid_t child = ::fork();
  if (child == 0) {
    ::pause();
    ::_exit(0);
  }
  auto record = ProcessRecord::of("child", child);
  ASSERT_TRUE(record);
  EXPECT_TRUE(record->alive());
  ProcessRecord stranger = *record;
  stranger.start_ticks += 1;  // the pid was used again
  EXPECT_FALSE(stranger.alive());
  TemporaryFolder folder;
  ASSERT_TRUE(record->write(folder / "child.json"));
  auto read = ProcessRecord::read(folder / "child.json");
  ASSERT_TRUE(read);
  const base::Fd pidfd = read->open();
  ASSERT_TRUE(static_cast<bool>(pidfd));
  endProcess(pidfd, std::chrono::seconds(5));
  EXPECT_FALSE(record->alive());
}

TEST(Files, LockEndsWithItsDescriptor) {
  TemporaryFolder folder;
  const std::string path = folder / "lock";
  {
    auto lock = lockFile(path);
    ASSERT_TRUE(lock);
    EXPECT_TRUE(isLocked(path));
    EXPECT_FALSE(lockFile(path));
  }
  EXPECT_FALSE(isLocked(path));
}

TEST(Files, WriteFollowsALinkAndReadHasALimit) {
  TemporaryFolder folder;
  std::ofstream(folder / "real") << "old";
  fs::create_symlink(folder / "real", folder / "link");
  ASSERT_TRUE(writeFile(folder / "link", "new"));
  EXPECT_TRUE(fs::is_symlink(folder / "link"));
  EXPECT_EQ(*readFile(folder / "real"), "new");
  fs::resize_file(folder / "real", kFileBytesMax + 1);
  EXPECT_FALSE(readFile(folder / "real"));
}

TEST(Logs, AreCopiedAndTruncatedPastTheLimit) {
  TemporaryFolder folder;
  std::ofstream(folder / "api.log") << std::string(200, 'a');
  std::ofstream(folder / "node.log") << "short";
  std::ofstream(folder / "other.txt") << std::string(200, 'a');
  rotateLogs(folder.path(), 100);
  EXPECT_EQ(fs::file_size(folder / "api.log"), 0U);
  EXPECT_EQ(fs::file_size(folder / "api.log.1"), 200U);
  EXPECT_EQ(fs::file_size(folder / "node.log"), 5U);
  EXPECT_EQ(fs::file_size(folder / "other.txt"), 200U);
  std::ofstream(folder / "api.log", std::ios::app) << std::string(300, 'b');
  rotateLogs(folder.path(), 100);
  EXPECT_EQ(fs::file_size(folder / "api.log.1"), 300U);
  EXPECT_EQ(fs::file_size(folder / "api.log.2"), 200U);
}

}  // namespace
}  // namespace postern::cluster
