// Wire format over slices.
#include "server/wire.h"

#include <algorithm>
#include <cstring>

namespace octet::server {

WireReader::WireReader(absl::Span<const ByteSpan> slices) : slices_(slices) {
  for (const ByteSpan& slice : slices) remaining_ += static_cast<int64_t>(slice.size());
}

// Requires: bytes <= remaining_.
void WireReader::Advance(int64_t bytes) {
  remaining_ -= bytes;
  offset_ += bytes;
  auto left = static_cast<size_t>(bytes);
  while (left > 0) {
    const size_t here = std::min(left, slices_[slice_].size() - position_);
    position_ += here;
    left -= here;
    if (position_ == slices_[slice_].size()) {
      ++slice_;
      position_ = 0;
    }
  }
}

void WireReader::CopyTo(std::byte* dst, int64_t bytes) {
  remaining_ -= bytes;
  offset_ += bytes;
  auto left = static_cast<size_t>(bytes);
  while (left > 0) {
    const size_t here = std::min(left, slices_[slice_].size() - position_);
    if (here > 0) std::memcpy(dst, slices_[slice_].data() + position_, here);
    dst += here;
    position_ += here;
    left -= here;
    if (position_ == slices_[slice_].size()) {
      ++slice_;
      position_ = 0;
    }
  }
}

bool WireReader::Take(std::byte* dst, int64_t bytes) {
  if (bytes > remaining_) return false;
  CopyTo(dst, bytes);
  return true;
}

bool WireReader::ReadVarint(uint64_t* value) {
  uint64_t result = 0;
  for (int shift = 0; shift < 70; shift += 7) {
    if (remaining_ == 0) return false;
    while (position_ == slices_[slice_].size()) {  // an empty slice
      ++slice_;
      position_ = 0;
    }
    const auto byte = static_cast<uint64_t>(slices_[slice_][position_]);
    ++position_;
    ++offset_;
    --remaining_;
    if (position_ == slices_[slice_].size()) {
      ++slice_;
      position_ = 0;
    }
    if (shift == 63 && byte > 1) return false;  // more than 64 bits
    result |= (byte & 0x7f) << shift;
    if ((byte & 0x80) == 0) {
      *value = result;
      return true;
    }
  }
  return false;
}

bool WireReader::ReadTag(uint32_t* field, WireType* type) {
  uint64_t tag = 0;
  if (!ReadVarint(&tag) || tag > 0xffffffffu || (tag >> 3) == 0) return false;
  *field = static_cast<uint32_t>(tag >> 3);
  switch (tag & 7) {
    case 0:
    case 1:
    case 2:
    case 5:
      *type = static_cast<WireType>(tag & 7);
      return true;
    default:
      return false;
  }
}

bool WireReader::ReadFixed32(uint32_t* value) {
  return Take(reinterpret_cast<std::byte*>(value), sizeof(*value));
}

bool WireReader::ReadFixed64(uint64_t* value) {
  return Take(reinterpret_cast<std::byte*>(value), sizeof(*value));
}

bool WireReader::ReadRange(WireReader* range) {
  uint64_t length = 0;
  if (!ReadVarint(&length) || length > static_cast<uint64_t>(remaining_)) return false;
  *range = *this;
  range->remaining_ = static_cast<int64_t>(length);
  Advance(static_cast<int64_t>(length));
  return true;
}

bool WireReader::ReadString(int64_t max_bytes, std::string* value) {
  WireReader range;
  if (!ReadRange(&range) || range.remaining() > max_bytes) return false;
  value->resize(static_cast<size_t>(range.remaining()));
  range.CopyTo(reinterpret_cast<std::byte*>(value->data()), range.remaining());
  return IsValidUtf8(*value);
}

bool WireReader::ReadPieces(std::vector<ByteSpan>* pieces, int64_t* size_bytes) {
  WireReader range;
  if (!ReadRange(&range)) return false;
  *size_bytes = range.remaining_;
  pieces->clear();
  auto left = static_cast<size_t>(range.remaining_);
  for (size_t slice = range.slice_, position = range.position_; left > 0; ++slice, position = 0) {
    const size_t here = std::min(left, range.slices_[slice].size() - position);
    if (here > 0) pieces->push_back(range.slices_[slice].subspan(position, here));
    left -= here;
  }
  return true;
}

bool WireReader::SkipValue(WireType type) {
  WireReader range;
  uint64_t value = 0;
  uint32_t value32 = 0;
  switch (type) {
    case WireType::kVarint:
      return ReadVarint(&value);
    case WireType::kFixed64:
      return ReadFixed64(&value);
    case WireType::kLength:
      return ReadRange(&range);
    case WireType::kFixed32:
      return ReadFixed32(&value32);
  }
  return false;
}

bool IsValidUtf8(absl::string_view text) {
  size_t i = 0;
  while (i < text.size()) {
    const auto lead = static_cast<unsigned char>(text[i]);
    int more = 0;
    uint32_t point = 0;
    uint32_t smallest = 0;
    if (lead < 0x80) {
      ++i;
      continue;
    }
    if ((lead & 0xe0) == 0xc0) {
      more = 1, point = lead & 0x1fu, smallest = 0x80;
    } else if ((lead & 0xf0) == 0xe0) {
      more = 2, point = lead & 0x0fu, smallest = 0x800;
    } else if ((lead & 0xf8) == 0xf0) {
      more = 3, point = lead & 0x07u, smallest = 0x10000;
    } else {
      return false;
    }
    if (text.size() - i <= static_cast<size_t>(more)) return false;
    for (int k = 1; k <= more; ++k) {
      const auto next = static_cast<unsigned char>(text[i + static_cast<size_t>(k)]);
      if ((next & 0xc0) != 0x80) return false;
      point = (point << 6) | (next & 0x3fu);
    }
    if (point < smallest || point > 0x10ffff || (point >= 0xd800 && point < 0xe000)) return false;
    i += static_cast<size_t>(more) + 1;
  }
  return true;
}

int64_t VarintSize(uint64_t value) {
  int64_t size = 1;
  while (value >= 0x80) {
    value >>= 7;
    ++size;
  }
  return size;
}

std::byte* PutVarint(std::byte* dst, uint64_t value) {
  while (value >= 0x80) {
    *dst++ = static_cast<std::byte>(value | 0x80);
    value >>= 7;
  }
  *dst++ = static_cast<std::byte>(value);
  return dst;
}

std::byte* PutLengthHeader(std::byte* dst, uint32_t field, int64_t payload_bytes) {
  dst = PutVarint(dst, (field << 3) | static_cast<uint32_t>(WireType::kLength));
  return PutVarint(dst, static_cast<uint64_t>(payload_bytes));
}

std::byte* PutString(std::byte* dst, uint32_t field, absl::string_view value) {
  dst = PutLengthHeader(dst, field, static_cast<int64_t>(value.size()));
  if (!value.empty()) std::memcpy(dst, value.data(), value.size());
  return dst + value.size();
}

}  // namespace octet::server
