// Recurrent layers: hand-computed steps of the reference, every implementation against it over the whole semantics.
//
// Tolerance 2e-5: float sums in another order over up to 40 steps; states are bounded.
#include "kernels/rnn/rnn.h"

#include <cmath>

#include "gmock/gmock.h"
#include "kernels/testing.h"

namespace octet::kernels {
namespace {

using Cell = RnnParams::Cell;
using Direction = RnnParams::Direction;
using Kind = GateFunction::Kind;
using ::testing::DoubleNear;
using ::testing::Pointwise;

struct Sizes {
  int64_t time, batch, input, hidden;
};

RnnParams MakeParams(Cell cell, Direction direction, RnnParams::Layout layout, const Sizes& s) {
  RnnParams p;
  p.cell = cell;
  p.direction = direction;
  p.layout = layout;
  const bool first = layout == RnnParams::Layout::kBatchFirst;
  const int64_t d = p.directions(), gates = p.gates() * s.hidden;
  p.src = Spec(DType::kF32, first ? Shape{s.batch, s.time, s.input} : Shape{s.time, s.batch, s.input});
  p.weights.spec = Spec(DType::kF32, {d, gates, s.input});
  p.recurrence.spec = Spec(DType::kF32, {d, gates, s.hidden});
  const TensorSpec state = Spec(DType::kF32, first ? Shape{s.batch, d, s.hidden} : Shape{d, s.batch, s.hidden});
  p.y = Spec(DType::kF32, first ? Shape{s.batch, s.time, d, s.hidden} : Shape{s.time, d, s.batch, s.hidden});
  p.y_h = state;
  if (cell == Cell::kLstm) p.y_c = state;
  for (int64_t i = 0; i < d; ++i) {
    if (cell != Cell::kRnn) p.functions.push_back({Kind::kSigmoid});
    p.functions.push_back({Kind::kTanh});
    if (cell == Cell::kLstm) p.functions.push_back({Kind::kTanh});
  }
  return p;
}

// Bias, states, and peepholes of an LSTM.
void AddOptionals(RnnParams* p) {
  p->bias.spec = Spec(DType::kF32, {p->directions(), 2 * p->gates() * p->hidden()});
  p->initial_h = p->y_h;
  if (p->cell != Cell::kLstm) return;
  p->initial_c = p->y_h;
  p->peepholes.spec = Spec(DType::kF32, {p->directions(), 3 * p->hidden()});
}

// The operands in the order of Bind; weights small enough that gates do not saturate.
std::vector<Operand> MakeOperands(const RnnParams& p, const std::vector<double>& lens) {
  std::vector<Operand> out;
  uint64_t seed = 1;
  const auto add = [&](const std::optional<TensorSpec>& spec, double limit) {
    if (spec) out.push_back(MakeRandom(*spec, -limit, limit, seed));
    ++seed;
  };
  add(p.src, 2);
  const double limit = 2 / std::sqrt(static_cast<double>(p.hidden()));
  for (const RnnWeight* w : {&p.weights, &p.recurrence, &p.bias, &p.peepholes}) add(w->spec, limit);
  if (p.sequence_lens) out.push_back(MakeOperand(*p.sequence_lens, lens));
  add(p.initial_h, 1);
  add(p.initial_c, 1);
  return out;
}

// All results of one kernel, one after the other.
std::vector<double> Results(const Implementation<RnnParams>& entry, const RnnParams& p, const std::vector<Operand>& operands,
                            int threads = 2) {
  KernelEnv env;
  env.threads = threads;
  SetTeamSize(threads);
  auto kernel = entry.create(p, env);
  EXPECT_TRUE(kernel.ok()) << entry.name << ": " << kernel.status();
  if (!kernel.ok()) return {};
  std::vector<Operand> dst;
  for (const auto* spec : {&p.y, &p.y_h, &p.y_c}) {
    if (*spec) dst.push_back(MakeRandom(**spec, 77));  // whatever is not written must show
  }
  std::vector<const void*> src;
  for (const Operand& o : operands) src.push_back(o.data());
  std::vector<void*> to;
  for (Operand& o : dst) to.push_back(o.data());
  const absl::Status status = RunKernel(**kernel, src, to, threads);
  EXPECT_TRUE(status.ok()) << status;
  std::vector<double> all;
  for (const Operand& o : dst) {
    const std::vector<double> numbers = Numbers(o);
    all.insert(all.end(), numbers.begin(), numbers.end());
  }
  return all;
}

void ExpectAllMatch(const RnnParams& p, const std::vector<double>& lens = {}) {
  ASSERT_TRUE(CreateRnn(p, KernelEnv{}).ok()) << CreateRnn(p, KernelEnv{}).status();
  const std::vector<Operand> operands = MakeOperands(p, lens);
  const auto list = RnnImplementations();
  const std::vector<double> want = Results(list.back(), p, operands);
  for (const auto& entry : list.first(list.size() - 1)) {
    for (int threads : {1, 2, 4}) {
      SCOPED_TRACE(absl::StrCat(entry.name, " on ", threads));
      EXPECT_THAT(Results(entry, p, operands, threads), Pointwise(DoubleNear(2e-5), want));
    }
  }
}

double Sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

TEST(RnnReferenceTest, OneStepOfEachCellByHand) {
  const auto run = [](RnnParams p, const std::vector<std::vector<double>>& values) {
    std::vector<Operand> operands;
    const TensorSpec* const specs[] = {&p.src, &*p.weights.spec, &*p.recurrence.spec, &*p.bias.spec, &*p.initial_h};
    for (size_t i = 0; i < 5; ++i) operands.push_back(MakeOperand(*specs[i], values[i]));
    if (p.initial_c) operands.push_back(MakeOperand(*p.initial_c, values[5]));
    return Results(RnnImplementations().back(), p, operands, 1);
  };
  const Sizes one = {1, 1, 1, 1};
  RnnParams rnn = MakeParams(Cell::kRnn, Direction::kForward, RnnParams::Layout::kTimeFirst, one);
  AddOptionals(&rnn);
  const double h = std::tanh(0.5 * 2 + 0.25 * 0.5 + 0.125 + 0.0625);
  EXPECT_THAT(run(rnn, {{2}, {0.5}, {0.25}, {0.125, 0.0625}, {0.5}}), Pointwise(DoubleNear(1e-6), {h, h}));

  RnnParams lstm = MakeParams(Cell::kLstm, Direction::kForward, RnnParams::Layout::kTimeFirst, one);
  AddOptionals(&lstm);
  lstm.peepholes.spec.reset();
  const double i = Sigmoid(0.1 * 2 + 0.5 * 0.5), o = Sigmoid(0.2 * 2 + 0.6 * 0.5), f = Sigmoid(0.3 * 2 + 0.7 * 0.5);
  const double c = f * 0.25 + i * std::tanh(0.4 * 2 + 0.8 * 0.5 + 1);
  EXPECT_THAT(run(lstm, {{2}, {0.1, 0.2, 0.3, 0.4}, {0.5, 0.6, 0.7, 0.8}, {0, 0, 0, 1, 0, 0, 0, 0}, {0.5}, {0.25}}),
              Pointwise(DoubleNear(1e-6), {o * std::tanh(c), o * std::tanh(c), c}));

  RnnParams gru = MakeParams(Cell::kGru, Direction::kForward, RnnParams::Layout::kTimeFirst, one);
  AddOptionals(&gru);
  const std::vector<std::vector<double>> values = {{2}, {0.1, 0.2, 0.3}, {0.4, 0.5, 0.6}, {0, 0, 0.5, 0, 0, 0.25}, {0.5}};
  const double z = Sigmoid(0.1 * 2 + 0.4 * 0.5), r = Sigmoid(0.2 * 2 + 0.5 * 0.5);
  const double before = (1 - z) * std::tanh(0.3 * 2 + 0.6 * r * 0.5 + 0.75) + z * 0.5;
  EXPECT_THAT(run(gru, values), Pointwise(DoubleNear(1e-6), {before, before}));
  gru.reset = RnnParams::Reset::kAfterProduct;
  const double after = (1 - z) * std::tanh(0.3 * 2 + r * (0.6 * 0.5 + 0.25) + 0.5) + z * 0.5;
  EXPECT_THAT(run(gru, values), Pointwise(DoubleNear(1e-6), {after, after}));
}

TEST(RnnReferenceTest, ReverseStartsAtEachRowsOwnEnd) {
  // h := x + 10 h, so digits tell the order in which x was read.
  RnnParams p = MakeParams(Cell::kRnn, Direction::kReverse, RnnParams::Layout::kTimeFirst, {3, 2, 1, 1});
  p.functions = {{Kind::kAffine, 1, 0}};
  p.sequence_lens = Spec(DType::kS32, {2});
  const std::vector<Operand> operands =
      Operands(MakeOperand(p.src, {1, 4, 2, 5, 3, 6}), MakeOperand(*p.weights.spec, {1}),
               MakeOperand(*p.recurrence.spec, {10}), MakeOperand(*p.sequence_lens, {3, 2}));
  EXPECT_THAT(Results(RnnImplementations().back(), p, operands, 1), ::testing::ElementsAre(321, 54, 32, 5, 3, 0, 321, 54));
}

// Shapes by kind: one of everything, tails of panels and row tiles, enough work for splits of rows and of panels.
const std::vector<Sizes>& AllSizes() {
  static const auto* const sizes = new std::vector<Sizes>{{1, 1, 1, 1},   {1, 1, 5, 16},  {4, 1, 7, 17}, {3, 9, 4, 15},
                                                          {12, 3, 8, 33}, {3, 37, 6, 20}, {2, 60, 3, 5}, {150, 1, 3, 9},
                                                          {2, 1, 12, 160}, {2, 3, 16, 64}};
  return *sizes;
}

TEST(RnnTest, EveryImplementationEqualsTheReferenceInAllDirectionsAndLayouts) {
  for (Cell cell : {Cell::kLstm, Cell::kGru, Cell::kRnn}) {
    for (Direction direction : {Direction::kForward, Direction::kReverse, Direction::kBidirectional}) {
      for (auto layout : {RnnParams::Layout::kTimeFirst, RnnParams::Layout::kBatchFirst}) {
        for (const Sizes& s : AllSizes()) {
          SCOPED_TRACE(absl::StrCat("cell ", static_cast<int>(cell), " direction ", static_cast<int>(direction), " layout ",
                                    static_cast<int>(layout), " T ", s.time, " B ", s.batch, " I ", s.input, " H ",
                                    s.hidden));
          ExpectAllMatch(MakeParams(cell, direction, layout, s));
          RnnParams full = MakeParams(cell, direction, layout, s);
          AddOptionals(&full);
          ExpectAllMatch(full);
          full.reset = RnnParams::Reset::kAfterProduct;
          full.forget = RnnParams::Forget::kOneMinusInput;
          full.clip = 0.75f;
          ExpectAllMatch(full);
        }
      }
    }
  }
}

TEST(RnnTest, RowsOfDifferentLengths) {
  for (Cell cell : {Cell::kLstm, Cell::kGru, Cell::kRnn}) {
    for (auto layout : {RnnParams::Layout::kTimeFirst, RnnParams::Layout::kBatchFirst}) {
      for (int64_t batch : {1, 5, 50}) {
        RnnParams p = MakeParams(cell, Direction::kBidirectional, layout, {7, batch, 4, 18});
        AddOptionals(&p);
        p.sequence_lens = Spec(DType::kS32, {batch});
        std::vector<double> lens;
        for (int64_t b = 0; b < batch; ++b) lens.push_back(static_cast<double>((b * 5 + 3) % 8));
        ExpectAllMatch(p, lens);
      }
    }
  }
}

TEST(RnnTest, RefusesLengthsOutsideOfTheTime) {
  RnnParams p = MakeParams(Cell::kGru, Direction::kForward, RnnParams::Layout::kTimeFirst, {3, 2, 1, 1});
  p.sequence_lens = Spec(DType::kS32, {2});
  for (double bad : {-1.0, 4.0}) {
    const std::vector<Operand> operands = MakeOperands(p, {3, bad});
    for (const auto& entry : RnnImplementations()) {
      std::vector<const void*> src;
      for (const Operand& o : operands) src.push_back(o.data());
      Operand y = MakeOperand(*p.y), y_h = MakeOperand(*p.y_h);
      const absl::Status status = RunKernel(**entry.create(p, KernelEnv{}), src, {y.data(), y_h.data()});
      EXPECT_TRUE(absl::IsInvalidArgument(status)) << entry.name << status;
      EXPECT_THAT(std::string(status.message()), ::testing::HasSubstr("element 1"));
    }
  }
}

TEST(RnnTest, EveryGateFunction) {
  for (Kind kind : {Kind::kSigmoid, Kind::kTanh, Kind::kRelu, Kind::kAffine, Kind::kLeakyRelu, Kind::kThresholdedRelu,
                    Kind::kScaledTanh, Kind::kHardSigmoid, Kind::kElu, Kind::kSoftsign, Kind::kSoftplus}) {
    SCOPED_TRACE(static_cast<int>(kind));
    for (Cell cell : {Cell::kLstm, Cell::kGru, Cell::kRnn}) {
      RnnParams p = MakeParams(cell, Direction::kBidirectional, RnnParams::Layout::kTimeFirst, {3, 2, 4, 18});
      p.functions.back() = {kind, 0.4f, 0.3f};
      p.functions.front() = {kind, 0.2f, 0.5f};
      ExpectAllMatch(p);
    }
  }
}

// Far beyond where exp overflows, and around it.
TEST(RnnTest, GatesSaturate) {
  for (Cell cell : {Cell::kLstm, Cell::kGru, Cell::kRnn}) {
    RnnParams p = MakeParams(cell, Direction::kForward, RnnParams::Layout::kTimeFirst, {1, 16, 1, 4});
    for (GateFunction& f : p.functions) f = {Kind::kSigmoid};
    p.functions.back() = {Kind::kTanh};
    std::vector<double> xs;
    for (double x : {0.0, 9.0, 20.0, 80.0, 100.0, 110.0, 1000.0, 1e9}) xs.insert(xs.end(), {x, -x});
    const auto gates = static_cast<size_t>(p.gates());
    const std::vector<Operand> operands =
        Operands(MakeOperand(p.src, xs), MakeOperand(*p.weights.spec, std::vector<double>(gates * 4, 1.0)),
                 MakeOperand(*p.recurrence.spec, std::vector<double>(gates * 16, 0.0)));
    const auto list = RnnImplementations();
    const std::vector<double> want = Results(list.back(), p, operands);
    for (const auto& entry : list) EXPECT_THAT(Results(entry, p, operands), Pointwise(DoubleNear(1e-6), want)) << entry.name;
  }
}

// Constant weights are packed once for all batch sizes, and are not needed afterwards.
TEST(RnnTest, ConstantWeightsAreSharedByAllShapes) {
  WeightStore store;
  KernelEnv env;
  env.weights = &store;
  std::vector<Operand> kept;
  RnnParams p = MakeParams(Cell::kLstm, Direction::kBidirectional, RnnParams::Layout::kTimeFirst, {4, 1, 6, 20});
  AddOptionals(&p);
  std::vector<Operand> all = MakeOperands(p, {});
  int id = 1;
  RnnWeight* const weights[] = {&p.weights, &p.recurrence, &p.bias, &p.peepholes};
  for (size_t i = 0; i < 4; ++i) {
    const std::vector<double> numbers = Numbers(all[i + 1]);
    weights[i]->constant = {id++, Tensor::FromF32(weights[i]->spec->shape, std::vector<float>(numbers.begin(), numbers.end())),
                            {}};
  }
  ASSERT_TRUE(CreateRnn(p, env).ok());
  const int64_t bytes = store.TotalBytes();
  EXPECT_EQ(store.Entries().size(), 1u);
  const RnnParams with_tensors = p;
  for (RnnWeight* w : weights) w->constant.tensor = Tensor();
  auto kernel = CreateRnn(p, env);
  ASSERT_TRUE(kernel.ok()) << kernel.status();
  EXPECT_EQ(store.TotalBytes(), bytes);
  const std::vector<Operand> states = Operands(std::move(all[0]), std::move(all[5]), std::move(all[6]));
  const std::vector<double> want = Results(RnnImplementations().back(), with_tensors, states, 1);
  Operand y = MakeOperand(*p.y), y_h = MakeOperand(*p.y_h), y_c = MakeOperand(*p.y_c);
  ASSERT_TRUE(RunKernel(**kernel, {states[0].data(), states[1].data(), states[2].data()},
                        {y.data(), y_h.data(), y_c.data()})
                  .ok());
  EXPECT_THAT(Numbers(y), Pointwise(DoubleNear(2e-5), std::vector<double>(want.begin(), want.begin() + 4 * 2 * 20)));
}

TEST(RnnTest, RefusesWhatDoesNotFit) {
  const RnnParams good = MakeParams(Cell::kGru, Direction::kForward, RnnParams::Layout::kTimeFirst, {3, 2, 4, 5});
  const auto fails = [](const RnnParams& p) { return absl::IsInvalidArgument(CreateRnn(p, KernelEnv{}).status()); };
  RnnParams p = good;
  p.weights.spec->shape = {1, 15, 3};
  EXPECT_TRUE(fails(p));
  p = good;
  p.y->shape = {3, 2, 1, 5};
  EXPECT_TRUE(fails(p));
  p = good;
  p.y_c = p.y_h;
  EXPECT_TRUE(fails(p));
  p = good;
  p.functions.pop_back();
  EXPECT_TRUE(fails(p));
  p = good;
  p.sequence_lens = Spec(DType::kS64, {2});
  EXPECT_TRUE(fails(p));
}

}  // namespace
}  // namespace octet::kernels
