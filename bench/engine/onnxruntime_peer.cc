// Sessions of ONNX Runtime.
#include "bench/engine/onnxruntime_peer.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <unistd.h>

#include <onnxruntime/onnxruntime_c_api.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status.h"

namespace octet::bench {
namespace {

absl::Status ToStatus(const OrtApi& api, OrtStatus* status) {
  if (status == nullptr) return absl::OkStatus();
  absl::Status out = absl::UnknownError(absl::StrCat("ONNX Runtime: ", api.GetErrorMessage(status)));
  api.ReleaseStatus(status);
  return out;
}

// Debian's build registers ONNX's operator schemas that its libonnx has registered already, and says so in 500 lines on
// standard error, at the first session: they are dropped while one of these lives.
class Silence {
 public:
  Silence() : saved_(dup(STDERR_FILENO)) {
    const int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    dup2(null, STDERR_FILENO);
    close(null);
  }
  ~Silence() {
    dup2(saved_, STDERR_FILENO);
    close(saved_);
  }
  Silence(const Silence&) = delete;
  Silence& operator=(const Silence&) = delete;

 private:
  int saved_;
};

// ONNX's numbers of element types are ONNX Runtime's.
absl::StatusOr<ONNXTensorElementDataType> TypeOf(DType dtype) {
  switch (dtype) {
    case DType::kF32: return ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
    case DType::kF16: return ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16;
    case DType::kF64: return ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE;
    case DType::kU8: return ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8;
    case DType::kS8: return ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8;
    case DType::kS32: return ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32;
    case DType::kS64: return ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64;
    case DType::kBool: return ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL;
    default: return absl::UnimplementedError(absl::StrCat("a peer's tensor of type ", NameOf(dtype)));
  }
}

absl::StatusOr<DType> TypeFrom(ONNXTensorElementDataType type) {
  for (DType dtype : {DType::kF32, DType::kF16, DType::kF64, DType::kU8, DType::kS8, DType::kS32, DType::kS64,
                      DType::kBool}) {
    if (*TypeOf(dtype) == type) return dtype;
  }
  return absl::UnimplementedError(absl::StrCat("a peer's output of type ", static_cast<int>(type)));
}

class OrtRunner final : public Runner {
 public:
  OrtRunner(const OrtApi& api, std::string engine) : api_(api), engine_(std::move(engine)) {}
  ~OrtRunner() override {
    for (OrtValue* value : inputs_) api_.ReleaseValue(value);
    for (OrtValue* value : outputs_) {
      if (value != nullptr) api_.ReleaseValue(value);
    }
    if (memory_ != nullptr) api_.ReleaseMemoryInfo(memory_);
    if (session_ != nullptr) api_.ReleaseSession(session_);
    if (options_ != nullptr) api_.ReleaseSessionOptions(options_);
  }
  OrtRunner(const OrtRunner&) = delete;
  OrtRunner& operator=(const OrtRunner&) = delete;

  absl::Status Open(const OrtEnv* env, const std::string& path, std::vector<NamedTensor> tensors, int threads,
                    const std::string& optimised_path) {
    OCTET_RETURN_IF_ERROR(Check(api_.CreateSessionOptions(&options_)));
    OCTET_RETURN_IF_ERROR(Check(api_.SetIntraOpNumThreads(options_, threads)));
    OCTET_RETURN_IF_ERROR(Check(api_.SetInterOpNumThreads(options_, 1)));
    OCTET_RETURN_IF_ERROR(Check(api_.SetSessionExecutionMode(options_, ORT_SEQUENTIAL)));
    OCTET_RETURN_IF_ERROR(Check(api_.SetSessionGraphOptimizationLevel(options_, ORT_ENABLE_ALL)));
    // As Octet does; the calling thread flushes anyway, since Octet's team shares it.
    OCTET_RETURN_IF_ERROR(Check(api_.AddSessionConfigEntry(options_, "session.set_denormal_as_zero", "1")));
    if (!optimised_path.empty()) {
      OCTET_RETURN_IF_ERROR(Check(api_.SetOptimizedModelFilePath(options_, optimised_path.c_str())));
    }
    OCTET_RETURN_IF_ERROR(Check(api_.CreateSession(env, path.c_str(), options_, &session_)));
    OCTET_RETURN_IF_ERROR(NameOutputs());
    OCTET_RETURN_IF_ERROR(Check(api_.CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &memory_)));
    tensors_ = std::move(tensors);
    for (NamedTensor& t : tensors_) OCTET_RETURN_IF_ERROR(AddInput(t));
    return absl::OkStatus();
  }

  const std::string& engine() const override { return engine_; }
  absl::Status Prepare() override { return absl::OkStatus(); }

  absl::Status Run() override {
    return Check(api_.Run(session_, nullptr, input_names_.data(), inputs_.data(), inputs_.size(),
                          output_names_.data(), output_names_.size(), outputs_.data()));
  }

  absl::StatusOr<std::vector<std::vector<float>>> Outputs() override {
    std::vector<std::vector<float>> out;
    for (OrtValue* value : outputs_) {
      OrtTensorTypeAndShapeInfo* info = nullptr;
      OCTET_RETURN_IF_ERROR(Check(api_.GetTensorTypeAndShape(value, &info)));
      ONNXTensorElementDataType type{};
      size_t count = 0;
      const absl::Status read = Check(api_.GetTensorElementType(info, &type));
      const absl::Status counted = Check(api_.GetTensorShapeElementCount(info, &count));
      api_.ReleaseTensorTypeAndShapeInfo(info);
      OCTET_RETURN_IF_ERROR(read);
      OCTET_RETURN_IF_ERROR(counted);
      OCTET_ASSIGN_OR_RETURN(const DType dtype, TypeFrom(type));
      void* data = nullptr;
      OCTET_RETURN_IF_ERROR(Check(api_.GetTensorMutableData(value, &data)));
      out.push_back(Tensor(dtype, {static_cast<int64_t>(count)}, static_cast<const std::byte*>(data), nullptr).ToF32());
    }
    return out;
  }

 private:
  absl::Status Check(OrtStatus* status) const { return ToStatus(api_, status); }

  absl::Status NameOutputs() {
    OrtAllocator* allocator = nullptr;  // the library's own
    OCTET_RETURN_IF_ERROR(Check(api_.GetAllocatorWithDefaultOptions(&allocator)));
    size_t count = 0;
    OCTET_RETURN_IF_ERROR(Check(api_.SessionGetOutputCount(session_, &count)));
    for (size_t i = 0; i < count; ++i) {
      char* name = nullptr;
      OCTET_RETURN_IF_ERROR(Check(api_.SessionGetOutputName(session_, i, allocator, &name)));
      owned_names_.push_back(std::make_unique<std::string>(name));
      output_names_.push_back(owned_names_.back()->c_str());
      allocator->Free(allocator, name);
    }
    outputs_.assign(count, nullptr);
    return absl::OkStatus();
  }

  absl::Status AddInput(const NamedTensor& t) {
    OCTET_ASSIGN_OR_RETURN(const ONNXTensorElementDataType type, TypeOf(t.tensor.dtype()));
    OrtValue* value = nullptr;
    OCTET_RETURN_IF_ERROR(Check(api_.CreateTensorWithDataAsOrtValue(
        memory_, const_cast<std::byte*>(t.tensor.data()), static_cast<size_t>(t.tensor.size_bytes()),
        t.tensor.shape().data(), t.tensor.shape().size(), type, &value)));
    inputs_.push_back(value);
    input_names_.push_back(t.name.c_str());
    return absl::OkStatus();
  }

  const OrtApi& api_;
  const std::string engine_;
  OrtSessionOptions* options_ = nullptr;
  OrtSession* session_ = nullptr;
  OrtMemoryInfo* memory_ = nullptr;
  std::vector<NamedTensor> tensors_;
  std::vector<std::unique_ptr<std::string>> owned_names_;
  std::vector<const char*> input_names_, output_names_;
  std::vector<OrtValue*> inputs_, outputs_;
};

class OnnxRuntimeImpl final : public OnnxRuntime {
 public:
  OnnxRuntimeImpl(const OrtApi& api, OrtEnv* env, std::string version)
      : api_(api), env_(env), version_(std::move(version)) {}

  const std::string& version() const override { return version_; }

  absl::StatusOr<std::unique_ptr<Runner>> Open(const std::string& model_path, std::vector<NamedTensor> inputs,
                                               int threads, const std::string& optimised_path) override {
    const Silence silence;
    auto runner = std::make_unique<OrtRunner>(api_, absl::StrCat("onnxruntime ", version_));
    OCTET_RETURN_IF_ERROR(runner->Open(env_, model_path, std::move(inputs), threads, optimised_path));
    return runner;
  }

 private:
  const OrtApi& api_;
  OrtEnv* env_;
  std::string version_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<OnnxRuntime>> OnnxRuntime::Load(const std::string& path) {
  const Silence silence;
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return absl::NotFoundError(dlerror());
  auto* get = reinterpret_cast<const OrtApiBase* (*)()>(dlsym(library, "OrtGetApiBase"));
  if (get == nullptr) return absl::NotFoundError(absl::StrCat(path, " has no OrtGetApiBase"));
  const OrtApiBase* base = get();
  const OrtApi* api = base->GetApi(ORT_API_VERSION);
  if (api == nullptr) {
    return absl::UnimplementedError(
        absl::StrCat(path, " is ONNX Runtime ", base->GetVersionString(), " and lacks C API ", ORT_API_VERSION));
  }
  OrtEnv* env = nullptr;
  OCTET_RETURN_IF_ERROR(ToStatus(*api, api->CreateEnv(ORT_LOGGING_LEVEL_ERROR, "octet-bench", &env)));
  return std::make_unique<OnnxRuntimeImpl>(*api, env, base->GetVersionString());
}

}  // namespace octet::bench
