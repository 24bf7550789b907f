// Packing and unpacking of codes in oneDNN's layouts.
#include "kernels/conv/conv_codes.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/parallel_for.h"
#include "base/status.h"
#include "kernels/onednn_product.h"

namespace octet::kernels {
namespace {

// Bytes of any meaning brought into the order of packed weights; what packing adds behind them is left out.
template <typename T>
absl::StatusOr<std::vector<T>> InPackedOrder(const std::vector<T>& values, const dnnl::memory::desc& plain,
                                             const dnnl::memory::desc& packed) {
  static_assert(sizeof(T) == 1);
  OCTET_ASSIGN_OR_RETURN(const Buffer out, ReorderedWeights(plain, reinterpret_cast<const std::byte*>(values.data()), packed));
  const auto* bytes = reinterpret_cast<const T*>(out.data());
  return std::vector<T>(bytes, bytes + PaddedBytes(packed));
}

// The codes of every byte of packed weights, -1 where it is padding. Reorders may treat bytes as 7-bit numbers, so codes
// go through in two halves, 1 higher than they are.
absl::StatusOr<std::vector<int16_t>> CodesInPackedOrder(const std::vector<uint8_t>& codes, const dnnl::memory::desc& plain,
                                                        const dnnl::memory::desc& packed) {
  std::vector<uint8_t> low(codes.size()), high(codes.size());
  for (size_t i = 0; i < codes.size(); ++i) {
    low[i] = static_cast<uint8_t>((codes[i] & 15) + 1);
    high[i] = static_cast<uint8_t>(codes[i] >> 4);
  }
  OCTET_ASSIGN_OR_RETURN(low, InPackedOrder(low, plain, packed));
  OCTET_ASSIGN_OR_RETURN(high, InPackedOrder(high, plain, packed));
  std::vector<int16_t> out(low.size());
  for (size_t i = 0; i < out.size(); ++i) {
    out[i] = static_cast<int16_t>(low[i] == 0 ? -1 : high[i] << 4 | (low[i] - 1));
  }
  return out;
}

// OK when four neighbouring bytes are the four weights of a vector code, in order.
absl::Status CheckVectorsAreNeighbours(const TensorSpec& weights, const dnnl::memory::desc& plain, const dnnl::memory::desc& packed) {
  const int64_t inputs = weights.shape[1];
  const int64_t positions = NumElements(weights.shape) / (weights.shape[0] * inputs);
  std::vector<uint8_t> element(static_cast<size_t>(NumElements(weights.shape)));
  for (size_t i = 0; i < element.size(); ++i) {
    element[i] = static_cast<uint8_t>(static_cast<int64_t>(i) / positions % inputs % 4 + 1);
  }
  OCTET_ASSIGN_OR_RETURN(element, InPackedOrder(element, plain, packed));
  for (size_t i = 0; i < element.size(); ++i) {
    if (element[i] != 0 && element[i] != i % 4 + 1) {
      return absl::UnimplementedError(absl::StrCat("layout ", LayoutString(packed), " does not keep the weights of a code together"));
    }
  }
  return absl::OkStatus();
}

// The panels of a layout, when it has that order and a column fills whole blocks of the stream of codes.
std::optional<ConvPanels> PanelsOf(const dnnl::memory::desc& desc, const CodeSource& source) {
  const dnnl::memory::dims strides = desc.get_strides(), padded = desc.get_padded_dims(), blocks = desc.get_inner_blks(),
                           indices = desc.get_inner_idxs();
  const size_t n = blocks.size();
  const bool form = (n == 2 || (n == 3 && indices[0] == 1)) && indices[n - 2] == 0 && indices[n - 1] == 1 && blocks[n - 1] == 4;
  if (!form || blocks[n - 2] % 16 != 0 || blocks[n - 2] > 64) return std::nullopt;
  ConvPanels panels{blocks[n - 2] / 16, 1, padded[1] / 4};
  const int64_t row = blocks[n - 2] * 4, inner = n == 3 ? blocks[0] : 1;  // bytes of a quad of channels; quads of a block
  if (panels.quads > inner && strides[1] != inner * row) return std::nullopt;
  for (size_t d = padded.size(); d-- > 2;) {
    if (padded[d] > 1 && strides[d] != panels.height() * row) return std::nullopt;
    panels.taps *= padded[d];
  }
  if (padded[0] > blocks[n - 2] && strides[0] != panels.height() * row) return std::nullopt;
  const int64_t most_chunks = source.levels.size() <= 2 ? 8 : 4;  // of a block: codes of 1 bit, or of more
  return panels.height() % most_chunks == 0 ? std::optional(panels) : std::nullopt;
}

// Chunks column after column instead of row after row.
template <typename T>
std::vector<T> ByColumns(const std::vector<T>& rows, const ConvPanels& panels) {
  constexpr int64_t kChunk = CodeStream::kChunk;
  std::vector<T> out(rows.size());
  const int64_t height = panels.height(), columns = panels.columns;
  for (int64_t chunk = 0; chunk < static_cast<int64_t>(rows.size()) / kChunk; ++chunk) {
    const int64_t column = chunk / height, row = column / columns * height + chunk % height;
    std::copy_n(rows.begin() + (row * columns + column % columns) * kChunk, kChunk, out.begin() + chunk * kChunk);
  }
  return out;
}

}  // namespace

absl::StatusOr<dnnl::primitive_desc> ChooseConvCodesLayout(const WeightStore& store, absl::string_view prefix,
                                                           const dnnl::memory::desc& any, const Tensor& tensor, MakePd make) {
  OCTET_ASSIGN_OR_RETURN(dnnl::primitive_desc free, make(any));
  const std::shared_ptr<const PackedWeights> first = store.FindFirst(prefix);
  const auto* codes = first == nullptr ? nullptr : std::any_cast<ConvCodes>(&first->detail);
  if (codes == nullptr || codes->desc == free.query_md(dnnl::query::weights_md)) return free;
  absl::StatusOr<dnnl::primitive_desc> shared = make(codes->desc);
  if (!shared.ok()) return free;
  const bool slow = IsReferenceImpl(ImplName(*shared)) && !IsReferenceImpl(ImplName(free));
  return slow && tensor.valid() ? free : *shared;
}

absl::StatusOr<Tensor> DecodedConvCodes(const WeightStore& store, absl::string_view prefix, const dnnl::memory::desc& plain,
                                      const Shape& shape) {
  const std::shared_ptr<const PackedWeights> first = store.FindFirst(prefix);
  const auto* codes = first == nullptr ? nullptr : std::any_cast<ConvCodes>(&first->detail);
  if (codes == nullptr) return absl::UnimplementedError("the weights were released after packing");
  OCTET_ASSIGN_OR_RETURN(Buffer decoded, Buffer::Allocate(codes->stream.decoded_bytes()));
  OpenMpFor alone(1);
  DecodeStream(codes->stream, first->data.data(), &alone, decoded.data());
  OCTET_ASSIGN_OR_RETURN(Buffer bytes, UnpackedWeights(codes->desc, decoded.data(), plain));
  return Tensor::FromBuffer(DType::kS8, shape, std::move(bytes));
}

absl::StatusOr<PackedWeights> PackConvCodes(const TensorSpec& weights, const ChannelScales& scales, const Tensor& tensor,
                                        const dnnl::memory::desc& plain, const dnnl::memory::desc& packed) {
  if (!tensor.valid()) return absl::UnimplementedError("the weights were released after packing");
  OCTET_ASSIGN_OR_RETURN(NarrowElements elements, ExpandNarrow(weights, scales, tensor.data()));
  if (weights.quant->vector > 1) OCTET_RETURN_IF_ERROR(CheckVectorsAreNeighbours(weights, plain, packed));
  OCTET_ASSIGN_OR_RETURN(const Buffer bytes, ReorderedWeights(plain, reinterpret_cast<const std::byte*>(elements.values.data()), packed));
  CodeSource source;
  source.dtype = weights.dtype;
  source.levels = LevelsOf(weights.dtype, *weights.quant);
  source.vector = weights.quant->vector;
  const int64_t values = PaddedBytes(packed);
  source.tail = absl::MakeConstSpan(bytes.data() + values, static_cast<size_t>(bytes.size_bytes() - values));
  OCTET_ASSIGN_OR_RETURN(source.codes, CodesInPackedOrder(elements.codes, plain, packed));
  if (!elements.multipliers.empty()) {
    OCTET_ASSIGN_OR_RETURN(source.multipliers, InPackedOrder(elements.multipliers, plain, packed));
  }
  if (!elements.zero_points.empty()) {
    OCTET_ASSIGN_OR_RETURN(source.zero_points, InPackedOrder(elements.zero_points, plain, packed));
  }
  const std::optional<ConvPanels> panels = PanelsOf(packed, source);
  if (panels) {
    source.codes = ByColumns(source.codes, *panels);
    source.multipliers = ByColumns(source.multipliers, *panels);
    source.zero_points = ByColumns(source.zero_points, *panels);
    source.columns = panels->columns;
    source.height = panels->height();
  }
  OCTET_ASSIGN_OR_RETURN(PackedWeights out, EncodeStream(source));
  out.layout = absl::StrCat(LayoutString(packed), " ", out.layout);
  out.detail = ConvCodes{packed, std::any_cast<CodeStream>(std::move(out.detail)), panels};
  return out;
}

}  // namespace octet::kernels
