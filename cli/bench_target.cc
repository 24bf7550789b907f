// Channels and slots.
#include "cli/bench_target.h"

#include <cstring>
#include <deque>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "base/parallel_for.h"
#include "base/release_team.h"
#include "base/status.h"
#include "cli/inputs.h"
#include "client/client.h"
#include "onnx/import.h"

namespace octet::cli {
namespace {

class GrpcTarget final : public BenchTarget {
 public:
  GrpcTarget(std::string model, absl::Duration timeout, std::vector<std::unique_ptr<client::Client>> clients,
             std::vector<engine::Signature> inputs)
      : model_(std::move(model)), timeout_(timeout), clients_(std::move(clients)), inputs_(std::move(inputs)) {}

  const std::vector<engine::Signature>& inputs() const override { return inputs_; }

  absl::Status Prepare(const std::vector<std::vector<Tensor>>& requests) override {
    for (const std::vector<Tensor>& tensors : requests) {
      client::InferRequest request;
      request.model = model_;
      for (size_t i = 0; i < tensors.size(); ++i) request.inputs.push_back({inputs_[i].name, tensors[i]});
      OCTET_ASSIGN_OR_RETURN(client::PreparedRequest prepared, client::PreparedRequest::Create(request));
      requests_.push_back(std::move(prepared));
    }
    for (const auto& client : clients_) OCTET_RETURN_IF_ERROR(client->Infer(requests_[0]).status());
    return absl::OkStatus();
  }

  void Send(int64_t i, Done done) override {
    const auto n = static_cast<size_t>(i);
    clients_[n % clients_.size()]->InferAsync(
        requests_[n % requests_.size()], timeout_,
        [done = std::move(done)](absl::StatusOr<client::InferResult> result) mutable { done(result.status()); });
  }

 private:
  const std::string model_;
  const absl::Duration timeout_;
  const std::vector<std::unique_ptr<client::Client>> clients_;
  const std::vector<engine::Signature> inputs_;
  std::vector<client::PreparedRequest> requests_;
};

class EngineTarget final : public BenchTarget {
 public:
  EngineTarget(std::shared_ptr<engine::Program> program, int slots, int threads)
      : program_(std::move(program)), slots_(slots), threads_(threads) {}

  ~EngineTarget() override {
    {
      absl::MutexLock lock(&mutex_);
      closing_ = true;
    }
    for (std::thread& worker : workers_) worker.join();
  }

  const std::vector<engine::Signature>& inputs() const override { return program_->inputs(); }

  absl::Status Prepare(const std::vector<std::vector<Tensor>>& requests) override {
    requests_ = requests;
    std::vector<Shape> shapes;
    for (const Tensor& tensor : requests_[0]) shapes.push_back(tensor.shape());
    SetTeamSize(threads_);
    OCTET_ASSIGN_OR_RETURN(const auto specialisation, program_->Specialise(shapes, threads_));
    program_->ReleaseInitializers();
    for (int i = 0; i < slots_; ++i) {
      OCTET_ASSIGN_OR_RETURN(auto context, engine::Context::Create(specialisation));
      OCTET_RETURN_IF_ERROR(RunOne(*context, 0));
      contexts_.push_back(std::move(context));
    }
    ReleaseTeam();  // that the workers' teams may wait awake
    for (const auto& context : contexts_) workers_.emplace_back([this, c = context.get()] { Work(*c); });
    return absl::OkStatus();
  }

  void Send(int64_t i, Done done) override {
    absl::MutexLock lock(&mutex_);
    queue_.push_back({static_cast<size_t>(i), std::move(done)});
  }

 private:
  struct Job {
    size_t number = 0;
    Done done;
  };

  absl::Status RunOne(engine::Context& context, size_t number) {
    const std::vector<Tensor>& tensors = requests_[number % requests_.size()];
    for (size_t k = 0; k < tensors.size(); ++k) {
      const absl::Span<std::byte> to = context.input(static_cast<int>(k));
      std::memcpy(to.data(), tensors[k].data(), to.size());
    }
    return context.Run();
  }

  bool HasWork() const ABSL_SHARED_LOCKS_REQUIRED(mutex_) { return closing_ || !queue_.empty(); }

  void Work(engine::Context& context) {
    SetTeamSize(threads_);
    while (true) {
      Job job;
      {
        absl::MutexLock lock(&mutex_, absl::Condition(this, &EngineTarget::HasWork));
        if (queue_.empty()) return;
        job = std::move(queue_.front());
        queue_.pop_front();
      }
      job.done(RunOne(context, job.number));
    }
  }

  const std::shared_ptr<engine::Program> program_;
  const int slots_, threads_;
  std::vector<std::vector<Tensor>> requests_;
  std::vector<std::unique_ptr<engine::Context>> contexts_;
  std::vector<std::thread> workers_;
  absl::Mutex mutex_;
  std::deque<Job> queue_ ABSL_GUARDED_BY(mutex_);
  bool closing_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace

absl::StatusOr<std::unique_ptr<BenchTarget>> ConnectTarget(const std::string& address, const std::string& model,
                                                           int connections, absl::Duration timeout) {
  std::vector<std::unique_ptr<client::Client>> clients;
  client::ClientOptions options;
  options.retry = client::Retry::kNever;  // a refusal that was hidden by a second attempt would flatter the server
  for (int i = 0; i < connections; ++i) {
    OCTET_ASSIGN_OR_RETURN(auto client, client::Client::Connect(address, options));
    clients.push_back(std::move(client));
  }
  absl::StatusOr<client::ModelMetadata> metadata = clients[0]->Metadata(model);
  if (!metadata.ok()) return Annotate(metadata.status(), absl::StrCat(model, " on ", address));
  return std::make_unique<GrpcTarget>(model, timeout, std::move(clients), SignaturesOf(metadata->inputs));
}

absl::StatusOr<std::unique_ptr<BenchTarget>> LoadTargetFile(const std::string& path, int slots, int threads) {
  OCTET_ASSIGN_OR_RETURN(graph::Graph graph, onnx_io::ImportFile(path));
  absl::StatusOr<std::shared_ptr<engine::Program>> program = engine::Program::Compile(std::move(graph));
  if (!program.ok()) return Annotate(program.status(), path);
  return std::make_unique<EngineTarget>(*std::move(program), slots, threads);
}

}  // namespace octet::cli
