// Tables of passes and of step times.
#include "cli/inspect_report.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <map>
#include <numeric>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/parallel_for.h"
#include "base/rng.h"
#include "base/status.h"
#include "cli/console.h"

namespace octet::cli {
namespace {

constexpr absl::Duration kProfileTime = absl::Seconds(1);
constexpr int kMinRuns = 5, kMaxRuns = 2000, kWarmUps = 3;

void FillInputs(const engine::Program& program, engine::Context& context) {
  const std::vector<Shape>& shapes = context.specialisation().input_shapes();
  for (size_t i = 0; i < shapes.size(); ++i) {
    const absl::Span<std::byte> bytes = context.input(static_cast<int>(i));
    std::memset(bytes.data(), 0, bytes.size());
    const auto n = static_cast<size_t>(NumElements(shapes[i]));
    if (program.inputs()[i].dtype != DType::kF32) continue;
    const CounterRng rng(i + 1);
    for (size_t k = 0; k < n; ++k) {
      const float value = static_cast<float>(rng.Uniform(k) * 2 - 1);
      std::memcpy(bytes.data() + k * sizeof(float), &value, sizeof(float));
    }
  }
}

double Median(std::vector<double>& values) {
  std::nth_element(values.begin(), values.begin() + static_cast<int64_t>(values.size() / 2), values.end());
  return values[values.size() / 2];
}

}  // namespace

void PrintPasses(const engine::Program& program, const engine::Specialisation& specialisation) {
  std::map<std::string, std::pair<int, int>> counts;
  for (const std::vector<engine::PassNote>& notes : {program.PassNotes(), specialisation.FusionNotes()}) {
    for (const engine::PassNote& note : notes) {
      const bool fired = note.kind == engine::PassNote::Kind::kFired;
      std::printf("pass: %s %s: %s: %s\n", fired ? "+" : "-", note.pass.c_str(), note.node.c_str(), note.text.c_str());
      ++(fired ? counts[note.pass].first : counts[note.pass].second);
    }
  }
  for (const auto& [pass, count] : counts) {
    std::printf("passes: %s fired %d times, nearly fired %d times\n", pass.c_str(), count.first, count.second);
  }
}

absl::Status PrintProfile(const engine::Program& program, engine::Context& context) {
  const std::vector<engine::StepInfo> steps = context.specialisation().Steps();
  SetTeamSize(context.specialisation().threads());
  FillInputs(program, context);
  std::vector<std::vector<double>> times(steps.size());
  const absl::Time start = absl::Now();
  for (int run = 0; run < kMaxRuns; ++run) {
    std::vector<double> seconds(steps.size(), 0.0);
    OCTET_RETURN_IF_ERROR(context.RunTimed(absl::MakeSpan(seconds)));
    if (run < kWarmUps) continue;
    for (size_t i = 0; i < steps.size(); ++i) times[i].push_back(seconds[i]);
    if (run >= kWarmUps + kMinRuns && absl::Now() - start > kProfileTime) break;
  }
  std::vector<double> medians;
  for (std::vector<double>& t : times) medians.push_back(Median(t));
  const double total = std::accumulate(medians.begin(), medians.end(), 0.0);
  std::vector<size_t> order(steps.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return medians[a] > medians[b]; });
  std::vector<std::vector<std::string>> rows;
  for (size_t i : order) {
    const double ms = medians[i] * 1e3;
    const double gops = medians[i] > 0 ? 2e-9 * static_cast<double>(steps[i].multiply_adds) / medians[i] : 0;
    rows.push_back({steps[i].node, steps[i].op, steps[i].implementation, Fixed(ms, 4),
                    Fixed(total > 0 ? 100 * medians[i] / total : 0, 1), gops > 0 ? Fixed(gops, 1) : ""});
  }
  std::printf("%s\n", Table({"node", "op", "implementation", "ms", "%", "GOP/s"}, rows).c_str());
  std::printf("profile: %.3f ms in %d steps, medians of %d runs\n", total * 1e3, static_cast<int>(steps.size()),
              times.empty() ? 0 : static_cast<int>(times[0].size()));
  return absl::OkStatus();
}

}  // namespace octet::cli
