// Segment linear: one affine map for each segment of rows, and its gradients; all
// segments of all members in one call, of any size.
//
// Every product keeps a tile of its result in registers. A row of the result does not
// depend on the number of rows or threads.

#include <algorithm>
#include <vector>

#include "simd.h"

extern "C" struct SegmentLinear {
  int64_t members, types, in, out;  // of weights [members, types, in, out]
  int64_t segments;
  const int64_t *segment;           // [segments, 3]: type, first row, end
  int64_t rows, member_stride;      // of a member; floats from member to member, or 0
  const float *h;                   // [members, rows, in]
  const float *weight, *bias;       // [members, types, in, out], [members, types, out]
};

namespace {

constexpr int kRows = kLanes == 16 ? 12 : 6;  // of a tile: as many as registers hold
constexpr int kVectors = 2;
constexpr int kColumns = kVectors * kLanes;
constexpr int64_t kDepth = 512;  // steps of a panel, so that it fits the cache

// out[i][j] = (add ? out[i][j] : bias[j]) + sum_k left[i][k] right[k][j]
struct Product {
  int64_t rows, depth, columns;
  const float *left;
  int64_t left_row, left_step;  // floats from i to i + 1, and from k to k + 1
  const float *right;
  int64_t right_step;
  bool transposed;  // right is stored as right[j][k], right_step floats apart
  const float *bias;
  float *out;
  int64_t out_row;
  bool add;

  int64_t blocks() const { return (rows + kRows - 1) / kRows; }
};

// A tile of M rows: begin + left right, with begin_row floats between rows of begin.
template <int M>
void multiply(int64_t depth, const float *left, int64_t left_row, int64_t left_step,
              const float *right, int64_t right_step, const float *begin,
              int64_t begin_row, float *out, int64_t out_row) {
  Wide sum[M][kVectors];
  for (int i = 0; i < M; i++)
    for (int v = 0; v < kVectors; v++)
      sum[i][v] = begin ? load<Wide>(begin + i * begin_row + v * kLanes) : Wide{};
  for (int64_t k = 0; k < depth; k++) {
    Wide column[kVectors];
    for (int v = 0; v < kVectors; v++)
      column[v] = load<Wide>(right + k * right_step + v * kLanes);
    for (int i = 0; i < M; i++) {
      const float x = left[i * left_row + k * left_step];
      for (int v = 0; v < kVectors; v++) sum[i][v] += x * column[v];
    }
  }
  for (int i = 0; i < M; i++)
    for (int v = 0; v < kVectors; v++)
      store(out + i * out_row + v * kLanes, sum[i][v]);
}

template <int M, class... Rest> void multiply_rows(int rows, Rest... rest) {
  if (rows == M) return multiply<M>(rest...);
  if constexpr (M > 1) return multiply_rows<M - 1>(rows, rest...);
}

// Packs right, from column `first` and step `from` on, as [depth, kColumns].
void pack(const Product &p, int64_t first, int count, int64_t from, int64_t depth,
          float *panel) {
  if (!p.transposed) {
    for (int64_t k = 0; k < depth; k++) {
      const float *row = p.right + (from + k) * p.right_step + first;
      for (int j = 0; j < kColumns; j++) panel[k * kColumns + j] = j < count ? row[j] : 0;
    }
    return;
  }
  const int64_t whole = depth / kBlock * kBlock;
  for (int j = 0; j < kColumns; j += kBlock) {
    const int rows = std::clamp(count - j, 0, kBlock);
    const float *column[kBlock];
    for (int i = 0; i < rows; i++)
      column[i] = p.right + (first + j + i) * p.right_step + from;
    for (int64_t k = 0; k < whole; k += kBlock) {
      transpose(column, rows, panel + k * kColumns + j, kColumns);
      for (int i = 0; i < rows; i++) column[i] += kBlock;
    }
    for (int64_t k = whole; k < depth; k++)
      for (int i = 0; i < kBlock; i++)
        panel[k * kColumns + j + i] = i < rows ? column[i][k - whole] : 0;
  }
}

// Computes the blocks of rows from `low` to `high` of a product.
void run(const Product &p, int64_t low, int64_t high, std::vector<float> &panel) {
  if (low >= high) return;
  panel.resize(kDepth * kColumns);
  for (int64_t first = 0; first < p.columns; first += kColumns) {
    const int count = static_cast<int>(std::min<int64_t>(p.columns - first, kColumns));
    const bool whole = count == kColumns;
    float bias[kColumns] = {}, tile[kRows * kColumns];
    if (p.bias) std::copy(p.bias + first, p.bias + first + count, bias);
    for (int64_t from = 0; from == 0 || from < p.depth; from += kDepth) {
      const int64_t depth = std::min(p.depth - from, kDepth);
      const float *right = p.right + from * p.right_step + first;
      int64_t step = p.right_step;
      if (p.transposed || !whole) {
        pack(p, first, count, from, depth, panel.data());
        right = panel.data();
        step = kColumns;
      }
      const bool accumulate = p.add || from > 0;
      for (int64_t block = low; block < high; block++) {
        const int64_t row = block * kRows;
        const int rows = static_cast<int>(std::min<int64_t>(p.rows - row, kRows));
        const float *left = p.left + row * p.left_row + from * p.left_step;
        float *out = p.out + row * p.out_row + first;
        if (whole) {
          multiply_rows<kRows>(rows, depth, left, p.left_row, p.left_step, right, step,
                               accumulate ? out : bias, accumulate ? p.out_row : 0,
                               out, p.out_row);
          continue;
        }
        for (int i = 0; i < rows; i++)
          for (int j = 0; j < kColumns; j++)
            tile[i * kColumns + j] =
                accumulate && j < count ? out[i * p.out_row + j] : bias[j];
        multiply_rows<kRows>(rows, depth, left, p.left_row, p.left_step, right, step,
                             tile, kColumns, tile, kColumns);
        for (int i = 0; i < rows; i++)
          std::copy(tile + i * kColumns, tile + i * kColumns + count,
                    out + i * p.out_row);
      }
    }
  }
}

// Computes all products; each thread gets an equal share, in whole blocks of rows.
void run_all(const std::vector<Product> &products, int threads) {
  int64_t total = 0;
  for (const Product &p : products) total += p.blocks() * (p.depth + 1) * p.columns;
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
  for (int part = 0; part < threads; part++) {
    std::vector<float> panel;
    const int64_t begin = total * part / threads, end = total * (part + 1) / threads;
    int64_t done = 0;
    for (const Product &p : products) {
      const int64_t unit = (p.depth + 1) * p.columns;
      const auto block = [&](int64_t work) {
        return std::clamp<int64_t>((work - done + unit - 1) / unit, 0, p.blocks());
      };
      run(p, block(begin), block(end), panel);
      done += p.blocks() * unit;
    }
  }
}

}  // namespace

extern "C" {

// Hash of the sources, by which stale libraries are recognized.
const char *compiled_from() { return MMGRAPH_SOURCES; }

// Maps segment after segment of every member: table is [members, mapped, out].
void segment_linear_forward(const SegmentLinear *m, float *table, int64_t mapped,
                            int threads) {
  std::vector<Product> products;
  for (int64_t e = 0; e < m->members; e++) {
    float *to = table + e * mapped * m->out;
    for (int64_t r = 0; r < m->segments; r++) {
      const int64_t *segment = m->segment + 3 * r, rows = segment[2] - segment[1];
      const int64_t type = e * m->types + segment[0];
      const float *from = m->h + e * m->member_stride + segment[1] * m->in;
      products.push_back({rows, m->in, m->out, from, m->in, 1,
                          m->weight + type * m->in * m->out, m->out, false,
                          m->bias + type * m->out, to, m->out, false});
      to += rows * m->out;
    }
  }
  run_all(products, threads);
}

// Gradients of weight and bias, and of h unless `h_gradient` is null. Segments whose
// flag in `add` is set are added to it, others overwrite it.
void segment_linear_backward(const SegmentLinear *m, const float *gradient,
                             int64_t mapped, float *h_gradient,
                   const uint8_t *add, float *weight, float *bias, int threads) {
  static const float one = 1;
  std::vector<Product> products;
  for (int64_t e = 0; e < m->members; e++) {
    const float *part = gradient + e * mapped * m->out;
    for (int64_t r = 0; r < m->segments; r++) {
      const int64_t *segment = m->segment + 3 * r, rows = segment[2] - segment[1];
      const int64_t type = e * m->types + segment[0], at = type * m->in * m->out;
      const float *from = m->h + e * m->member_stride + segment[1] * m->in;
      products.push_back({m->in, rows, m->out, from, 1, m->in, part, m->out, false,
                          nullptr, weight + at, m->out, false});
      products.push_back({1, rows, m->out, &one, 0, 0, part, m->out, false, nullptr,
                          bias + type * m->out, m->out, false});
      if (h_gradient)
        products.push_back({rows, m->out, m->in, part, m->out, 1, m->weight + at,
                            m->out, true, nullptr,
                            h_gradient + (e * m->rows + segment[1]) * m->in, m->in,
                            add[r] != 0});
      part += rows * m->out;
    }
  }
  run_all(products, threads);
}
}
