// Shared by kernel benchmarks: shape files and the timed loop over a bound kernel.
//
// A shape file has one shape per line: a name, then numbers or words; '#' starts a comment. Peers
// and peaks belong to bench/; here one implementation is timed at a time, on a team of
// OCTET_BENCHMARK_THREADS (default 2).
#ifndef OCTET_KERNELS_BENCHMARKING_H_
#define OCTET_KERNELS_BENCHMARKING_H_

#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "kernels/product_testing.h"

namespace octet::kernels {

struct ShapeLine {
  std::string name;
  std::vector<std::string> words;
  int64_t at(size_t i) const { return std::atoll(words.at(i).c_str()); }
};

// Lines of <repository>/kernels/<path>.
inline std::vector<ShapeLine> ReadShapes(const std::string& path) {
  std::ifstream file(std::string(OCTET_SOURCE_DIR) + "/kernels/" + path);
  std::vector<ShapeLine> lines;
  for (std::string text; std::getline(file, text);) {
    std::istringstream in(text.substr(0, text.find('#')));
    ShapeLine line;
    if (!(in >> line.name)) continue;
    for (std::string word; in >> word;) line.words.push_back(word);
    lines.push_back(std::move(line));
  }
  return lines;
}

inline int BenchmarkThreads() {
  const char* text = std::getenv("OCTET_BENCHMARK_THREADS");
  return text == nullptr ? 2 : std::max(1, std::atoi(text));
}

// Work of one run, for the rates that are reported.
struct Work {
  double operations = 0;  // multiplications and additions
  double bytes = 0;       // operands once each
};

// Times `kernel` on the operands; label = implementation, rates from `work`.
inline void TimeKernel(benchmark::State& state,
                       const absl::StatusOr<std::unique_ptr<Kernel>>& kernel,
                       std::vector<const void*> src, void* dst, const Work& work) {
  if (!kernel.ok()) {
    state.SkipWithError(std::string(kernel.status().message()).c_str());
    return;
  }
  OpenMpFor team(BenchmarkThreads());
  Buffer scratch = *Buffer::Allocate((*kernel)->scratch_bytes() + 1);
  void* const dsts[] = {dst};
  absl::StatusOr<BoundKernel> bound = (*kernel)->Bind({src, dsts, scratch.data(), &team});
  if (!bound.ok() || !(*bound)().ok()) {
    state.SkipWithError("binding or the first run failed");
    return;
  }
  using Clock = std::chrono::steady_clock;
  std::vector<double> times_us;
  for (auto _ : state) {
    const Clock::time_point start = Clock::now();
    benchmark::DoNotOptimize((*bound)());
    times_us.push_back(std::chrono::duration<double, std::micro>(Clock::now() - start).count());
  }
  std::sort(times_us.begin(), times_us.end());
  const auto quantile = [&](double q) {
    return times_us[static_cast<size_t>(q * static_cast<double>(times_us.size() - 1))];
  };
  // Rates of the fastest run: what the implementation can do on a machine that does other things,
  // too.
  state.counters["min_us"] = quantile(0);
  state.counters["p50_us"] = quantile(0.5);
  state.counters["p99_us"] = quantile(0.99);
  state.counters["ops/s"] = work.operations / quantile(0) * 1e6;
  state.counters["bytes/s"] = work.bytes / quantile(0) * 1e6;
  state.SetLabel((*kernel)->implementation());
}

// ---- two kernels alternating

// One side of a comparison: kernels that take turns (the same operator on other weights), operands and times.
struct Side {
  std::vector<std::unique_ptr<Kernel>> kernels = {};
  Buffer src = {}, dst = {}, scratch = {};
  std::vector<BoundKernel> bound = {};
  std::vector<double> us = {};

  // Errors: the kernel's own; those of its first run.
  absl::Status Add(absl::StatusOr<std::unique_ptr<Kernel>> kernel, const TensorSpec& src_spec, const TensorSpec& dst_spec,
                   ParallelFor* team) {
    if (!kernel.ok()) return kernel.status();
    if (kernels.empty()) {
      src = RandomOperand(src_spec, 4);
      dst = RandomOperand(dst_spec, 5);
      scratch = *Buffer::Allocate((*kernel)->scratch_bytes() + 1);
    }
    const void* const srcs[] = {src.data()};
    void* const dsts[] = {dst.data()};
    auto made = (*kernel)->Bind({srcs, dsts, scratch.data(), team});
    if (!made.ok()) return made.status();
    bound.push_back(*std::move(made));
    kernels.push_back(*std::move(kernel));
    return bound.back()();
  }
  void RunOnce() {
    using Clock = std::chrono::steady_clock;
    BoundKernel& next = bound[us.size() % bound.size()];
    const Clock::time_point start = Clock::now();
    benchmark::DoNotOptimize(next());
    us.push_back(std::chrono::duration<double, std::micro>(Clock::now() - start).count());
  }
};

inline double Quantile(std::vector<double> values, double q) {
  std::sort(values.begin(), values.end());
  return values[static_cast<size_t>(q * static_cast<double>(values.size() - 1))];
}

// Takes the bytes out of all caches, as a network does whose weights exceed them.
inline void Evict(const Buffer& buffer) {
#if defined(__x86_64__)
  for (int64_t i = 0; i < buffer.size_bytes(); i += 64) __builtin_ia32_clflush(buffer.data() + i);
  __builtin_ia32_mfence();
#endif
}

// us, peer_us: medians; min_us, peer_min_us: the fastest, for machines that do other things, too; ratio: peer / ours of
// each round, median and quantiles.
inline void ReportSides(benchmark::State& state, const Side& ours, const Side& peer) {
  std::vector<double> ratios;
  for (size_t i = 0; i < ours.us.size(); ++i) ratios.push_back(peer.us[i] / ours.us[i]);
  state.counters["us"] = Quantile(ours.us, 0.5);
  state.counters["peer_us"] = Quantile(peer.us, 0.5);
  state.counters["min_us"] = Quantile(ours.us, 0);
  state.counters["peer_min_us"] = Quantile(peer.us, 0);
  state.counters["ratio"] = Quantile(ratios, 0.5);
  state.counters["ratio_p10"] = Quantile(ratios, 0.1);
  state.counters["ratio_p90"] = Quantile(ratios, 0.9);
  state.SetLabel(ours.kernels[0]->implementation() + " | " + peer.kernels[0]->implementation());
}

}  // namespace octet::kernels

#endif  // OCTET_KERNELS_BENCHMARKING_H_
