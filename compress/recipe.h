// Recipes: named ones, text, validation, and which scheme a product gets.
#ifndef OCTET_COMPRESS_RECIPE_H_
#define OCTET_COMPRESS_RECIPE_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "compress/products.h"
#include "proto/compression_recipe.pb.h"

namespace octet::compress {

using compression::v1::LayerScheme;
using compression::v1::Recipe;

// The recipe of a scheme by name ("int8", "int4", ...). Errors: kInvalidArgument naming the schemes there are.
absl::StatusOr<Recipe> MakeRecipe(absl::string_view scheme);
std::vector<std::string> SchemeNames();
// One line about a scheme, for help and tables.
std::string SchemeHelp();

// Errors: kInvalidArgument with line and column of what is not a recipe.
absl::StatusOr<Recipe> ParseRecipe(absl::string_view text);
std::string RecipeText(const Recipe& recipe);  // one line, fields in order of their numbers

// Errors: kInvalidArgument naming the field, what was found and what is expected.
absl::Status ValidateRecipe(const Recipe& recipe);

// The scheme of the first rule that matches, else `layers`; activations and grid are never unspecified or empty.
LayerScheme SchemeOf(const Recipe& recipe, const Product& product);

// "int8", "int4 g32 error-feedback", "f32": for tables.
std::string Describe(const LayerScheme& scheme);

// Makes the weights of every scheme below 8 bits distributions for the mean of so many samples (LayerScheme.Distribution).
// Errors: kInvalidArgument when no scheme of the recipe is of single weights below 8 bits.
absl::Status AddDistribution(double samples, int bits, Recipe* recipe);

bool NeedsMoments(const LayerScheme& scheme);

// What sequential: WHERE_NEEDED chooses from, without repetition: all layers at once, so with 8-bit layers rounded to nearest,
// and in order; the names are for reports.
struct NamedOrder {
  std::string name;
  Recipe recipe;
};
std::vector<NamedOrder> OrdersOf(const Recipe& recipe);

}  // namespace octet::compress

#endif  // OCTET_COMPRESS_RECIPE_H_
