// Files of shared models: tensors stored beside them, and compiled programs. Included by the tests of this folder.
#ifndef OCTET_TESTS_MODELS_MODEL_FILES_H_
#define OCTET_TESTS_MODELS_MODEL_FILES_H_

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "data/npy.h"
#include "data/npz.h"
#include "engine/program.h"
#include "onnx/import.h"
#include "onnx/onnx_pb.h"
#include "onnx/tensors.h"

namespace octet::engine {

namespace fs = std::filesystem;

inline fs::path ModelFolder(const std::string& model) { return fs::path(OCTET_SHARED) / "models" / model; }

#define OCTET_SKIP_WITHOUT(folder) \
  if (!fs::exists(folder)) GTEST_SKIP() << (folder) << " is absent: the shared models are not installed here"

// A TensorProto file, decoded by hand: independent of the importer's own reading.
inline Tensor ReadTensor(const fs::path& path) {
  onnx::TensorProto proto;
  std::ifstream in(path, std::ios::binary);
  EXPECT_TRUE(proto.ParseFromIstream(&in)) << path;
  const Shape shape(proto.dims().begin(), proto.dims().end());
  const DType dtype = onnx_io::DTypeFromOnnx(proto.data_type());
  if (!proto.raw_data().empty()) {
    EXPECT_EQ(static_cast<int64_t>(proto.raw_data().size()), ByteSize(dtype, shape)) << path;
    return Tensor::FromValues<char>(dtype, shape, proto.raw_data());
  }
  if (dtype == DType::kF32) {
    return Tensor::FromF32(shape, {proto.float_data().data(), static_cast<size_t>(proto.float_data_size())});
  }
  if (dtype == DType::kS32) {
    return Tensor::FromValues<int32_t>(dtype, shape, {proto.int32_data().data(), static_cast<size_t>(proto.int32_data_size())});
  }
  EXPECT_EQ(dtype, DType::kS64) << path << " has typed data of another type";
  return Tensor::FromS64(shape, {proto.int64_data().data(), static_cast<size_t>(proto.int64_data_size())});
}

// An array of a .npz file.
inline Tensor ReadNpz(const fs::path& path, const std::string& name) {
  auto entries = data::OpenNpz(path.string());
  EXPECT_TRUE(entries.ok()) << entries.status();
  for (data::NpzEntry& entry : *entries) {
    if (entry.name != name) continue;
    auto header = data::ReadNpyHeader(*entry.source);
    EXPECT_TRUE(header.ok()) << header.status();
    auto tensor = data::ReadNpyElements(*entry.source, *header, 0, header->shape);
    EXPECT_TRUE(tensor.ok()) << tensor.status();
    return *std::move(tensor);
  }
  ADD_FAILURE() << path << " has no array " << name;
  return Tensor();
}

// Set `set` of a folder: inputs in the program's order.
inline std::vector<Tensor> ReadInputs(const fs::path& data, const Program& program) {
  std::vector<Tensor> inputs;
  for (size_t i = 0; i < program.inputs().size(); ++i) {
    inputs.push_back(ReadTensor(data / ("input_" + std::to_string(i) + ".pb")));
    // Scalars are stored as [1] there.
    if (program.inputs()[i].shape.empty()) inputs.back() = inputs.back().Reshaped({});
  }
  return inputs;
}

inline std::shared_ptr<Program> CompileModel(const std::string& model) {
  auto graph = onnx_io::ImportFile((ModelFolder(model) / "model.onnx").string());
  EXPECT_TRUE(graph.ok()) << graph.status();
  if (!graph.ok()) return nullptr;
  auto program = Program::Compile(*std::move(graph));
  EXPECT_TRUE(program.ok()) << program.status();
  return program.ok() ? *std::move(program) : nullptr;
}

// Every element is finite, shapes are equal, and the largest difference is at most `tolerance` of the largest
// expected element.
inline void ExpectNear(const Tensor& found, const Tensor& expected, double tolerance, const std::string& what) {
  ASSERT_EQ(found.shape(), expected.shape()) << what;
  const std::vector<double> e = expected.ToF64(), f = found.ToF64();
  double largest = 0, worst = 0;
  for (size_t k = 0; k < e.size(); ++k) {
    ASSERT_TRUE(std::isfinite(f[k])) << what << ", element " << k;
    largest = std::max(largest, std::fabs(e[k]));
    worst = std::max(worst, std::fabs(e[k] - f[k]));
  }
  EXPECT_LE(worst, tolerance * largest) << what;
}

}  // namespace octet::engine

#endif  // OCTET_TESTS_MODELS_MODEL_FILES_H_
