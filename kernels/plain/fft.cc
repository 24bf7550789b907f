// Mixed-radix and Bluestein transforms.
#include "kernels/plain/fft.h"

#include <algorithm>
#include <numbers>

namespace octet::kernels {
namespace {

std::vector<int64_t> PrimeFactors(int64_t n) {
  std::vector<int64_t> factors;
  for (int64_t p = 2; p * p <= n; ++p) {
    for (; n % p == 0; n /= p) factors.push_back(p);
  }
  if (n > 1) factors.push_back(n);
  return factors;
}

}  // namespace

Fft::Fft(int64_t n) : n_(n), factors_(PrimeFactors(n)) {
  constexpr double kPi = std::numbers::pi;
  if (factors_.empty() || factors_.back() <= kMaxPrime) {
    for (int64_t j = 0; j < n; ++j) {
      roots_.push_back(std::polar(1.0, -2 * kPi * static_cast<double>(j) / static_cast<double>(n)));
    }
    return;
  }
  factors_.clear();
  int64_t size = 1;
  while (size < 2 * n - 1) size *= 2;
  padded_ = std::make_unique<Fft>(size);
  int64_t square = 0;  // j^2 mod 2n
  for (int64_t j = 0; j < n; ++j) {
    chirp_.push_back(std::polar(1.0, -kPi * static_cast<double>(square) / static_cast<double>(n)));
    square = (square + 2 * j + 1) % (2 * n);
  }
  std::vector<Complex> kernel(static_cast<size_t>(size)),
      work(static_cast<size_t>(padded_->work_elements()));
  for (int64_t j = 0; j < n; ++j) {
    kernel[static_cast<size_t>(j)] = std::conj(chirp_[static_cast<size_t>(j)]);
    if (j > 0) kernel[static_cast<size_t>(size - j)] = std::conj(chirp_[static_cast<size_t>(j)]);
  }
  filter_.resize(static_cast<size_t>(size));
  padded_->Transform(kernel.data(), filter_.data(), work.data());
}

int64_t Fft::work_elements() const {
  if (padded_ != nullptr) return 2 * padded_->size() + padded_->work_elements();
  return factors_.empty() ? 1 : factors_.back();
}

void Fft::Transform(const Complex* in, Complex* out, Complex* work) const {
  if (padded_ != nullptr) return Bluestein(in, out, work);
  Recurse(in, 1, out, n_, 0, work);
}

// Decimation in time: the n / p elements at stride p of each residue, then a butterfly of p.
void Fft::Recurse(const Complex* in, int64_t stride, Complex* out, int64_t n, size_t factor,
                  Complex* work) const {
  if (n == 1) {
    *out = *in;
    return;
  }
  const int64_t p = factors_[factor], m = n / p, root_step = n_ / n;
  for (int64_t r = 0; r < p; ++r)
    Recurse(in + r * stride, stride * p, out + r * m, m, factor + 1, work);
  const Complex* roots = roots_.data();
  if (p == 2) {
    for (int64_t k = 0; k < m; ++k) {
      const Complex w = roots[k * root_step], odd = out[m + k];
      const Complex t(odd.real() * w.real() - odd.imag() * w.imag(),
                      odd.real() * w.imag() + odd.imag() * w.real());
      out[m + k] = out[k] - t;
      out[k] += t;
    }
    return;
  }
  for (int64_t k = 0; k < m; ++k) {
    for (int64_t r = 0; r < p; ++r) work[r] = out[r * m + k] * roots[r * k * root_step];
    for (int64_t q = 0; q < p; ++q) {
      Complex sum = work[0];
      for (int64_t r = 1; r < p; ++r) sum += work[r] * roots[r * q % p * (n_ / p)];
      out[q * m + k] = sum;
    }
  }
}

void Fft::Bluestein(const Complex* in, Complex* out, Complex* work) const {
  const int64_t size = padded_->size();
  Complex* a = work;
  Complex* b = work + size;
  Complex* rest = work + 2 * size;
  for (int64_t j = 0; j < n_; ++j) a[j] = in[j] * chirp_[static_cast<size_t>(j)];
  std::fill(a + n_, a + size, Complex());
  padded_->Transform(a, b, rest);
  // The inverse transform is the conjugate of the transform of the conjugate, over size.
  for (int64_t j = 0; j < size; ++j) b[j] = std::conj(b[j] * filter_[static_cast<size_t>(j)]);
  padded_->Transform(b, a, rest);
  for (int64_t k = 0; k < n_; ++k) {
    out[k] = std::conj(a[k]) / static_cast<double>(size) * chirp_[static_cast<size_t>(k)];
  }
}

}  // namespace octet::kernels
