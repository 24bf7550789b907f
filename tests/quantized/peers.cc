// Two engines behind one interface.
#include "tests/quantized/peers.h"

#include <onnxruntime_cxx_api.h>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/parallel_for.h"
#include "base/status.h"
#include "engine/test_util.h"
#include "onnx/test_model.h"

namespace octet {
namespace {

constexpr int kThreads = 2;

ONNXTensorElementDataType OrtType(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
    case DType::kU8:
      return ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8;
    case DType::kS8:
      return ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8;
    case DType::kU16:
      return ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT16;
    case DType::kS16:
      return ONNX_TENSOR_ELEMENT_DATA_TYPE_INT16;
    case DType::kS32:
      return ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32;
    case DType::kS64:
      return ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64;
    case DType::kBool:
      return ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL;
    default:
      return ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
  }
}

DType TypeOf(ONNXTensorElementDataType type) {
  for (DType dtype : {DType::kF32, DType::kU8, DType::kS8, DType::kU16, DType::kS16, DType::kS32,
                      DType::kS64, DType::kBool}) {
    if (OrtType(dtype) == type) return dtype;
  }
  return DType::kInvalid;
}

class OrtPeer final : public Peer {
 public:
  OrtPeer(const std::string& bytes, Optimize optimize) : env_(ORT_LOGGING_LEVEL_ERROR, "octet") {
    Ort::SessionOptions options;
    options.SetIntraOpNumThreads(kThreads);
    if (optimize == Optimize::kNo) options.SetGraphOptimizationLevel(ORT_DISABLE_ALL);
    // Blocked weights without a dynamic quantization of the source, which the file does not ask for.
    options.AddConfigEntry("session.qdq_matmulnbits_accuracy_level", "1");
    session_ = std::make_unique<Ort::Session>(env_, bytes.data(), bytes.size(), options);
    Ort::AllocatorWithDefaultOptions allocator;
    for (size_t i = 0; i < session_->GetInputCount(); ++i) {
      input_names_.push_back(session_->GetInputNameAllocated(i, allocator).get());
    }
    for (size_t i = 0; i < session_->GetOutputCount(); ++i) {
      output_names_.push_back(session_->GetOutputNameAllocated(i, allocator).get());
    }
  }

  absl::StatusOr<std::vector<Tensor>> Run(const std::vector<Tensor>& inputs) override {
    try {
      const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
      std::vector<Ort::Value> values;
      for (const Tensor& t : inputs) {
        const std::vector<int64_t> dims(t.shape().begin(), t.shape().end());
        values.push_back(Ort::Value::CreateTensor(
            memory, const_cast<std::byte*>(t.data()), static_cast<size_t>(t.size_bytes()),
            dims.data(), dims.size(), OrtType(t.dtype())));
      }
      std::vector<const char*> in, out;
      for (const auto& name : input_names_) in.push_back(name.c_str());
      for (const auto& name : output_names_) out.push_back(name.c_str());
      auto results = session_->Run(Ort::RunOptions(), in.data(), values.data(), values.size(),
                                   out.data(), out.size());
      std::vector<Tensor> outputs;
      for (Ort::Value& value : results) {
        const auto info = value.GetTensorTypeAndShapeInfo();
        const std::vector<int64_t> dims = info.GetShape();
        const DType dtype = TypeOf(info.GetElementType());
        if (dtype == DType::kInvalid) return absl::UnimplementedError("output type");
        const Shape shape(dims.begin(), dims.end());
        const auto* data = static_cast<const char*>(value.GetTensorRawData());
        const std::vector<char> copy(data, data + ByteSize(dtype, shape));
        outputs.push_back(Tensor::FromValues<char>(dtype, shape, copy));
      }
      return outputs;
    } catch (const Ort::Exception& e) {
      return absl::InternalError(e.what());
    }
  }

 private:
  Ort::Env env_;
  std::unique_ptr<Ort::Session> session_;
  std::vector<std::string> input_names_, output_names_;
};

class OctetPeer final : public Peer {
 public:
  explicit OctetPeer(std::shared_ptr<engine::Program> program) : program_(std::move(program)) {}
  absl::StatusOr<std::vector<Tensor>> Run(const std::vector<Tensor>& inputs) override {
    return engine::RunProgram(*program_, inputs, kThreads);
  }

 private:
  std::shared_ptr<engine::Program> program_;
};

absl::StatusOr<std::shared_ptr<engine::Program>> Compile(const std::string& bytes) {
  OCTET_ASSIGN_OR_RETURN(graph::Graph graph,
                         onnx_io::ImportBytes(onnx_io::ToBuffer(bytes), "model.onnx"));
  return engine::Program::Compile(std::move(graph));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Peer>> MakeOnnxRuntime(const std::string& bytes, Optimize optimize) {
  try {
    return std::make_unique<OrtPeer>(bytes, optimize);
  } catch (const Ort::Exception& e) {
    return absl::InternalError(e.what());
  }
}

absl::StatusOr<std::unique_ptr<Peer>> MakeOctet(const std::string& bytes) {
  OCTET_ASSIGN_OR_RETURN(auto program, Compile(bytes));
  return std::make_unique<OctetPeer>(std::move(program));
}

absl::StatusOr<std::vector<Tensor>> RunOnnxRuntime(const std::string& bytes,
                                                   const std::vector<Tensor>& inputs,
                                                   Optimize optimize) {
  OCTET_ASSIGN_OR_RETURN(auto peer, MakeOnnxRuntime(bytes, optimize));
  return peer->Run(inputs);
}

absl::StatusOr<OctetRun> RunOctet(const std::string& bytes, const std::vector<Tensor>& inputs) {
  OCTET_ASSIGN_OR_RETURN(auto program, Compile(bytes));
  OctetRun run;
  OCTET_ASSIGN_OR_RETURN(run.outputs, engine::RunProgram(*program, inputs, kThreads));
  std::vector<Shape> shapes;
  for (const Tensor& t : inputs) shapes.push_back(t.shape());
  OCTET_ASSIGN_OR_RETURN(auto specialisation, program->Specialise(shapes, kThreads));
  run.steps = specialisation->Steps();
  run.batchable = program->batch_proof().batchable;
  run.mixing = program->batch_proof().obstacle;
  return run;
}

Int8Share ShareOf(const std::vector<engine::StepInfo>& steps) {
  Int8Share out;
  double all = 0, int8 = 0;
  for (const engine::StepInfo& step : steps) {
    if (step.multiply_adds == 0) continue;
    all += static_cast<double>(step.multiply_adds);
    const bool bytes =
        absl::StartsWith(step.src_types, "u8") || absl::StartsWith(step.src_types, "s8");
    if (bytes) {
      int8 += static_cast<double>(step.multiply_adds);
    } else {
      out.floats.push_back(absl::StrCat(step.node, ": ", step.src_types));
    }
    if (absl::StrContains(step.implementation, "ref")) {
      out.references.push_back(absl::StrCat(step.node, ": ", step.implementation));
    }
  }
  out.share = all == 0 ? 0 : int8 / all;
  return out;
}

}  // namespace octet
