// Attention of every sample's targets over its sources, on tables of packed rows.
//
// For target row i and source row j of one sample, connected by relation r, per head:
//   l_ij = <q_i, k_j> / sqrt(width) + bias[r]
//   a_ij = exp l_ij / (exp sink[type of i] + sum_j' exp l_ij'),  out_i = sum_j a_ij v_j
// A target without sources receives zero. Nothing is stored per pair: the backward pass
// recomputes the weights from the largest logit and the denominator of each target and
// head, as in FlashAttention (Dao, Fu, Ermon, Rudra, Re, 2022).
//
// Letters: n sources and m targets of the current sample, c channels of a head. The
// scores of a target occupy `padded` lanes: n sources, the sink, then -inf.

#include <algorithm>
#include <cmath>
#include <type_traits>
#include <vector>

#include "simd.h"

extern "C" struct Attention {
  int64_t members, samples, target_types, source_types, relations, sinks, heads, width;
  int64_t num_targets, num_sources;        // rows of each table
  int64_t query_stride, source_stride;     // floats from row to row
  const float *query, *key, *value;        // [members, rows, heads, width]
  const int64_t *target_bounds, *source_bounds;  // [types, samples + 1]: first rows
  const int64_t *relation;                 // [target types, source types], -1: none
  const int64_t *sink_row;                 // [target types]: index of the sink
  const float *bias;                       // [members, relations, heads]
  const float *sink;                       // [members, sinks, heads], or null
  const uint8_t *receive_only;             // [source rows]: does not send; or null
};

namespace {

constexpr int kPad = kLanes < kBlock ? kBlock : kLanes;
constexpr int kTile = 8;      // targets computed together
constexpr int64_t kFew = 64;  // pairs below which transposing the keys does not pay
constexpr float kNever = -INFINITY;

// Calls f with the number of rows as a constant, so that its loops unroll.
template <class F> inline void unrolled(int rows, F f) {
  switch (rows) {
    case 1: return f(std::integral_constant<int, 1>());
    case 2: return f(std::integral_constant<int, 2>());
    case 3: return f(std::integral_constant<int, 3>());
    case 4: return f(std::integral_constant<int, 4>());
    case 5: return f(std::integral_constant<int, 5>());
    case 6: return f(std::integral_constant<int, 6>());
    case 7: return f(std::integral_constant<int, 7>());
    default: return f(std::integral_constant<int, kTile>());
  }
}

using Rows = const float *const *;

// out[i][j] = <a_i, b_j> for columns b_j, which lie as a [width, padded] table.
void multiply(int m, int64_t width, int64_t padded, Rows a, const float *columns,
              float *out) {
  unrolled(m, [&](auto rows) {
    for (int64_t j = 0; j < padded; j += kLanes) {
      Wide sum[rows] = {};
      for (int64_t c = 0; c < width; c++) {
        const Wide column = load<Wide>(columns + c * padded + j);
        for (int i = 0; i < rows; i++) sum[i] += a[i][c] * column;
      }
      for (int i = 0; i < rows; i++) store(out + i * padded + j, sum[i]);
    }
  });
}

// The same for few rows b, without transposing them.
template <class V>
void multiply_few(int m, int64_t width, int64_t n, int64_t padded, Rows a, Rows b,
                  float *out) {
  constexpr int lanes = sizeof(V) / sizeof(float);
  for (int i = 0; i < m; i++) {
    for (int64_t j = n; j < padded; j++) out[i * padded + j] = 0;
    for (int64_t j = 0; j < n; j++) {
      V sum = {};
      for (int64_t c = 0; c < width; c += lanes)
        sum += load<V>(a[i] + c) * load<V>(b[j] + c);
      out[i * padded + j] = add_up(sum);
    }
  }
}

// out_i = sum_j weight[i][j] b_j
template <class V>
void mix(int m, int64_t width, int64_t n, int64_t padded, const float *weight, Rows b,
         float *const *out) {
  constexpr int lanes = sizeof(V) / sizeof(float);
  unrolled(m, [&](auto rows) {
    for (int64_t c = 0; c < width; c += lanes) {
      V sum[rows] = {};
      for (int64_t j = 0; j < n; j++) {
        const V row = load<V>(b[j] + c);
        for (int i = 0; i < rows; i++) sum[i] += weight[i * padded + j] * row;
      }
      for (int i = 0; i < rows; i++) store(out[i] + c, sum[i]);
    }
  });
}

// out_j += sum_i weight[i][j] a_i
template <class V>
void spread(int m, int64_t width, int64_t n, int64_t padded, const float *weight,
            Rows a, float *const *out) {
  constexpr int lanes = sizeof(V) / sizeof(float);
  unrolled(m, [&](auto rows) {
    for (int64_t c = 0; c < width; c += lanes) {
      V row[rows];
      for (int i = 0; i < rows; i++) row[i] = load<V>(a[i] + c);
      for (int64_t j = 0; j < n; j++) {
        V sum = load<V>(out[j] + c);
        for (int i = 0; i < rows; i++) sum += weight[i * padded + j] * row[i];
        store(out[j] + c, sum);
      }
    }
  });
}

// The rows of one sample: their indices in the table, and their types.
struct Side {
  std::vector<int64_t> row;
  std::vector<int32_t> type;

  void list(int64_t types, int64_t samples, int64_t sample, const int64_t *bounds,
            const uint8_t *receive_only) {
    row.clear();
    type.clear();
    for (int64_t t = 0; t < types; t++) {
      const int64_t *first = bounds + t * (samples + 1) + sample;
      for (int64_t r = first[0]; r < first[1]; r++) {
        if (receive_only && receive_only[r]) continue;
        row.push_back(r);
        type.push_back(static_cast<int32_t>(t));
      }
    }
  }
};

// Working memory of one thread for one member and sample, head after head.
template <class V> class Sample {
 public:
  explicit Sample(const Attention &attention) : p(attention) {}

  void take(int64_t number) {
    member = number / p.samples;
    const int64_t sample = number % p.samples;
    targets.list(p.target_types, p.samples, sample, p.target_bounds, nullptr);
    sources.list(p.source_types, p.samples, sample, p.source_bounds, p.receive_only);
    m = static_cast<int64_t>(targets.row.size());
    n = static_cast<int64_t>(sources.row.size());
    padded = (n + 1 + kPad - 1) / kPad * kPad;
    few = m * n <= kFew;
    point(targets, p.num_targets, p.query_stride, p.query, query);
    point(sources, p.num_sources, p.source_stride, p.key, key);
    point(sources, p.num_sources, p.source_stride, p.value, value);
    const size_t area = static_cast<size_t>(kTile * padded);
    weights.resize(area);
    changes.resize(area);
    offset.resize(padded);
    offset_sum.resize(padded);
  }

  void forward(float *out, float *peak, float *inverse) {
    const std::vector<float *> &to = target_out;
    point(targets, p.num_targets, p.heads * p.width, out, target_out);
    for (head = 0; head < p.heads; head++) {
      begin();
      for (int64_t first = 0; first < m; first += kTile) {
        const int rows = tile(first);
        score(rows, first);
        for (int i = 0; i < rows; i++) {
          const int64_t at = cell(first + i);
          peak[at] = normalise(&weights[i * padded], &inverse[at]);
        }
        mix<V>(rows, p.width, n, padded, weights.data(), value.data(), &to[first]);
      }
      move_on(target_out);
      end();
    }
  }

  void backward(const float *gradient, const float *peak, const float *inverse,
                float *query_out, float *key_out, float *value_out, float *bias_out,
                float *sink_out) {
    point(targets, p.num_targets, p.heads * p.width, gradient, gradient_rows);
    point(targets, p.num_targets, p.query_stride, query_out, target_out);
    point(sources, p.num_sources, p.source_stride, key_out, key_to);
    point(sources, p.num_sources, p.source_stride, value_out, value_to);
    for (head = 0; head < p.heads; head++) {
      begin();
      if (!few) lay_columns(value, value_columns);
      for (int64_t first = 0; first < m; first += kTile) {
        const int rows = tile(first);
        score(rows, first);
        products(rows, &gradient_rows[first], value, value_columns, changes.data());
        for (int i = 0; i < rows; i++) {
          turn(targets.type[first + i], bias_out, sink_out);
          const int64_t at = cell(first + i);
          derive(&weights[i * padded], &changes[i * padded], peak[at], inverse[at]);
        }
        mix<V>(rows, p.width, n, padded, changes.data(), key.data(),
               &target_out[first]);
        spread<V>(rows, p.width, n, padded, changes.data(), &query[first],
                  key_to.data());
        spread<V>(rows, p.width, n, padded, weights.data(), &gradient_rows[first],
                  value_to.data());
      }
      turn(-1, bias_out, sink_out);
      move_on(gradient_rows);
      move_on(target_out);
      move_on(key_to);
      move_on(value_to);
      end();
    }
  }

 private:
  const Attention &p;
  Side targets, sources;
  int64_t member, head, m, n, padded;
  bool few;
  int32_t type;  // of the target whose offsets are loaded
  std::vector<const float *> query, key, value, gradient_rows;
  std::vector<float *> target_out, key_to, value_to;
  std::vector<float> key_columns, value_columns;
  std::vector<float> weights, changes;    // [kTile, padded]
  std::vector<float> offset, offset_sum;  // [padded]: bias of each source, then sink

  int tile(int64_t first) const {
    return static_cast<int>(m - first < kTile ? m - first : kTile);
  }

  int64_t cell(int64_t i) const {
    return (member * p.num_targets + targets.row[i]) * p.heads + head;
  }

  int64_t sink_cell(int32_t target_type) const {
    return (member * p.sinks + p.sink_row[target_type]) * p.heads + head;
  }

  template <class T>
  void point(const Side &side, int64_t rows, int64_t stride, T *table,
             std::vector<T *> &to) {
    to.resize(side.row.size());
    T *first = table + member * rows * stride;
    for (size_t i = 0; i < to.size(); i++) to[i] = first + side.row[i] * stride;
  }

  template <class T> void move_on(std::vector<T *> &rows) {
    for (T *&row : rows) row += p.width;
  }

  void end() {
    move_on(query);
    move_on(key);
    move_on(value);
  }

  void begin() {
    type = -1;
    if (!few) lay_columns(key, key_columns);
  }

  void lay_columns(const std::vector<const float *> &rows, std::vector<float> &columns) {
    columns.resize(p.width * padded);
    for (int64_t j = 0; j < padded; j += kBlock) {
      const int count = static_cast<int>(std::clamp<int64_t>(n - j, 0, kBlock));
      const float *block[kBlock];
      for (int i = 0; i < count; i++) block[i] = rows[j + i];
      for (int64_t c = 0; c < p.width; c += kBlock) {
        transpose(block, count, &columns[c * padded + j], padded);
        for (int i = 0; i < count; i++) block[i] += kBlock;
      }
    }
  }

  void products(int rows, Rows left, const std::vector<const float *> &right,
                const std::vector<float> &columns, float *out) {
    if (few)
      multiply_few<V>(rows, p.width, n, padded, left, right.data(), out);
    else
      multiply(rows, p.width, padded, left, columns.data(), out);
  }

  void set_offsets(int32_t target_type) {
    type = target_type;
    const int64_t *relation = p.relation + type * p.source_types;
    const float *bias = p.bias + member * p.relations * p.heads + head;
    for (int64_t j = 0; j < n; j++) {
      const int64_t r = relation[sources.type[j]];
      offset[j] = r < 0 ? kNever : bias[r * p.heads];
    }
    for (int64_t j = n; j < padded; j++) offset[j] = kNever;
    if (p.sink) offset[n] = p.sink[sink_cell(type)];
  }

  // Logits of a tile, in `weights`.
  void score(int rows, int64_t first) {
    const float scale = 1 / std::sqrt(static_cast<float>(p.width));
    products(rows, &query[first], key, key_columns, weights.data());
    for (int i = 0; i < rows; i++) {
      if (targets.type[first + i] != type) set_offsets(targets.type[first + i]);
      float *row = &weights[i * padded];
      for (int64_t j = 0; j < padded; j += kLanes)
        store(row + j, load<Wide>(row + j) * scale + load<Wide>(&offset[j]));
    }
  }

  // Softmax in place; returns the peak.
  float normalise(float *row, float *inverse) {
    Wide high = load<Wide>(row), total = {};
    for (int64_t j = kLanes; j < padded; j += kLanes) {
      const Wide x = load<Wide>(row + j);
      high = (x > high) ? x : high;
    }
    float peak = largest(high);
    if (peak == kNever) peak = 0;
    for (int64_t j = 0; j < padded; j += kLanes) {
      const Wide weight = exponential(load<Wide>(row + j) - peak);
      store(row + j, weight);
      total += weight;
    }
    const float sum = add_up(total);
    *inverse = sum == 0 ? 0 : 1 / sum;
    for (int64_t j = 0; j < padded; j += kLanes)
      store(row + j, load<Wide>(row + j) * *inverse);
    return peak;
  }

  // Turns logits into weights, and gradients of weights into those of products.
  void derive(float *row, float *change, float peak, float inverse) {
    const float scale = 1 / std::sqrt(static_cast<float>(p.width));
    Wide total = {};
    for (int64_t j = 0; j < padded; j += kLanes) {
      const Wide weight = exponential(load<Wide>(row + j) - peak) * inverse;
      store(row + j, weight);
      total += weight * load<Wide>(change + j);
    }
    const float mean = add_up(total);
    for (int64_t j = 0; j < padded; j += kLanes) {
      const Wide logit = load<Wide>(row + j) * (load<Wide>(change + j) - mean);
      store(&offset_sum[j], load<Wide>(&offset_sum[j]) + logit);
      store(change + j, logit * scale);
    }
  }

  int32_t summed = -1;  // type of the targets in offset_sum

  // Adds the sums to the gradients of bias and sink when the target type changes.
  void turn(int32_t target_type, float *bias_out, float *sink_out) {
    if (target_type == summed) return;
    if (summed >= 0) {
      const int64_t *relation = p.relation + summed * p.source_types;
      float *bias = bias_out + member * p.relations * p.heads + head;
      for (int64_t j = 0; j < n; j++) {
        const int64_t r = relation[sources.type[j]];
        if (r >= 0) bias[r * p.heads] += offset_sum[j];
      }
      if (p.sink) sink_out[sink_cell(summed)] += offset_sum[n];
    }
    summed = target_type;
    std::fill(offset_sum.begin(), offset_sum.end(), 0.0f);
  }
};

// The vectors into which a head is split: its width is a multiple of 8.
using Narrow = std::conditional_t<(kLanes > 8), Eight, Wide>;

template <class V>
void forward(const Attention &p, float *out, float *peak, float *inverse, int threads) {
#pragma omp parallel num_threads(threads) if (threads > 1)
  {
    Sample<V> sample(p);
#pragma omp for schedule(static)
    for (int64_t x = 0; x < p.members * p.samples; x++) {
      sample.take(x);
      sample.forward(out, peak, inverse);
    }
  }
}

template <class V>
void backward(const Attention &p, const float *gradient, const float *peak,
              const float *inverse, float *query, float *key, float *value, float *bias,
              float *sink, int threads) {
  const int64_t work = p.members * p.samples, share = (work + threads - 1) / threads;
  const int64_t pairs = p.members * p.relations * p.heads;
  const int64_t sinks = p.members * p.sinks * p.heads;
  std::vector<float> sums(threads * (pairs + sinks));
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
  for (int part = 0; part < threads; part++) {
    Sample<V> sample(p);
    float *mine = &sums[part * (pairs + sinks)];
    const int64_t end = (part + 1) * share < work ? (part + 1) * share : work;
    for (int64_t x = part * share; x < end; x++) {
      sample.take(x);
      sample.backward(gradient, peak, inverse, query, key, value, mine, mine + pairs);
    }
  }
  for (int part = 0; part < threads; part++) {
    const float *mine = &sums[part * (pairs + sinks)];
    for (int64_t i = 0; i < pairs; i++) bias[i] += mine[i];
    for (int64_t i = 0; i < sinks; i++) sink[i] += mine[pairs + i];
  }
}

}  // namespace

extern "C" {

// Width must be a multiple of 8. The caller initializes the gradients of sources, bias
// and sink to zero.
void attention_forward(const Attention *p, float *out, float *peak, float *inverse,
                       int threads) {
  if (p->width % kLanes)
    forward<Narrow>(*p, out, peak, inverse, threads);
  else
    forward<Wide>(*p, out, peak, inverse, threads);
}

void attention_backward(const Attention *p, const float *gradient, const float *peak,
                        const float *inverse, float *query, float *key, float *value,
                        float *bias, float *sink, int threads) {
  if (p->width % kLanes)
    backward<Narrow>(*p, gradient, peak, inverse, query, key, value, bias, sink, threads);
  else
    backward<Wide>(*p, gradient, peak, inverse, query, key, value, bias, sink, threads);
}

// First row of each sample in a table, [samples + 1], from ascending sample indices.
void row_bounds(const int64_t *sample, int64_t rows, int64_t samples, int64_t first,
                int64_t *bounds) {
  int64_t row = 0;
  for (int64_t b = 0; b <= samples; b++) {
    while (row < rows && sample[row] < b) row++;
    bounds[b] = first + row;
  }
}
}
