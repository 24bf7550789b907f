// `octet bench`: load on a server of the Open Inference Protocol, or on a model in this process, and what it does to
// latency.
#include <algorithm>
#include <cstdio>
#include <filesystem>

#include "absl/flags/declare.h"
#include "absl/flags/flag.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "base/cpu.h"
#include "base/file.h"
#include "base/status.h"
#include "cli/bench_target.h"
#include "cli/commands.h"
#include "cli/console.h"
#include "cli/inputs.h"
#include "cli/interrupt.h"
#include "cli/json.h"
#include "cli/plot.h"
#include "client/load.h"
#include "data/sample_reader.h"

ABSL_FLAG(std::string, rates, "",
          "bench: open loop at these requests per second, one window each, e.g. 1000,2000,4000");
ABSL_FLAG(std::string, concurrency, "1",
          "bench: closed loop with so many requests in flight, one window each, e.g. 1,2,4");
ABSL_FLAG(absl::Duration, duration, absl::Seconds(10), "bench: of one counted window");
ABSL_FLAG(absl::Duration, warm_up, absl::Seconds(2), "bench: load before each window that is not counted");
ABSL_FLAG(int, connections, 1, "bench: channels to the server");
ABSL_FLAG(int64_t, max_outstanding, 10000,
          "bench: open loop: requests in flight beyond which others wait in the generator");
ABSL_DECLARE_FLAG(std::string, address);
ABSL_DECLARE_FLAG(int64_t, batch);
ABSL_DECLARE_FLAG(std::string, data);
ABSL_DECLARE_FLAG(std::string, image);
ABSL_DECLARE_FLAG(std::string, json);
ABSL_DECLARE_FLAG(std::string, plot);
ABSL_DECLARE_FLAG(uint64_t, seed);
ABSL_DECLARE_FLAG(std::string, shape);
ABSL_DECLARE_FLAG(int, slots);
ABSL_DECLARE_FLAG(int, threads);
ABSL_DECLARE_FLAG(absl::Duration, timeout);

namespace octet::cli {
namespace {

using client::LatencyHistogram;
using client::LoadResult;

constexpr int64_t kRequests = 32;  // different contents, sent in turn
constexpr double kQuantiles[] = {0.5, 0.9, 0.99, 0.999};

// One window: what was asked for and what came of it.
struct Window {
  client::LoadOptions options;
  LoadResult result;

  int64_t errors() const {
    int64_t sum = 0;
    for (const auto& [code, count] : result.errors) sum += count;
    return sum;
  }
};

absl::StatusOr<std::vector<client::LoadOptions>> ParseWindows() {
  const bool open = !absl::GetFlag(FLAGS_rates).empty();
  const std::string text = open ? absl::GetFlag(FLAGS_rates) : absl::GetFlag(FLAGS_concurrency);
  std::vector<client::LoadOptions> windows;
  for (absl::string_view word : absl::StrSplit(text, ',', absl::SkipEmpty())) {
    client::LoadOptions options;
    options.warm_up = absl::GetFlag(FLAGS_warm_up);
    options.duration = absl::GetFlag(FLAGS_duration);
    options.grace = absl::GetFlag(FLAGS_timeout);
    options.max_in_flight = absl::GetFlag(FLAGS_max_outstanding);
    options.seed = absl::GetFlag(FLAGS_seed) + windows.size();
    options.stop = [] { return InterruptGuard::interrupted(); };
    const bool parsed = open ? absl::SimpleAtod(word, &options.rate) && options.rate > 0 && options.rate <= 1e7
                             : absl::SimpleAtoi(word, &options.concurrency) && options.concurrency >= 1 &&
                                   options.concurrency <= 100000;
    if (!parsed) {
      return absl::InvalidArgumentError(absl::StrCat(
          open ? "--rates" : "--concurrency", ": '", word,
          open ? "', expected requests per second, up to 1e7" : "', expected 1 to 100000 requests in flight"));
    }
    windows.push_back(options);
  }
  if (windows.empty()) return absl::InvalidArgumentError("--rates and --concurrency name no load");
  if (absl::GetFlag(FLAGS_duration) <= absl::ZeroDuration())
    return absl::InvalidArgumentError("--duration: expected above 0");
  if (absl::GetFlag(FLAGS_max_outstanding) < 1 || absl::GetFlag(FLAGS_connections) < 1 ||
      absl::GetFlag(FLAGS_slots) < 1 || absl::GetFlag(FLAGS_batch) < 1) {
    return absl::InvalidArgumentError("--max-outstanding, --connections, --slots and --batch: expected 1 or more");
  }
  return windows;
}

// Contents from --data, or random ones.
absl::StatusOr<std::vector<std::vector<Tensor>>> Contents(const std::vector<engine::Signature>& inputs) {
  const int64_t batch = absl::GetFlag(FLAGS_batch);
  std::vector<std::vector<Tensor>> requests;
  if (absl::GetFlag(FLAGS_data).empty()) {
    OCTET_ASSIGN_OR_RETURN(const std::vector<Shape> given, ParseShapes(absl::GetFlag(FLAGS_shape)));
    OCTET_ASSIGN_OR_RETURN(const std::vector<Shape> shapes, ShapesFor(inputs, batch, given));
    for (int64_t i = 0; i < kRequests; ++i) {
      OCTET_ASSIGN_OR_RETURN(auto one,
                             RandomInputs(inputs, shapes, absl::GetFlag(FLAGS_seed), static_cast<uint64_t>(i)));
      requests.push_back(std::move(one));
    }
    return requests;
  }
  std::vector<std::string> names;
  for (const engine::Signature& input : inputs) names.push_back(input.name);
  OCTET_ASSIGN_OR_RETURN(const data::ImageOptions image, data::ImageOptions::Parse(absl::GetFlag(FLAGS_image)));
  OCTET_ASSIGN_OR_RETURN(const auto reader, data::OpenSamples(absl::GetFlag(FLAGS_data), image, names));
  std::vector<std::vector<Tensor>> samples;
  for (int64_t i = 0; i < std::min(reader->size(), kRequests * batch); ++i) {
    OCTET_ASSIGN_OR_RETURN(data::Sample sample, reader->Read(i));
    samples.push_back(std::move(sample.inputs));
  }
  for (int64_t i = 0; i < kRequests; ++i) {
    OCTET_ASSIGN_OR_RETURN(auto one, BatchOf(inputs, samples, i * batch, batch));
    requests.push_back(std::move(one));
  }
  return requests;
}

std::string Ms(absl::Duration d) { return Fixed(absl::ToDoubleMilliseconds(d), 3); }

std::string ErrorsText(const LoadResult& result) {
  std::vector<std::string> parts;
  for (const auto& [code, count] : result.errors)
    parts.push_back(absl::StrCat(absl::StatusCodeToString(code), " ", count));
  if (result.unsent > 0) parts.push_back(absl::StrCat("unsent ", result.unsent));
  return parts.empty() ? "0" : absl::StrJoin(parts, ", ");
}

std::string WindowsTable(const std::vector<Window>& windows, int64_t batch) {
  const bool open = windows[0].options.rate > 0;
  std::vector<std::string> head = {open ? "offered/s" : "in flight", "answered/s", "rows/s"};
  for (const char* column : {"p50 ms", "p90 ms", "p99 ms", "p99.9 ms", "max ms"}) head.push_back(column);
  if (open) head.push_back("p99 late ms");
  head.push_back("errors");
  std::vector<std::vector<std::string>> rows;
  for (const Window& w : windows) {
    rows.push_back({open ? Fixed(w.result.OfferedPerSecond(), 1) : absl::StrCat(w.options.concurrency),
                    Fixed(w.result.AchievedPerSecond(), 1),
                    Fixed(w.result.AchievedPerSecond() * static_cast<double>(batch), 1)});
    const bool any = w.result.latency.count() > 0;
    for (double q : kQuantiles) rows.back().push_back(any ? Ms(w.result.latency.Quantile(q)) : "-");
    rows.back().push_back(any ? Ms(w.result.latency.max()) : "-");
    if (open) rows.back().push_back(Ms(w.result.lateness.Quantile(0.99)));
    rows.back().push_back(ErrorsText(w.result));
  }
  return Table(head, rows);
}

Json HistogramJson(const LatencyHistogram& h) {
  std::vector<Json> buckets;
  for (const LatencyHistogram::Bucket& b : h.Buckets()) {
    buckets.push_back(Json::Array(
        std::vector<Json>{Json(absl::ToDoubleSeconds(b.low)), Json(absl::ToDoubleSeconds(b.high)), Json(b.count)}));
  }
  return Json::Array(buckets);
}

Json WindowJson(const Window& w) {
  std::vector<Json::Member> errors;
  for (const auto& [code, count] : w.result.errors) errors.push_back({absl::StatusCodeToString(code), count});
  const bool open = w.options.rate > 0, any = w.result.latency.count() > 0;
  const auto seconds = [&](absl::Duration d) { return any ? Json(absl::ToDoubleSeconds(d)) : Json(); };
  const LatencyHistogram& h = w.result.latency;
  return Json::Object(
      {{"rate", open ? Json(w.options.rate) : Json()},
       {"concurrency", open ? Json() : Json(w.options.concurrency)},
       {"offered_per_second", w.result.OfferedPerSecond()},
       {"answered_per_second", w.result.AchievedPerSecond()},
       {"window_seconds", absl::ToDoubleSeconds(w.result.window)},
       {"requests", w.result.due},
       {"succeeded", h.count()},
       {"errors", Json::Object(errors)},
       {"unsent", w.result.unsent},
       {"mean_seconds", seconds(h.Mean())},
       {"p50_seconds", seconds(h.Quantile(0.5))},
       {"p90_seconds", seconds(h.Quantile(0.9))},
       {"p99_seconds", seconds(h.Quantile(0.99))},
       {"p999_seconds", seconds(h.Quantile(0.999))},
       {"max_seconds", seconds(h.max())},
       {"lateness_p99_seconds", open ? Json(absl::ToDoubleSeconds(w.result.lateness.Quantile(0.99))) : Json()},
       {"histogram", HistogramJson(h)}});
}

std::string LoadPlot(const std::vector<Window>& windows, const std::string& title) {
  Plot plot;
  plot.title = title;
  plot.x_label = windows[0].options.rate > 0 ? "offered load, requests/s" : "throughput, requests/s";
  plot.y_label = windows[0].options.rate > 0 ? "latency from the due time, ms" : "latency, ms";
  plot.y_scale = Plot::Scale::kLog;
  plot.x_from_zero = true;
  plot.height = 420;
  int colour = 0;
  for (double q : kQuantiles) {
    PlotSeries series{absl::StrCat("p", 100 * q), PlotSeries::Mark::kLineAndPoints, colour++, {}};
    for (const Window& w : windows) {
      const double x = w.options.rate > 0 ? w.result.OfferedPerSecond() : w.result.AchievedPerSecond();
      if (w.result.latency.count() > 0)
        series.points.push_back({x, absl::ToDoubleMilliseconds(w.result.latency.Quantile(q))});
    }
    plot.series.push_back(std::move(series));
  }
  return Svg(plot);
}

std::string ReportJson(const std::string& model, const std::string& target, const std::vector<Window>& windows) {
  std::vector<Json> items;
  for (const Window& w : windows) items.push_back(WindowJson(w));
  return Json::Object({{"model", model},
                       {"target", target},
                       {"loop", windows[0].options.rate > 0 ? "open" : "closed"},
                       {"batch", absl::GetFlag(FLAGS_batch)},
                       {"relative_precision", LatencyHistogram::kPrecision},
                       {"windows", Json::Array(items)}})
             .text() +
         "\n";
}

}  // namespace

absl::Status Bench(const Words& words) {
  if (words.size() != 1)
    return absl::InvalidArgumentError("expected one model: a server's name for it, or an ONNX file");
  OCTET_ASSIGN_OR_RETURN(const std::vector<client::LoadOptions> loads, ParseWindows());
  const std::string& model = words[0];
  const bool local = std::filesystem::is_regular_file(model);
  const std::string address = absl::GetFlag(FLAGS_address);
  const int slots = absl::GetFlag(FLAGS_slots);
  const int threads = absl::GetFlag(FLAGS_threads) > 0 ? absl::GetFlag(FLAGS_threads) : DetectCpuBudget().threads;
  OCTET_ASSIGN_OR_RETURN(
      const std::unique_ptr<BenchTarget> target,
      local ? LoadTargetFile(model, slots, threads)
            : ConnectTarget(address, model, absl::GetFlag(FLAGS_connections), absl::GetFlag(FLAGS_timeout)));
  OCTET_ASSIGN_OR_RETURN(const auto requests, Contents(target->inputs()));
  OCTET_RETURN_IF_ERROR(target->Prepare(requests));
  const std::string where = local ? absl::StrCat("in process, ", slots, " slots of ", threads, " threads")
                                  : absl::StrCat("gRPC to ", address);
  std::vector<Window> windows;
  const InterruptGuard guard;
  for (const client::LoadOptions& load : loads) {
    if (InterruptGuard::interrupted()) break;
    std::fprintf(stderr, "%s: %s for %s\n", model.c_str(),
                 load.rate > 0 ? absl::StrCat(load.rate, " requests/s").c_str()
                               : absl::StrCat(load.concurrency, " in flight").c_str(),
                 absl::FormatDuration(load.warm_up + load.duration).c_str());
    windows.push_back({load, client::RunLoad(*target, load)});
    if (windows.back().result.window == absl::ZeroDuration()) windows.pop_back();  // stopped in its warm-up
  }
  if (windows.empty()) return absl::CancelledError("interrupted before the first window began");
  std::printf("%s, %s, %d rows per request\n\n%s", model.c_str(), where.c_str(),
              static_cast<int>(absl::GetFlag(FLAGS_batch)), WindowsTable(windows, absl::GetFlag(FLAGS_batch)).c_str());
  if (const std::string json = absl::GetFlag(FLAGS_json); !json.empty()) {
    OCTET_RETURN_IF_ERROR(WriteFileAtomically(json, ReportJson(model, where, windows)));
  }
  if (const std::string plot = absl::GetFlag(FLAGS_plot); !plot.empty()) {
    OCTET_RETURN_IF_ERROR(WriteFileAtomically(plot, LoadPlot(windows, absl::StrCat(model, ", ", where))));
  }
  return absl::OkStatus();
}

}  // namespace octet::cli
