// Discrete Fourier transforms of any length in double.
//
//   out[k] = sum over j of in[j] exp(-2 pi i j k / n)
//
// Mixed radix over the prime factors of n; lengths with a prime factor above kMaxPrime as a
// convolution over powers of two (L. Bluestein, 1970). O(n log n) for every length.
#ifndef OCTET_KERNELS_PLAIN_FFT_H_
#define OCTET_KERNELS_PLAIN_FFT_H_

#include <complex>
#include <cstdint>
#include <memory>
#include <vector>

namespace octet::kernels {

// Immutable after construction; Transform may run on several threads with different memory.
class Fft {
 public:
  using Complex = std::complex<double>;
  static constexpr int64_t kMaxPrime = 61;

  explicit Fft(int64_t n);  // n >= 1

  int64_t size() const { return n_; }
  // Elements of the work memory that Transform wants.
  int64_t work_elements() const;
  // in and out have size() elements and do not overlap each other or `work`; `in` is preserved.
  void Transform(const Complex* in, Complex* out, Complex* work) const;

 private:
  void Recurse(const Complex* in, int64_t stride, Complex* out, int64_t n, size_t factor,
               Complex* work) const;
  void Bluestein(const Complex* in, Complex* out, Complex* work) const;

  int64_t n_;
  std::vector<int64_t> factors_;  // empty with Bluestein
  std::vector<Complex> roots_;    // exp(-2 pi i j / n)
  std::unique_ptr<Fft> padded_;   // of a power of two, with Bluestein
  std::vector<Complex> chirp_;    // exp(-pi i j^2 / n)
  std::vector<Complex> filter_;   // transform of the conjugate chirp, padded
};

}  // namespace octet::kernels

#endif  // OCTET_KERNELS_PLAIN_FFT_H_
