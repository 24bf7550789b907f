// Medians of timed runs.
#include "compress/layer_times.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "base/parallel_for.h"
#include "base/status.h"
#include "compress/observe.h"
#include "engine/program.h"

namespace octet::compress {
namespace {

double Median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2), values.end());
  return values[values.size() / 2];
}

absl::StatusOr<std::unique_ptr<engine::Context>> ContextFor(engine::Program& program, const data::Sample& sample,
                                                            int threads) {
  std::vector<Tensor> tensors;
  std::vector<Shape> shapes;
  for (size_t i = 0; i < sample.inputs.size(); ++i) {
    OCTET_ASSIGN_OR_RETURN(Tensor fitted, FitInput(program.inputs()[i], sample.inputs[i]));
    shapes.push_back(fitted.shape());
    tensors.push_back(std::move(fitted));
  }
  OCTET_ASSIGN_OR_RETURN(auto specialisation, program.Specialise(shapes, threads));
  OCTET_ASSIGN_OR_RETURN(auto context, engine::Context::Create(specialisation));
  for (size_t i = 0; i < tensors.size(); ++i) {
    const absl::Span<std::byte> to = context->input(static_cast<int>(i));
    std::memcpy(to.data(), tensors[i].data(), to.size());
  }
  return context;
}

}  // namespace

absl::StatusOr<LayerTimes> MeasureLayers(const graph::Graph& graph, const data::Sample& sample, int threads,
                                         double seconds) {
  OCTET_ASSIGN_OR_RETURN(auto program, engine::Program::Compile(graph));
  OCTET_ASSIGN_OR_RETURN(auto context, ContextFor(*program, sample, threads));
  SetTeamSize(threads);
  const std::vector<engine::StepInfo> infos = context->specialisation().Steps();
  std::vector<std::vector<double>> runs(infos.size());
  std::vector<double> totals, times(infos.size());
  const absl::Time start = absl::Now();
  for (int run = 0; run < 7 || absl::ToDoubleSeconds(absl::Now() - start) < seconds; ++run) {
    std::fill(times.begin(), times.end(), 0.0);
    const absl::Time before = absl::Now();
    if (const absl::Status timed = context->RunTimed(absl::MakeSpan(times)); absl::IsUnimplemented(timed)) {
      OCTET_RETURN_IF_ERROR(context->Run());  // shapes that depend on data: the whole is all that can be timed
    } else {
      OCTET_RETURN_IF_ERROR(timed);
    }
    if (run < 2) continue;
    totals.push_back(absl::ToDoubleSeconds(absl::Now() - before));
    for (size_t i = 0; i < times.size(); ++i) runs[i].push_back(times[i]);
  }
  LayerTimes out;
  out.total = Median(totals);
  for (size_t i = 0; i < infos.size(); ++i) {
    const double median = Median(runs[i]);
    for (absl::string_view name : absl::StrSplit(infos[i].node, '+')) out.steps[name] += median;
  }
  return out;
}

}  // namespace octet::compress
