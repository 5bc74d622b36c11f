#include "node/image_map.h"

#include <gtest/gtest.h>

namespace postern::node {
namespace {

TEST(ImageMap, KnowsTheImagesOfTheMeshAndTheDemo) {
  const ImageMap map("/opt/bin");
  ASSERT_NE(map.find("docker.io/istio/proxyv2:1.7.0"), nullptr);
  EXPECT_EQ(map.find("docker.io/istio/proxyv2:1.7.0")->command[0], "/opt/bin/postern-proxy");
  EXPECT_EQ(map.find("k8s.gcr.io/echoserver:1.10")->args[0], "echo");
  EXPECT_EQ(map.find("nginx:1.25"), nullptr);
  EXPECT_NE(map.unknownImageMessage("nginx:1.25").find("nginx:1.25"), std::string::npos);
}

TEST(ImageMap, SaysWhereAnEntryIsMissingOrWhatIsWrongThere) {
  ImageMap map("/opt/bin");
  EXPECT_NE(map.unknownImageMessage("a").find("up --image-map FILE"), std::string::npos);
  map.setSource("/etc/images.yaml", "");
  EXPECT_NE(map.unknownImageMessage("a").find("of /etc/images.yaml"), std::string::npos);
  map.setSource("/etc/images.yaml", "images[0].match: must be an image name pattern");
  EXPECT_NE(map.unknownImageMessage("a").find("images[0].match"), std::string::npos);
}

TEST(ImageMap, FileEntriesComeFirst) {
  ImageMap map("/opt/bin");
  ASSERT_TRUE(
      map.addYaml("images:\n- match: '*echoserver*'\n  command: ['${programs}/mine']\n"
                  "  env: {A: b}\n"));
  const ImageProgram* found = map.find("echoserver:1");
  ASSERT_NE(found, nullptr);
  EXPECT_EQ(found->command[0], "/opt/bin/mine");
  EXPECT_EQ(found->env.at("A"), "b");
}

TEST(ImageMap, ErrorsNameTheField) {
  ImageMap map("/opt/bin");
  EXPECT_EQ(map.addYaml("images:\n- match: x\n").error().path, "images[0].command");
  EXPECT_EQ(map.addYaml("images:\n- match: x\n  command: [1]\n").error().path, "images[0].command");
  EXPECT_EQ(map.addYaml("other: 1").error().path, "images");
}

TEST(ImageMap, StarsBacktrack) {
  EXPECT_TRUE(imageMatches("a*b*c", "aXbYbZc"));
  EXPECT_FALSE(imageMatches("a*b*c", "aXbYbZ"));
  EXPECT_TRUE(imageMatches("*", ""));
}

}  // namespace
}  // namespace postern::node
