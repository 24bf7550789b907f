// A new input shape at every request: the memory held for shapes stays bounded, and one that is too large is refused.
#include <gtest/gtest.h>
#include <malloc.h>

#include <cstdio>

#include "base/cpu.h"
#include "engine/program.h"
#include "engine/test_util.h"
#include "kernels/onednn.h"

namespace octet::engine {
namespace {

constexpr int64_t kMegabyte = 1 << 20;

// Two convolutions over any height and width.
std::shared_ptr<Program> Convolutions(const CompileOptions& options) {
  GraphMaker m;
  const auto x = m.Input("x", {1, 8, kUnknownDim, kUnknownDim});
  const auto pads = graph::Attribute(std::vector<int64_t>{1, 1, 1, 1});
  const auto a = m.Node("Conv", {x, m.Random("w0", {32, 8, 3, 3}, 1)}, "a", {{"pads", pads}});
  const auto b = m.Node("Relu", {a}, "b");
  const auto y = m.Node("Conv", {b, m.Random("w1", {8, 32, 3, 3}, 2)}, "y", {{"pads", pads}});
  m.g.outputs.push_back(y);
  auto program = Program::Compile(std::move(m.g), options);
  EXPECT_TRUE(program.ok()) << program.status();
  return *program;
}

absl::Status RunShape(Program& program, int64_t height, int64_t width) {
  OCTET_ASSIGN_OR_RETURN(auto specialisation, program.Specialise({{1, 8, height, width}}, 1));
  OCTET_ASSIGN_OR_RETURN(auto context, Context::Create(specialisation));
  const absl::Status status = context->Run();
  kernels::ClearPrimitiveCache();  // as the server does after each
  return status;
}

TEST(ShapeChurnTest, MemoryStaysBounded) {
  SetTeamSize(1);
  CompileOptions options;
  options.max_specialisations = 8;
  const auto program = Convolutions(options);
  int64_t height = 16;
  for (int i = 0; i < 40; ++i, ++height) ASSERT_TRUE(RunShape(*program, height, 24).ok());
  malloc_trim(0);
  const int64_t before = ResidentBytes();
  for (int i = 0; i < 200; ++i, ++height) ASSERT_TRUE(RunShape(*program, height, 24).ok());
  malloc_trim(0);
  const int64_t grown = ResidentBytes() - before;
  const CacheReport cache = program->Cache();
  EXPECT_EQ(cache.specialisations, 8);
  EXPECT_EQ(cache.made, 240);
  EXPECT_EQ(cache.evicted, 232);
  std::printf("200 further shapes: %.1f MB more resident\n", static_cast<double>(grown) / 1e6);
  EXPECT_LE(grown, 16 * kMegabyte) << "evicted specialisations are still held";
}

TEST(ShapeChurnTest, AShapeBeyondTheLimitIsRefusedAndTheOthersStillRun) {
  SetTeamSize(1);
  CompileOptions options;
  options.max_specialisation_bytes = 8 * kMegabyte;
  const auto program = Convolutions(options);
  ASSERT_TRUE(RunShape(*program, 64, 64).ok());
  const absl::Status status = RunShape(*program, 1024, 1024);
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
  EXPECT_NE(status.message().find("the limit is 8388608"), absl::string_view::npos) << status;
  EXPECT_EQ(RunShape(*program, int64_t{1} << 40, int64_t{1} << 40).ok(), false);
  EXPECT_TRUE(RunShape(*program, 64, 64).ok());
  EXPECT_TRUE(RunShape(*program, 65, 64).ok());
  EXPECT_LE(program->Cache().bytes, 8 * kMegabyte);
}

}  // namespace
}  // namespace octet::engine
