// `octet demo`: the whole product on the embedded model and the real Fashion-MNIST test images: compress, serve both
// variants from a server process, send all images over gRPC, and print what compression cost and gained.
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "absl/cleanup/cleanup.h"
#include "absl/flags/flag.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "base/cpu.h"
#include "base/file.h"
#include "base/statistics.h"
#include "base/status.h"
#include "cli/child.h"
#include "cli/commands.h"
#include "cli/compress_file.h"
#include "cli/console.h"
#include "client/client.h"
#include "client/top_k.h"
#include "data/sample_reader.h"
#include "models/embedded.h"

ABSL_FLAG(bool, once, false, "demo: exit after the table instead of staying up");
ABSL_FLAG(std::string, json, "", "demo, compare, bench, inspect --distribution: also write the figures to this file");
ABSL_FLAG(std::string, dataset, "/usr/share/datasets/fashion-mnist",
          "demo: folder of the Fashion-MNIST files (Debian package dataset-fashion-mnist)");
ABSL_FLAG(int64_t, calibration_images, 1000, "demo: training images used for calibration and comparison");
ABSL_FLAG(int, rounds, 3, "demo, compare: turns in which variants are measured, alternating");

namespace octet::cli {
namespace {

constexpr int64_t kImagesPerRequest = 32;
constexpr int64_t kSingleImages = 1000;

// One row of the table each: the float file and what the compressor's schemes of these names make of it; and what savings
// can buy, a wider network for the same task in 4 bits.
struct Served {
  const char* model;
  const char* variant;
  const char* name;  // of the row
};
constexpr Served kServed[] = {{"fashion-mnist", "f32", "f32"},
                              {"fashion-mnist", "int8", "int8"},
                              {"fashion-mnist", "int4", "int4"},
                              {"fashion-mnist", "ternary", "ternary"},
                              {"fashion-mnist-wide", "int4", "wide int4"}};

std::string Address(const Served& s) { return absl::StrCat(s.model, "@", s.variant); }

// All requests of one variant, serialized before anything is timed.
struct Requests {
  std::vector<client::PreparedRequest> batches, singles;
};

struct Row {
  std::string name;
  int64_t file_bytes = 0;
  int64_t weights_bytes = 0;
  std::vector<double> batch_ms, single_ms;
  double seconds = 0;
  int64_t images = 0;
  std::vector<int64_t> classes;  // of the last round
  double top1 = 0, agreement = 0;
};

absl::StatusOr<std::vector<Tensor>> ReadImages(const std::string& path) {
  OCTET_ASSIGN_OR_RETURN(auto reader, data::OpenSamples(path, data::ImageOptions{}, {"image"}));
  std::vector<Tensor> images;
  for (int64_t i = 0; i < reader->size(); ++i) {
    OCTET_ASSIGN_OR_RETURN(data::Sample sample, reader->Read(i));
    images.push_back(std::move(sample.inputs[0]));
  }
  return images;
}

absl::StatusOr<client::PreparedRequest> RequestOf(const std::string& model, const std::vector<Tensor>& images,
                                                  int64_t begin, int64_t end) {
  std::vector<float> pixels;
  for (int64_t i = begin; i < end; ++i) {
    const std::vector<float> one = images[static_cast<size_t>(i)].ToF32();
    pixels.insert(pixels.end(), one.begin(), one.end());
  }
  client::InferRequest request;
  request.model = model;
  request.inputs.push_back({"image", Tensor::FromF32({end - begin, 1, 28, 28}, pixels)});
  return client::PreparedRequest::Create(request);
}

absl::StatusOr<Requests> PrepareRequests(const std::string& model, const std::vector<Tensor>& images) {
  Requests requests;
  const auto n = static_cast<int64_t>(images.size());
  for (int64_t i = 0; i < n; i += kImagesPerRequest) {
    OCTET_ASSIGN_OR_RETURN(auto request, RequestOf(model, images, i, std::min(i + kImagesPerRequest, n)));
    requests.batches.push_back(std::move(request));
  }
  for (int64_t i = 0; i < std::min(kSingleImages, n); ++i) {
    OCTET_ASSIGN_OR_RETURN(auto request, RequestOf(model, images, i, i + 1));
    requests.singles.push_back(std::move(request));
  }
  return requests;
}

absl::StatusOr<double> TimeCall(client::Client& client, const client::PreparedRequest& request,
                                std::vector<int64_t>* classes) {
  const absl::Time start = absl::Now();
  OCTET_ASSIGN_OR_RETURN(const client::InferResult result, client.Infer(request));
  const double ms = absl::ToDoubleMilliseconds(absl::Now() - start);
  OCTET_ASSIGN_OR_RETURN(const auto rows, client::TopKOfRows(result.outputs[0].tensor, 1));
  for (const auto& row : rows) classes->push_back(row[0].index);
  return ms;
}

// One round: every test image once in requests of 32, then single images.
absl::Status Round(client::Client& client, const Requests& requests, Row* row) {
  row->classes.clear();
  for (const client::PreparedRequest& request : requests.batches) {
    OCTET_ASSIGN_OR_RETURN(const double ms, TimeCall(client, request, &row->classes));
    row->batch_ms.push_back(ms);
    row->seconds += ms / 1000;
  }
  row->images += static_cast<int64_t>(row->classes.size());
  std::vector<int64_t> ignored;
  for (const client::PreparedRequest& request : requests.singles) {
    OCTET_ASSIGN_OR_RETURN(const double ms, TimeCall(client, request, &ignored));
    row->single_ms.push_back(ms);
  }
  return absl::OkStatus();
}

double ShareEqual(const std::vector<int64_t>& a, const std::vector<int64_t>& b) {
  int64_t equal = 0;
  for (size_t i = 0; i < a.size() && i < b.size(); ++i) equal += a[i] == b[i] ? 1 : 0;
  return a.empty() ? 0 : static_cast<double>(equal) / static_cast<double>(a.size());
}

absl::StatusOr<std::vector<Row>> Measure(client::Client& client, const std::vector<Tensor>& images,
                                         const std::vector<int64_t>& labels) {
  std::vector<Row> rows;
  std::vector<Requests> requests;
  for (const Served& served : kServed) {
    Row row;
    row.name = served.name;
    rows.push_back(std::move(row));
    OCTET_ASSIGN_OR_RETURN(Requests prepared, PrepareRequests(Address(served), images));
    requests.push_back(std::move(prepared));
    // Both batch sizes are specialised before anything is timed.
    std::vector<int64_t> ignored;
    for (int i = 0; i < 3; ++i) {
      OCTET_RETURN_IF_ERROR(TimeCall(client, requests.back().batches[0], &ignored).status());
      OCTET_RETURN_IF_ERROR(TimeCall(client, requests.back().singles[0], &ignored).status());
    }
  }
  const int rounds = std::max(1, absl::GetFlag(FLAGS_rounds));
  for (int round = 0; round < rounds; ++round) {
    for (size_t v = 0; v < rows.size(); ++v) {
      std::fprintf(stderr, "round %d of %d: %s, %d images\n", round + 1, rounds, rows[v].name.c_str(),
                   static_cast<int>(images.size()));
      OCTET_RETURN_IF_ERROR(Round(client, requests[v], &rows[v]));
    }
  }
  for (size_t v = 0; v < rows.size(); ++v) {
    Row& row = rows[v];
    row.top1 = ShareEqual(row.classes, labels);
    row.agreement = ShareEqual(row.classes, rows[0].classes);
    OCTET_ASSIGN_OR_RETURN(const auto statistics, client.Statistics(Address(kServed[v])));
    for (const client::ModelStatistics& s : statistics) {
      if (auto it = s.memory_bytes.find("weights"); it != s.memory_bytes.end()) {
        row.weights_bytes = static_cast<int64_t>(it->second);
      }
    }
  }
  return rows;
}

// Images that one network gets right and the other wrong, and how likely so uneven a split of them is by chance.
struct PairedTest {
  int64_t only_a = 0, only_b = 0;
  double p = 1;
};

PairedTest ComparePaired(const Row& a, const Row& b, const std::vector<int64_t>& labels) {
  PairedTest test;
  for (size_t i = 0; i < labels.size() && i < a.classes.size() && i < b.classes.size(); ++i) {
    const bool right_a = a.classes[i] == labels[i], right_b = b.classes[i] == labels[i];
    test.only_a += right_a && !right_b ? 1 : 0;
    test.only_b += right_b && !right_a ? 1 : 0;
  }
  test.p = McNemarP(test.only_a, test.only_b);
  return test;
}

std::string Compared(const Row& q, const Row& f, const std::vector<int64_t>& labels) {
  const PairedTest test = ComparePaired(q, f, labels);
  return absl::StrFormat(
      "%s against %s: %.2fx throughput, %.3fx weights, %+.2f points top-1 (right alone: %d, %s alone: %d; p = %.2g)\n", q.name,
      f.name, static_cast<double>(q.images) / q.seconds / (static_cast<double>(f.images) / f.seconds),
      static_cast<double>(q.weights_bytes) / static_cast<double>(f.weights_bytes), 100 * (q.top1 - f.top1), test.only_a,
      f.name, test.only_b, test.p);
}

void PrintTable(const std::vector<Row>& rows, const std::vector<int64_t>& labels) {
  std::vector<std::vector<std::string>> cells;
  for (const Row& r : rows) {
    cells.push_back({r.name, Bytes(r.file_bytes), Bytes(r.weights_bytes),
                     Fixed(Quantile(r.batch_ms, 0.5), 2), Fixed(Quantile(r.batch_ms, 0.99), 2),
                     Fixed(Quantile(r.single_ms, 0.5), 3), Fixed(static_cast<double>(r.images) / r.seconds, 0),
                     Fixed(100 * r.top1, 2), Fixed(100 * r.agreement, 2)});
  }
  std::printf("\n%s\n", Table({"variant", "file", "weights", "p50 ms (32)", "p99 ms (32)", "p50 ms (1)", "images/s",
                               "top-1 %", "agreement %"},
                              cells)
                            .c_str());
  for (size_t i = 1; i < rows.size(); ++i) std::printf("%s", Compared(rows[i], rows[0], labels).c_str());
}

std::string Json(const std::vector<Row>& rows) {
  std::vector<std::string> items;
  for (const Row& r : rows) {
    items.push_back(absl::StrFormat(
        "{\"name\":\"%s\",\"file_bytes\":%d,\"weights_bytes\":%d,\"p50_ms\":%.4f,\"p99_ms\":%.4f,\"single_p50_ms\":%.4f,"
        "\"single_p99_ms\":%.4f,\"images_per_second\":%.1f,\"top1\":%.4f,\"agreement\":%.4f}",
        r.name, r.file_bytes, r.weights_bytes, Quantile(r.batch_ms, 0.5), Quantile(r.batch_ms, 0.99),
        Quantile(r.single_ms, 0.5), Quantile(r.single_ms, 0.99), static_cast<double>(r.images) / r.seconds, r.top1,
        r.agreement));
  }
  return absl::StrCat("{\"variants\":[", absl::StrJoin(items, ","), "]}\n");
}

// The server listens before its models are loaded.
absl::Status AwaitReady(client::Client& client, const ServerProcess& server, const std::string& log) {
  while (server.running()) {
    const absl::StatusOr<bool> ready = client.Ready();
    if (ready.ok() && *ready) return absl::OkStatus();
    absl::SleepFor(absl::Milliseconds(20));
  }
  return absl::InternalError(absl::StrCat("the server ended while it loaded; see ", log));
}

// Until Ctrl-C, SIGTERM, or the end of the server.
void StayUp(const ServerProcess& server, const std::string& log) {
  std::printf("\nThe server stays up until Ctrl-C:\n  gRPC     %s  (try: octet infer fashion-mnist@int8 --address %s "
              "--data %s/t10k-images-idx3-ubyte.gz)\n  HTTP     http://%s/v2/health/ready\n  metrics  http://%s/metrics\n"
              "  log      %s\n",
              server.grpc().c_str(), server.grpc().c_str(), absl::GetFlag(FLAGS_dataset).c_str(),
              server.http().c_str(), server.metrics().c_str(), log.c_str());
  std::fflush(stdout);
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGTERM);
  const timespec second{1, 0};
  while (server.running()) {
    if (sigtimedwait(&set, nullptr, &second) > 0) return;
  }
}

std::string FileOf(const std::string& repository, const Served& served) {
  const std::string variant = served.variant;
  return absl::StrCat(repository, "/", served.model, "/1/model.", variant == "f32" ? "" : absl::StrCat(variant, "."), "onnx");
}

// Writes the embedded models and compresses them. Of the wide one only the compressed file is served.
absl::Status MakeRepository(const std::string& folder, const std::string& repository, const std::string& dataset) {
  const std::string wide = folder + "/wide.onnx";
  for (const Served& served : kServed) {
    std::filesystem::create_directories(std::filesystem::path(FileOf(repository, served)).parent_path());
  }
  OCTET_RETURN_IF_ERROR(WriteFileAtomically(FileOf(repository, kServed[0]), models::FashionMnist()));
  OCTET_RETURN_IF_ERROR(WriteFileAtomically(wide, models::FashionMnistWide()));
  compress::CompressOptions options;
  options.threads = DetectCpuBudget().threads;
  for (const Served& served : kServed) {
    if (served.variant == absl::string_view("f32")) continue;
    std::fprintf(stderr, "compressing the embedded model to %s (%s, %d threads)\n", served.name,
                 DetectCpuFeatures().isa.c_str(), options.threads);
    ProgressBar bar;
    options.progress = [&bar](const compress::Progress& p) { bar.Show(p); };
    CompressJob job;
    job.model = served.model == absl::string_view("fashion-mnist") ? FileOf(repository, kServed[0]) : wide;
    job.calibration = dataset + "/train-images-idx3-ubyte.gz";
    job.out = FileOf(repository, served);
    OCTET_ASSIGN_OR_RETURN(job.recipe, compress::MakeRecipe(served.variant));
    job.recipe.mutable_calibration()->set_samples(absl::GetFlag(FLAGS_calibration_images));
    OCTET_RETURN_IF_ERROR(CompressFile(job, options).status());
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status Demo(const Words& words) {
  if (!words.empty()) return absl::InvalidArgumentError(absl::StrCat("unexpected word '", words[0], "'"));
  const std::string dataset = absl::GetFlag(FLAGS_dataset);
  if (!std::filesystem::exists(dataset)) {
    return absl::NotFoundError(
        absl::StrCat(dataset, " is absent: install the Debian package dataset-fashion-mnist or give --dataset"));
  }
  std::string folder = (std::filesystem::temp_directory_path() / "octet-demo-XXXXXX").string();
  if (mkdtemp(folder.data()) == nullptr) return absl::ErrnoToStatus(errno, absl::StrCat("cannot make ", folder));
  absl::Cleanup remove = [&] { std::filesystem::remove_all(folder); };
  // Blocked from here on, so that Ctrl-C reaches StayUp and the server is stopped and the folder removed.
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  if (!absl::GetFlag(FLAGS_once)) sigaddset(&set, SIGINT);

  OCTET_RETURN_IF_ERROR(MakeRepository(folder, folder + "/models", dataset));
  OCTET_ASSIGN_OR_RETURN(const std::vector<Tensor> images, ReadImages(dataset + "/t10k-images-idx3-ubyte.gz"));
  OCTET_ASSIGN_OR_RETURN(const std::vector<int64_t> labels, data::ReadLabels(dataset + "/t10k-labels-idx1-ubyte.gz"));

  const std::string log = folder + "/server.log";
  OCTET_ASSIGN_OR_RETURN(const auto server, ServerProcess::Start(folder + "/models", log));
  sigprocmask(SIG_BLOCK, &set, nullptr);
  OCTET_ASSIGN_OR_RETURN(auto client, client::Client::Connect(server->grpc()));
  OCTET_RETURN_IF_ERROR(AwaitReady(*client, *server, log));
  OCTET_ASSIGN_OR_RETURN(std::vector<Row> rows, Measure(*client, images, labels));
  for (size_t v = 0; v < rows.size(); ++v) {
    rows[v].file_bytes = static_cast<int64_t>(std::filesystem::file_size(FileOf(folder + "/models", kServed[v])));
  }
  PrintTable(rows, labels);
  if (const std::string json = absl::GetFlag(FLAGS_json); !json.empty()) {
    OCTET_RETURN_IF_ERROR(WriteFileAtomically(json, Json(rows)));
  }
  if (!absl::GetFlag(FLAGS_once)) StayUp(*server, log);
  return absl::OkStatus();
}

}  // namespace octet::cli
