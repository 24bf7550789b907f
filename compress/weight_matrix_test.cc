// Operands to matrices and back, against plain loops over the operand and a decoder of stored codes.
#include "compress/weight_matrix.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <string>
#include <vector>

#include "base/rng.h"
#include "compress/fit_grid.h"

namespace octet::compress {
namespace {

using Kind = Granularity::Kind;

struct Case {
  std::string what;
  graph::Graph graph;
  graph::Node node;
  int64_t rows, positions, inputs, conv_groups;
  // Index in the operand of matrix element [row, position, input].
  int64_t (*index)(const Case&, int64_t row, int64_t position, int64_t input);
};

int64_t RowsFirst(const Case& c, int64_t row, int64_t position, int64_t input) {
  return (row * c.inputs + input) * c.positions + position;
}
int64_t InputsFirst(const Case& c, int64_t row, int64_t, int64_t input) { return input * c.rows + row; }

Case MakeCase(const std::string& what, const std::string& op, const Shape& shape, int64_t rows, int64_t positions,
              int64_t inputs) {
  Case c{what, {}, {}, rows, positions, inputs, 1, InputsFirst};
  std::vector<float> values(static_cast<size_t>(NumElements(shape)));
  const CounterRng rng(values.size());
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(rng.Uniform(i) * 2 - 1);
  const graph::ValueId weights = c.graph.AddConstant("w", Tensor::FromF32(shape, values));
  c.node.op = op;
  c.node.inputs = {graph::kNoValue, weights};
  return c;
}

std::vector<Case> AllCases() {
  std::vector<Case> cases;
  cases.push_back(MakeCase("Conv", "Conv", {4, 12, 3, 2}, 4, 6, 12));
  cases.push_back(MakeCase("Conv of two groups", "Conv", {6, 4, 2, 2}, 6, 4, 4));
  cases.back().node.attributes["group"] = int64_t{2};
  cases.back().conv_groups = 2;
  cases.push_back(MakeCase("Conv in one dimension", "Conv", {3, 8, 5}, 3, 5, 8));
  cases.push_back(MakeCase("Gemm, transB", "Gemm", {5, 20}, 5, 1, 20));
  cases.back().node.attributes["transB"] = int64_t{1};
  for (Case& c : cases) c.index = RowsFirst;
  cases.push_back(MakeCase("Gemm", "Gemm", {20, 5}, 5, 1, 20));
  cases.push_back(MakeCase("MatMul", "MatMul", {12, 7}, 7, 1, 12));
  return cases;
}

TEST(MatrixOfTest, OrdersColumnsByPositionThenInput) {
  for (const Case& c : AllCases()) {
    const WeightMatrix m = MatrixOf(c.graph, c.node);
    ASSERT_EQ(m.rows, c.rows) << c.what;
    ASSERT_EQ(m.positions, c.positions) << c.what;
    ASSERT_EQ(m.inputs, c.inputs) << c.what;
    EXPECT_EQ(m.conv_groups, c.conv_groups) << c.what;
    const std::vector<float> operand = c.graph.value(c.node.inputs[1]).data->ToF32();
    ASSERT_EQ(m.values.size(), operand.size());
    for (int64_t r = 0; r < c.rows; ++r) {
      for (int64_t p = 0; p < c.positions; ++p) {
        for (int64_t i = 0; i < c.inputs; ++i) {
          ASSERT_EQ(m.values[static_cast<size_t>(r * m.columns() + p * c.inputs + i)],
                    operand[static_cast<size_t>(c.index(c, r, p, i))])
              << c.what;
        }
      }
    }
  }
}

// Bits [i * bits, (i + 1) * bits) of the data, low bits first.
int StoredCode(const Tensor& data, size_t i) {
  const auto bits = static_cast<size_t>(BitsOf(data.dtype()));
  const int byte = static_cast<int>(data.data()[i * bits / 8]);
  const int code = byte >> (i * bits % 8) & ((1 << bits) - 1);
  const bool is_signed = data.dtype() == DType::kS8 || data.dtype() == DType::kS4;
  return is_signed && code >> (bits - 1) != 0 ? code - (1 << bits) : code;
}

// The scale's index of element `flat` of the operand, as base/quantization.h defines it.
size_t StoredScaleIndex(const QuantParams& quant, const Shape& shape, int64_t flat) {
  if (quant.axis < 0) return 0;
  std::vector<int64_t> at(shape.size());
  for (size_t d = shape.size(); d-- > 0; flat /= shape[d]) at[d] = flat % shape[d];
  const auto axis = static_cast<size_t>(quant.axis);
  if (quant.block == 0) return static_cast<size_t>(at[axis]);
  int64_t index = 0;
  for (size_t d = 0; d < shape.size(); ++d) {
    const bool blocked = d == axis;
    index = index * (blocked ? (shape[d] + quant.block - 1) / quant.block : shape[d]) +
            (blocked ? at[d] / quant.block : at[d]);
  }
  return static_cast<size_t>(index);
}

// The real number that the operand holds for matrix element [row, position, input].
double StoredReal(const Case& c, const graph::Value& value, int64_t row, int64_t position, int64_t input) {
  const QuantParams& quant = *value.quant;
  const int64_t flat = c.index(c, row, position, input);
  const size_t s = StoredScaleIndex(quant, *value.shape, flat);
  if (quant.vector == 4) {
    const int64_t vector = (row * c.positions + position) * (c.inputs / 4) + input / 4;
    const auto code = static_cast<size_t>(value.data->data()[vector]);
    return static_cast<double>(quant.scale[s]) * quant.levels[4 * code + static_cast<size_t>(input % 4)];
  }
  const int code = StoredCode(*value.data, static_cast<size_t>(flat));
  if (!quant.levels.empty()) return static_cast<double>(quant.scale[s]) * quant.levels[static_cast<size_t>(code)];
  return static_cast<double>(quant.scale[s]) * (code - quant.zero_point_at(s));
}

DType ExpectedType(const std::string& grid) {
  if (grid == "int8" || grid == "int7" || grid == "int6") return DType::kS8;
  if (grid == "int4" || grid == "int3") return DType::kS4;
  if (grid == "int2" || grid == "kmeans2" || grid == "vq2" || grid == "ternary" || grid == "binary2") return DType::kU2;
  return grid == "binary" ? DType::kU1 : DType::kU4;
}

TEST(ValueOfTest, HoldsTheMatrixForEveryOperandGridAndGranularity) {
  for (const Case& c : AllCases()) {
    const WeightMatrix m = MatrixOf(c.graph, c.node);
    for (const std::string& name : GridNames()) {
      for (const Granularity& granularity : {Granularity{Kind::kTensor, 0}, {Kind::kChannel, 0}, {Kind::kGroup, 8}}) {
        const Grid grid = *MakeGrid(name);
        if (grid.kind == GridKind::kAffine && granularity.kind == Kind::kTensor) continue;
        const auto fitted = FitGrid(m, grid, granularity, {});
        ASSERT_TRUE(fitted.ok()) << fitted.status();
        const graph::Value value = ValueOf(*fitted, c.graph, c.node);
        EXPECT_EQ(value.dtype, ExpectedType(name)) << name;
        EXPECT_EQ(value.data->dtype(), value.dtype);
        EXPECT_EQ(value.data->shape(), c.graph.value(c.node.inputs[1]).data->shape());
        for (int64_t r = 0; r < c.rows; ++r) {
          for (int64_t p = 0; p < c.positions; ++p) {
            for (int64_t i = 0; i < c.inputs; ++i) {
              ASSERT_EQ(StoredReal(c, value, r, p, i), fitted->Real(r, p * c.inputs + i))
                  << c.what << " " << name << " [" << r << ", " << p << ", " << i << "]";
            }
          }
        }
      }
    }
  }
}

TEST(QuantizedMatrixTest, GroupsEndWithTheirKernelPosition) {
  QuantizedMatrix m;
  m.granularity = {Kind::kGroup, 8};
  m.rows = 2;
  m.positions = 3;
  m.inputs = 12;  // groups of 8 and 4
  EXPECT_EQ(m.ScaleIndex(0, 7), 0u);
  EXPECT_EQ(m.ScaleIndex(0, 8), 1u);
  EXPECT_EQ(m.ScaleIndex(0, 11), 1u);
  EXPECT_EQ(m.ScaleIndex(0, 12), 2u);
  EXPECT_EQ(m.ScaleIndex(1, 0), 6u);
  EXPECT_EQ(m.ScaleIndex(1, 35), 11u);
}

TEST(QuantizedMatrixTest, RealsAreTheElements) {
  const Case c = AllCases().front();
  const auto m = FitGrid(MatrixOf(c.graph, c.node), *MakeGrid("uint4"), {Kind::kGroup, 8}, {});
  ASSERT_TRUE(m.ok());
  const std::vector<float> reals = m->Reals();
  for (int64_t r = 0; r < m->rows; ++r) {
    for (int64_t col = 0; col < m->columns(); ++col) {
      EXPECT_EQ(reals[static_cast<size_t>(r * m->columns() + col)], static_cast<float>(m->Real(r, col)));
    }
  }
}

}  // namespace
}  // namespace octet::compress
