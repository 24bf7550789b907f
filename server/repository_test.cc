// Which references are in memory while it is short: over files of the embedded model, with made-up figures of memory.
#include "server/repository.h"

#include <filesystem>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/fakes.h"
#include "server/variant_loader.h"

namespace octet::server {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

constexpr int64_t kVariantBytes = 10'000'000;  // that each loaded variant is said to hold

class ResidencyTest : public ::testing::Test {
 protected:
  void SetUp() override {
    root_ = fs::path(::testing::TempDir()) / absl::StrCat("octet_repository_test_", getpid());
    fs::remove_all(root_);
  }
  void TearDown() override {
    loader_.reset();  // its tasks use all others
    fs::remove_all(root_);
  }

  // A model with an original and a twin of the same content, the twin being primary; `parameters` of its config.
  void AddModel(const std::string& name, const std::string& parameters = "") {
    const fs::path original = fs::path(OCTET_SOURCE_DIR) / "models/fashion-mnist/model.onnx";
    fs::create_directories(root_ / name / "1");
    fs::copy_file(original, root_ / name / "1/model.onnx");
    fs::copy_file(original, root_ / name / "1/model.twin.onnx");
    std::ofstream(root_ / name / "config.pbtxt")
        << parameters << "parameters { key: 'octet.primary' value { string_value: 'twin' } }\n"
        << "parameters { key: 'octet.variants' value { string_value: 'f32,twin' } }\n";
  }
  void Start(int64_t memory_limit_bytes) {
    RepositoryOptions options;
    options.root = root_.string();
    options.memory_limit_bytes = memory_limit_bytes;
    options.resident_bytes = [this] { return resident_bytes_(); };
    repository_ = std::make_unique<Repository>(options, &scheduler_, &metrics_, &clock_, loader_.get());
  }
  absl::Status Load(const std::string& model) {
    absl::Notification loaded;
    absl::Status result;
    repository_->Load(model, [&](const absl::Status& status) {
      result = status;
      loaded.Notify();
    });
    loaded.WaitForNotification();
    return result;
  }
  void AwaitLoader() {
    absl::Notification idle;
    ASSERT_TRUE(loader_->Schedule([&] { idle.Notify(); }));
    idle.WaitForNotification();
  }
  // One look of the housekeeper and what it asks for.
  void Look(int64_t resident_bytes, int64_t limit_bytes) {
    repository_->RelievePressure(resident_bytes, limit_bytes);
    AwaitLoader();
  }
  bool HasReference(const std::string& model) { return repository_->Find(model, "", "f32").ok(); }

  fs::path root_;
  std::function<int64_t()> resident_bytes_ = [this] {
    return kVariantBytes * static_cast<int64_t>(repository_->Served().size());
  };
  FakeClock clock_;
  Metrics metrics_{{"test", "isa", "onednn", 1, 1}};
  Loader specialiser_{1, 10};
  Scheduler scheduler_{{1, 1, MakeEngineContext}, &clock_, &specialiser_};
  std::unique_ptr<Repository> repository_;
  std::unique_ptr<Loader> loader_ = std::make_unique<Loader>(1, 100);
};

TEST_F(ResidencyTest, AnEvictedReferenceComesBackWhenThereIsRoom) {
  AddModel("a");
  Start(0);
  ASSERT_TRUE(Load("a").ok());
  constexpr int64_t kLimit = 200'000'000;
  Look(kLimit - 1, kLimit);
  EXPECT_TRUE(HasReference("a"));
  Look(kLimit + 1, kLimit);
  EXPECT_FALSE(HasReference("a"));
  EXPECT_THAT(std::string(repository_->Find("a", "", "f32").status().message()), HasSubstr("memory pressure"));
  EXPECT_EQ(repository_->reference_evictions(), 1);
  Look(0, kLimit);
  EXPECT_FALSE(HasReference("a")) << "it rests first";
  clock_.Advance(absl::Seconds(31));
  Look(kLimit - kLimit / 16, kLimit);
  EXPECT_FALSE(HasReference("a")) << "the headroom has to stay free";
  Look(kLimit / 2, kLimit);
  EXPECT_TRUE(HasReference("a"));
  Look(kLimit / 2, kLimit);
  EXPECT_TRUE(HasReference("a"));
}

TEST_F(ResidencyTest, AModelsOwnLimitKeepsItsReferenceOut) {
  AddModel("a", "parameters { key: 'octet.memory.limit_bytes' value { string_value: '1000000' } }\n");
  Start(0);
  ASSERT_TRUE(Load("a").ok());
  Look(0, 0);
  EXPECT_FALSE(HasReference("a"));
  clock_.Advance(absl::Hours(2));
  Look(0, 0);
  EXPECT_FALSE(HasReference("a")) << "with it the model would hold too much again";
  EXPECT_EQ(repository_->reference_evictions(), 1);
}

TEST_F(ResidencyTest, ALoadMakesRoomBeforeItIsRefused) {
  for (const char* name : {"a", "b", "c"}) AddModel(name);
  // Headroom 3 MB, a load's peak 6 MB: it needs three variants or fewer beside it.
  Start(45'000'000);
  ASSERT_TRUE(Load("a").ok());
  ASSERT_TRUE(Load("b").ok());
  EXPECT_EQ(repository_->reference_evictions(), 0);
  clock_.Advance(absl::Seconds(1));
  // The reference of "a" was asked for last: the one of "b" goes.
  repository_->Find("a", "", "f32").value()->recorder->OnBatch({1, 1, {}});
  clock_.Advance(absl::Seconds(1));
  EXPECT_TRUE(Load("c").ok());
  EXPECT_EQ(repository_->reference_evictions(), 1);
  EXPECT_TRUE(HasReference("a"));
  EXPECT_FALSE(HasReference("b"));
  EXPECT_TRUE(repository_->Find("c", "", "").ok());
}

TEST_F(ResidencyTest, APrimaryTakesThePlaceOfItsOwnReference) {
  AddModel("a");
  Start(100'000'000);
  int look = 0;
  resident_bytes_ = [&] { return look++ == 1 ? 99'000'000 : 0; };  // full once the reference is loaded
  EXPECT_TRUE(Load("a").ok());
  EXPECT_TRUE(repository_->Find("a", "", "").ok());
  EXPECT_FALSE(HasReference("a"));
  clock_.Advance(absl::Seconds(31));
  Look(0, 100'000'000);
  EXPECT_TRUE(HasReference("a"));
}

TEST_F(ResidencyTest, AnUnloadWaitsForWhatHoldsItsVariants) {
  AddModel("a");
  Start(0);
  ASSERT_TRUE(Load("a").ok());
  std::shared_ptr<const ServedVariant> held = repository_->Find("a", "", "").value();
  const std::weak_ptr<engine::Program> program = held->program;
  absl::Notification unloaded;
  repository_->Unload("a", [&](const absl::Status&) {
    EXPECT_TRUE(program.expired()) << "told before its memory was back";
    unloaded.Notify();
  });
  while (repository_->Find("a", "", "").ok()) absl::SleepFor(absl::Milliseconds(1));
  absl::SleepFor(absl::Milliseconds(20));
  held.reset();
  unloaded.WaitForNotification();
}

TEST_F(ResidencyTest, WhatCannotBeMadeRoomForIsRefused) {
  AddModel("a");
  AddModel("b");
  Start(15'000'000);
  ASSERT_TRUE(Load("a").ok());
  const absl::Status status = Load("b");
  EXPECT_FALSE(status.ok());
  EXPECT_THAT(std::string(status.message()), HasSubstr("the limit is 15000000"));
  EXPECT_TRUE(repository_->Find("a", "", "").ok()) << "a primary is never evicted";
}

}  // namespace
}  // namespace octet::server
