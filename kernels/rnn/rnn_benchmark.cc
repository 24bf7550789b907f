// Recurrent layers: time by implementation and team size, of the layers in models.txt.
#include "benchmark/benchmark.h"
#include "kernels/benchmarking.h"
#include "kernels/rnn/rnn.h"

namespace octet::kernels {
namespace {

// Words: cell (lstm, gru, rnn), direction (forward, bidirectional), time, batch, input, hidden.
RnnParams ParamsOf(const ShapeLine& line) {
  RnnParams p;
  p.cell = line.words.at(0) == "lstm" ? RnnParams::Cell::kLstm
           : line.words[0] == "gru"   ? RnnParams::Cell::kGru
                                      : RnnParams::Cell::kRnn;
  if (line.words.at(1) == "bidirectional") p.direction = RnnParams::Direction::kBidirectional;
  p.reset = RnnParams::Reset::kAfterProduct;
  const int64_t d = p.directions(), time = line.at(2), batch = line.at(3), input = line.at(4), hidden = line.at(5);
  for (int64_t i = 0; i < d; ++i) {
    if (p.cell != RnnParams::Cell::kRnn) p.functions.push_back({GateFunction::Kind::kSigmoid});
    p.functions.push_back({GateFunction::Kind::kTanh});
    if (p.cell == RnnParams::Cell::kLstm) p.functions.push_back({GateFunction::Kind::kTanh});
  }
  const auto f32 = [](Shape shape) { return TensorSpec{DType::kF32, std::move(shape), Layout::kPlain, std::nullopt}; };
  const int64_t gates = p.gates() * hidden;
  p.src = f32({time, batch, input});
  p.y = f32({time, d, batch, hidden});
  int id = 1;
  for (auto& [weight, shape] : std::vector<std::pair<RnnWeight*, Shape>>{
           {&p.weights, {d, gates, input}}, {&p.recurrence, {d, gates, hidden}}, {&p.bias, {d, 2 * gates}}}) {
    weight->spec = f32(shape);
    std::vector<float> values = RandomConstant(DType::kF32, shape, 3).ToF32();
    for (float& v : values) v *= 0.05f;
    weight->constant = {id++, Tensor::FromF32(shape, values), {}};
  }
  return p;
}

const int kRegistered = [] {
  for (const ShapeLine& line : ReadShapes("rnn/models.txt")) {
    for (const auto& entry : RnnImplementations()) {
      if (std::string(entry.name) == "reference") continue;  // minutes
      benchmark::RegisterBenchmark((line.name + "/" + entry.name).c_str(), [line, &entry](benchmark::State& state) {
        const RnnParams p = ParamsOf(line);
        WeightStore store;
        const Buffer src = RandomOperand(p.src, 5);
        Buffer dst = RandomOperand(*p.y, 6);
        SetTeamSize(BenchmarkThreads());
        const double products =
            static_cast<double>(NumElements(p.weights.spec->shape) + NumElements(p.recurrence.spec->shape));
        TimeKernel(state, entry.create(p, KernelEnv{&store, BenchmarkThreads()}), {src.data()}, dst.data(),
                   {2 * products * static_cast<double>(p.time() * p.batch()), 4 * products});
      })->UseRealTime();
    }
  }
  return 0;
}();

}  // namespace
}  // namespace octet::kernels
