// Recipes: every named scheme is a valid recipe, text survives a round trip, the first matching rule decides, and bad
// fields are named.
#include "compress/recipe.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "compress/search.h"

namespace octet::compress {
namespace {

using ::testing::HasSubstr;

Product ProductNamed(const std::string& name, int64_t weights = 1000) {
  Product p;
  p.name = name;
  p.op = "Conv";
  p.weights_elements = weights;
  p.inputs = 64;
  return p;
}

TEST(Recipe, NamedSchemesSurviveTheirText) {
  for (const std::string& name : SchemeNames()) {
    const Recipe recipe = *MakeRecipe(name);
    EXPECT_EQ(recipe.name(), name);
    const absl::StatusOr<Recipe> again = ParseRecipe(RecipeText(recipe));
    ASSERT_TRUE(again.ok()) << again.status();
    EXPECT_EQ(again->SerializeAsString(), recipe.SerializeAsString());
    EXPECT_THAT(SchemeHelp(), HasSubstr(name));
  }
  EXPECT_THAT(std::string(MakeRecipe("int99").status().message()), HasSubstr("int99"));
}

TEST(Recipe, TheFirstMatchingRuleDecides) {
  const Recipe recipe = *ParseRecipe(R"(
    layers { grid: "int4" group: 32 }
    rules { node: "head.*.weight" scheme { grid: "ternary" } }
    rules { position: FIRST scheme { grid: "int8" } }
    rules { position: LAST max_weights: 500 scheme { activations: KEEP_FLOAT } }
    rules { node: "*" op: "Gemm" scheme { grid: "nf4" } })");
  EXPECT_EQ(SchemeOf(recipe, ProductNamed("body.1")).grid(), "int4");
  EXPECT_EQ(SchemeOf(recipe, ProductNamed("head.3.weight")).grid(), "ternary");
  EXPECT_EQ(SchemeOf(recipe, ProductNamed("head.3.weights")).grid(), "int4") << "the pattern ends there";
  Product first = ProductNamed("stem");
  first.first = true;
  EXPECT_EQ(SchemeOf(recipe, first).grid(), "int8");
  Product last = ProductNamed("logits", 501);
  last.last = true;
  EXPECT_EQ(SchemeOf(recipe, last).grid(), "int4") << "one weight too many";
  last.weights_elements = 500;
  EXPECT_EQ(SchemeOf(recipe, last).activations(), LayerScheme::KEEP_FLOAT);
  Product gemm = ProductNamed("fc");
  gemm.op = "Gemm";
  EXPECT_EQ(SchemeOf(recipe, gemm).grid(), "nf4");
  EXPECT_EQ(SchemeOf(recipe, gemm).activations(), LayerScheme::STATIC) << "never unspecified";
}

TEST(Recipe, RefusalsNameFieldAndRule) {
  const auto refusal = [](const char* text) { return std::string(ParseRecipe(text).status().message()); };
  EXPECT_THAT(refusal("layers { grid: 'int5' }"), ::testing::AllOf(HasSubstr("layers"), HasSubstr("int5"), HasSubstr("nf4")));
  EXPECT_THAT(refusal("layers {}\nrules { scheme { group: 12 } }"), ::testing::AllOf(HasSubstr("rule 1"), HasSubstr("12")));
  EXPECT_THAT(refusal("layers { grid: 'uint4' group: 32 }"), HasSubstr("DYNAMIC"));
  EXPECT_THAT(refusal("layers { grid: 'vq2' group: 32 }"), HasSubstr("per channel"));
  EXPECT_THAT(refusal("layers { grid: 'int4' distribution { samples: 2 local {} } }"), HasSubstr("ternary or binary"));
  EXPECT_THAT(refusal("layers { grid: 'ternary' distribution { samples: 2 local {} } }"), HasSubstr("sequential"));
  EXPECT_THAT(refusal("layers { grid: 'ternary' distribution { samples: 2 local { steps: -1 } } }"), HasSubstr("-1 steps"));
  EXPECT_THAT(refusal("layers { target_damping: -0.5 }"), HasSubstr("target_damping -0.5"));
  EXPECT_THAT(refusal("layers { multiples: true }"), HasSubstr("multiples without a group"));
  EXPECT_THAT(refusal("layers { grid 'int8' }\n"), HasSubstr("line 1"));
  EXPECT_THAT(refusal("ranges { method: 'kl' }"), HasSubstr("kl"));
  EXPECT_THAT(refusal("calibration { held_back: 1.5 }"), HasSubstr("1.5"));
  EXPECT_THAT(refusal("name: 'Int8'"), HasSubstr("Int8"));
}

TEST(Target, ReadsTermsWithUnits) {
  const Target t = *ParseTarget("bytes<=2.5MB, drop<=0.5,latency<=300us,sqnr>=25");
  EXPECT_DOUBLE_EQ(t.max_bytes, 2.5e6);
  EXPECT_DOUBLE_EQ(t.max_drop, 0.5);
  EXPECT_DOUBLE_EQ(t.max_seconds, 3e-4);
  EXPECT_DOUBLE_EQ(t.min_sqnr_db, 25);
  EXPECT_TRUE(std::isinf(ParseTarget("")->max_bytes));
  for (const char* bad : {"bytes<2MB", "drop<=", "latency<=3", "size<=2MB", "bytes<=2XB", "sqnr>=x", "drop<=-1"}) {
    EXPECT_THAT(std::string(ParseTarget(bad).status().message()), HasSubstr(bad));
  }
}

TEST(Recipe, OnlyWhatIsMeasuredIsDoneWhereNeeded) {
  EXPECT_TRUE(ParseRecipe("corrections { reduced_range: WHERE_NEEDED wide_activations: WHERE_NEEDED sequential: WHERE_NEEDED }").ok());
  EXPECT_FALSE(ParseRecipe("corrections { wide_activations: ON }").ok());
  const absl::Status status = ParseRecipe("corrections { equalize: WHERE_NEEDED }").status();
  EXPECT_TRUE(absl::IsInvalidArgument(status));
  EXPECT_THAT(std::string(status.message()), ::testing::HasSubstr("sequential, reduced_range and wide_activations only"));
}

}  // namespace
}  // namespace octet::compress
