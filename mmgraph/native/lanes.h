// Vectors of the width that the processor has, and squares of numbers on their sides.

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
constexpr int kBlock = 8;  // rows and columns that are transposed together

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

// Rows and columns of 8 x 8 numbers change places: halves, quarters, then lanes do.
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

}  // namespace
