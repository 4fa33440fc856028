// SIMD vectors of the processor's width, and operations on them.

#pragma once

#include <cstdint>
#include <cstring>

namespace {

#if defined(__AVX512F__)
constexpr int kLanes = 16;
#elif defined(__AVX__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif
constexpr int kBlock = 8;  // rows and columns of a transposed block

typedef float Sixteen __attribute__((vector_size(64)));
typedef float Eight __attribute__((vector_size(32)));
typedef float Four __attribute__((vector_size(16)));
typedef float Wide __attribute__((vector_size(4 * kLanes)));
typedef int32_t Bits __attribute__((vector_size(4 * kLanes)));

template <class V> inline V load(const float *from) {
  V value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

template <class V> inline void store(float *to, V value) {
  std::memcpy(to, &value, sizeof value);
}

// Transposes a block of 8 x 8 numbers: swaps halves, quarters, then single lanes.
inline void transpose(const float *const *from, int rows, float *to, int64_t stride) {
#if defined(__AVX__)
  Eight row[kBlock] = {};
  for (int i = 0; i < rows; i++) row[i] = load<Eight>(from[i]);
  for (int i = 0; i < 4; i++) {
    const Eight a = row[i], b = row[i + 4];
    row[i] = __builtin_shufflevector(a, b, 0, 1, 2, 3, 8, 9, 10, 11);
    row[i + 4] = __builtin_shufflevector(a, b, 4, 5, 6, 7, 12, 13, 14, 15);
  }
  for (int i : {0, 1, 4, 5}) {
    const Eight a = row[i], b = row[i + 2];
    row[i] = __builtin_shufflevector(a, b, 0, 1, 8, 9, 4, 5, 12, 13);
    row[i + 2] = __builtin_shufflevector(a, b, 2, 3, 10, 11, 6, 7, 14, 15);
  }
  for (int i : {0, 2, 4, 6}) {
    const Eight a = row[i], b = row[i + 1];
    row[i] = __builtin_shufflevector(a, b, 0, 8, 2, 10, 4, 12, 6, 14);
    row[i + 1] = __builtin_shufflevector(a, b, 1, 9, 3, 11, 5, 13, 7, 15);
  }
  for (int i = 0; i < kBlock; i++) store(to + i * stride, row[i]);
#else
  for (int i = 0; i < kBlock; i++)
    for (int j = 0; j < kBlock; j++) to[i * stride + j] = j < rows ? from[j][i] : 0;
#endif
}

// Halves of a vector; for four lanes, the lanes with swapped halves and pairs.
inline Eight low(Sixteen x) {
  return __builtin_shufflevector(x, x, 0, 1, 2, 3, 4, 5, 6, 7);
}
inline Eight high(Sixteen x) {
  return __builtin_shufflevector(x, x, 8, 9, 10, 11, 12, 13, 14, 15);
}
inline Four low(Eight x) { return __builtin_shufflevector(x, x, 0, 1, 2, 3); }
inline Four high(Eight x) { return __builtin_shufflevector(x, x, 4, 5, 6, 7); }
inline Four far(Four x) { return __builtin_shufflevector(x, x, 2, 3, 0, 1); }
inline Four near(Four x) { return __builtin_shufflevector(x, x, 1, 0, 3, 2); }

// Reduces all lanes to one number by a function of two vectors.
template <class V, class F> inline float reduce(V x, F f) {
  if constexpr (sizeof(V) == sizeof(Four)) {
    x = f(x, far(x));
    return f(x, near(x))[0];
  } else {
    return reduce(f(low(x), high(x)), f);
  }
}

template <class V> inline float add_up(V x) {
  return reduce(x, [](auto a, auto b) { return a + b; });
}

inline float largest(Wide x) {
  return reduce(x, [](auto a, auto b) { return a > b ? a : b; });
}

// exp(x) for x <= 0, zero below -80: 2^n times a Taylor series of the remainder, whose
// first omitted term is below 1e-8.
inline Wide exponential(Wide x) {
  const float round = 12582912.0f;  // 1.5 * 2^23: adding it rounds to integers
  const Wide shifted = x * 1.44269504f + round;
  const Wide n = shifted - round;
  const Wide rest = (x - n * 0.693359375f) + n * 2.12194440e-4f;  // ln 2 in two parts
  Wide series = rest * (1.0f / 5040) + 1.0f / 720;
  series = series * rest + 1.0f / 120;
  series = series * rest + 1.0f / 24;
  series = series * rest + 1.0f / 6;
  series = series * rest + 0.5f;
  series = series * rest + 1.0f;
  series = series * rest + 1.0f;
  Bits power, result;
  std::memcpy(&power, &shifted, sizeof power);
  std::memcpy(&result, &series, sizeof result);
  result += power << 23;
  result = (x < -80.0f) ? Bits{} : result;
  Wide value;
  std::memcpy(&value, &result, sizeof value);
  return value;
}

}  // namespace
