// Sparse convolution on the CPU, float32: the search for neighbours, the product of features and
// weights, and the gradient of the weights. Plain C functions over pointers.
//
// Every result is the same to the last bit for any number of threads: an output row, or an entry of
// the weight gradient, is summed by one thread in an order that depends on the data alone.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#if defined(__x86_64__) && defined(__GNUC__)
#define X86 1
#else
#define X86 0
#endif
#define INLINE inline __attribute__((always_inline))

namespace {

constexpr int64_t BLOCK_BYTES = 128 << 10;  // output rows of one block, half of a small L2 cache
constexpr int64_t CHUNK_PAIRS = 256;        // pairs whose rows stay in L2 while a weight tile is summed
constexpr int64_t TILE_INPUTS = 48;         // input channels of one task of the weight gradient
constexpr int SHORT_ROWS = 4;

template <int LANES>
struct Vector {
  typedef float Value __attribute__((vector_size(LANES * 4)));
  typedef float Memory __attribute__((vector_size(LANES * 4), aligned(4), may_alias));
};

template <int LANES>
INLINE typename Vector<LANES>::Value load(const float* from) {
  return *reinterpret_cast<const typename Vector<LANES>::Memory*>(from);
}

template <int LANES>
INLINE void store(float* to, typename Vector<LANES>::Value value) {
  *reinterpret_cast<typename Vector<LANES>::Memory*>(to) = value;
}

struct Pairs {
  const int32_t* source;
  const int32_t* target;
  int64_t count;
};

// Pairs of one offset: `ranges` holds begin, end and whether the two rows of `pairs` are swapped.
INLINE Pairs pairs_of(const int32_t* pairs, int64_t num_pairs, const int64_t* ranges, int64_t offset) {
  const int64_t* range = ranges + 3 * offset;
  const int32_t* first = pairs + range[0];
  const int32_t* second = pairs + num_pairs + range[0];
  const int64_t count = range[1] - range[0];
  return range[2] ? Pairs{second, first, count} : Pairs{first, second, count};
}

struct Product {
  const float* features;  // (num_in, depth)
  const float* weight;    // (num_offsets, depth, width)
  const int32_t* pairs;   // (2, num_pairs)
  const int64_t* ranges;  // (num_offsets, 3)
  float* out;             // (num_out, width)
  int64_t num_pairs, num_offsets, depth, width, num_out, num_threads;
};

// out[row] += features[row] @ weight for ROWS rows and VECTORS * LANES columns. Each offset is summed by
// itself first, which rounds less than one long sum.
template <int LANES, int ROWS, int VECTORS>
INLINE void product_tile(const float* const* in, float* const* out, const float* weight, int64_t depth,
                         int64_t width) {
  typename Vector<LANES>::Value sum[ROWS][VECTORS] = {};
  for (int64_t c = 0; c < depth; c++) {
    typename Vector<LANES>::Value w[VECTORS];
#pragma GCC unroll 4
    for (int v = 0; v < VECTORS; v++) w[v] = load<LANES>(weight + c * width + v * LANES);
#pragma GCC unroll 16
    for (int row = 0; row < ROWS; row++) {
      const float x = in[row][c];
#pragma GCC unroll 4
      for (int v = 0; v < VECTORS; v++) sum[row][v] += x * w[v];
    }
  }
#pragma GCC unroll 16
  for (int row = 0; row < ROWS; row++)
#pragma GCC unroll 4
    for (int v = 0; v < VECTORS; v++) {
      float* to = out[row] + v * LANES;
      store<LANES>(to, load<LANES>(to) + sum[row][v]);
    }
}

template <int LANES, int ROWS, int VECTORS>
INLINE void product_columns(const Product& p, const Pairs& run, const float* weight, int64_t column,
                            const float* zeros, float* spare) {
  const float* in[ROWS];
  float* out[ROWS];
  int64_t at = 0;
  for (; at + ROWS <= run.count; at += ROWS) {
    for (int row = 0; row < ROWS; row++) {
      in[row] = p.features + run.source[at + row] * p.depth;
      out[row] = p.out + run.target[at + row] * p.width + column;
    }
    product_tile<LANES, ROWS, VECTORS>(in, out, weight + column, p.depth, p.width);
  }
  // The rest in short tiles; rows past the end read zeros and write to spare memory.
  for (; at < run.count; at += SHORT_ROWS) {
    for (int row = 0; row < SHORT_ROWS; row++) {
      const bool real = at + row < run.count;
      in[row] = real ? p.features + run.source[at + row] * p.depth : zeros;
      out[row] = real ? p.out + run.target[at + row] * p.width + column : spare;
    }
    product_tile<LANES, SHORT_ROWS, VECTORS>(in, out, weight + column, p.depth, p.width);
  }
}

template <int LANES, int ROWS>
INLINE void product_block(const Product& p, int64_t begin, int64_t end) {
  const std::vector<float> zeros(p.depth, 0.0f);
  float spare[2 * LANES] = {};
  std::memset(p.out + begin * p.width, 0, (end - begin) * p.width * sizeof(float));
  for (int64_t offset = 0; offset < p.num_offsets; offset++) {
    Pairs run = pairs_of(p.pairs, p.num_pairs, p.ranges, offset);
    const int32_t* stop = run.target + run.count;
    const int32_t* low = std::lower_bound(run.target, stop, static_cast<int32_t>(begin));
    const int32_t* high = std::lower_bound(low, stop, static_cast<int32_t>(end));
    run.source += low - run.target;
    run.target = low;
    run.count = high - low;
    if (!run.count) continue;
    const float* weight = p.weight + offset * p.depth * p.width;
    int64_t column = 0;
    for (; column + 2 * LANES <= p.width; column += 2 * LANES)
      product_columns<LANES, ROWS, 2>(p, run, weight, column, zeros.data(), spare);
    if (column < p.width) product_columns<LANES, ROWS, 1>(p, run, weight, column, zeros.data(), spare);
  }
}

struct Gradient {
  const float* features;  // (num_in, depth)
  const float* gradient;  // (num_out, width)
  const int32_t* pairs;   // (2, num_pairs)
  const int64_t* ranges;  // (num_offsets, 3)
  float* out;             // (num_offsets, depth, width)
  int64_t num_pairs, num_offsets, depth, width, num_threads;
};

// total += features^T @ gradient over the rows of one chunk, for ROWS inputs and VECTORS * LANES outputs.
template <int LANES, int ROWS, int VECTORS>
INLINE void gradient_tile(const float* features, const Gradient& g, const Pairs& run, int64_t column,
                          float* total) {
  typename Vector<LANES>::Value sum[ROWS][VECTORS] = {};
  for (int64_t pair = 0; pair < run.count; pair++) {
    const float* from = g.gradient + run.target[pair] * g.width + column;
    typename Vector<LANES>::Value w[VECTORS];
#pragma GCC unroll 4
    for (int v = 0; v < VECTORS; v++) w[v] = load<LANES>(from + v * LANES);
#pragma GCC unroll 16
    for (int row = 0; row < ROWS; row++) {
      const float x = features[pair * TILE_INPUTS + row];
#pragma GCC unroll 4
      for (int v = 0; v < VECTORS; v++) sum[row][v] += x * w[v];
    }
  }
#pragma GCC unroll 16
  for (int row = 0; row < ROWS; row++)
#pragma GCC unroll 4
    for (int v = 0; v < VECTORS; v++) {
      float* to = total + row * g.width + column + v * LANES;
      store<LANES>(to, load<LANES>(to) + sum[row][v]);
    }
}

template <int LANES, int ROWS, int VECTORS>
INLINE void gradient_columns(const float* features, const Gradient& g, const Pairs& run, int64_t inputs,
                             int64_t column, float* total) {
  int64_t at = 0;
  for (; at + ROWS <= inputs; at += ROWS)
    gradient_tile<LANES, ROWS, VECTORS>(features + at, g, run, column, total + at * g.width);
  for (; at < inputs; at += SHORT_ROWS)
    gradient_tile<LANES, SHORT_ROWS, VECTORS>(features + at, g, run, column, total + at * g.width);
}

// The gradient of one offset's weights from the input channels of one task.
template <int LANES, int ROWS>
INLINE void gradient_task(const Gradient& g, int64_t offset, int64_t first_input) {
  const int64_t inputs = std::min(TILE_INPUTS, g.depth - first_input);
  std::vector<float> features(CHUNK_PAIRS * TILE_INPUTS, 0.0f), total(TILE_INPUTS * g.width, 0.0f);
  const Pairs all = pairs_of(g.pairs, g.num_pairs, g.ranges, offset);
  for (int64_t begin = 0; begin < all.count; begin += CHUNK_PAIRS) {
    const Pairs run{all.source + begin, all.target + begin, std::min(CHUNK_PAIRS, all.count - begin)};
    for (int64_t pair = 0; pair < run.count; pair++)
      std::memcpy(&features[pair * TILE_INPUTS], g.features + run.source[pair] * g.depth + first_input,
                  inputs * sizeof(float));
    int64_t column = 0;
    for (; column + 2 * LANES <= g.width; column += 2 * LANES)
      gradient_columns<LANES, ROWS, 2>(features.data(), g, run, inputs, column, total.data());
    if (column < g.width)
      gradient_columns<LANES, ROWS, 1>(features.data(), g, run, inputs, column, total.data());
  }
  std::memcpy(g.out + (offset * g.depth + first_input) * g.width, total.data(),
              inputs * g.width * sizeof(float));
}

// One set of entry points for each instruction set: the templates above are inlined into them.
#define INSTRUCTION_SET(name, attribute, lanes, rows)                                              \
  attribute void product_##name(const Product& p, int64_t begin, int64_t end) {                    \
    product_block<lanes, rows>(p, begin, end);                                                     \
  }                                                                                                \
  attribute void gradient_##name(const Gradient& g, int64_t offset, int64_t first_input) {         \
    gradient_task<lanes, rows>(g, offset, first_input);                                            \
  }

INSTRUCTION_SET(baseline, , 4, 4)
#if X86
INSTRUCTION_SET(avx2, __attribute__((target("avx2,fma"))), 8, 4)
INSTRUCTION_SET(avx512, __attribute__((target("avx512f,avx2,fma"))), 16, 12)
#endif

enum InstructionSet { BASELINE = 0, AVX2 = 1, AVX512 = 2 };

// Neighbours lie in runs: `counts[r]` keys, `unit` apart, the first of them `shifts[r]` past an
// output's key. Both lists of keys are sorted, so that one pass over the inputs serves each run.
struct Search {
  const int64_t* in_keys;
  const int64_t* out_keys;
  const int64_t* shifts;
  const int64_t* counts;
  int64_t num_in, num_out, num_runs, unit, rows_per_block, num_threads;
};

template <typename Visit>
void search_block(const Search& s, int64_t block, Visit visit) {
  const int64_t begin = block * s.rows_per_block, end = std::min(s.num_out, begin + s.rows_per_block);
  const int64_t* stop = s.in_keys + s.num_in;
  int64_t slot = 0;
  for (int64_t r = 0; r < s.num_runs; slot += s.counts[r++]) {
    const int64_t reach = (s.counts[r] - 1) * s.unit;
    const int64_t* at = std::lower_bound(s.in_keys, stop, s.out_keys[begin] + s.shifts[r]);
    for (int64_t row = begin; row < end; row++) {
      const int64_t from = s.out_keys[row] + s.shifts[r];
      while (at < stop && *at < from) at++;
      for (const int64_t* hit = at; hit < stop && *hit - from <= reach; hit++) {
        const int64_t gap = *hit - from;
        if (gap % s.unit == 0) visit(slot + gap / s.unit, hit - s.in_keys, row);
      }
    }
  }
}

}  // namespace

extern "C" {

// The best instruction set of this processor that this library was built with.
int64_t xscene_instruction_set() {
#if X86
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f")) return AVX512;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return AVX2;
#endif
  return BASELINE;
}

void xscene_product(const Product* given, int64_t instruction_set) {
  const Product& p = *given;
  const int64_t rows = std::clamp<int64_t>(BLOCK_BYTES / (p.width * 4), 64, 1024);
  const int64_t num_blocks = (p.num_out + rows - 1) / rows;
  auto run = product_baseline;
#if X86
  if (instruction_set == AVX2) run = product_avx2;
  if (instruction_set == AVX512) run = product_avx512;
#endif
#pragma omp parallel for schedule(dynamic, 1) num_threads(p.num_threads)
  for (int64_t block = 0; block < num_blocks; block++)
    run(p, block * rows, std::min(p.num_out, (block + 1) * rows));
}

void xscene_weight_gradient(const Gradient* given, int64_t instruction_set) {
  const Gradient& g = *given;
  const int64_t tiles = (g.depth + TILE_INPUTS - 1) / TILE_INPUTS;
  auto run = gradient_baseline;
#if X86
  if (instruction_set == AVX2) run = gradient_avx2;
  if (instruction_set == AVX512) run = gradient_avx512;
#endif
#pragma omp parallel for schedule(dynamic, 1) num_threads(g.num_threads)
  for (int64_t task = 0; task < g.num_offsets * tiles; task++)
    run(g, task / tiles, task % tiles * TILE_INPUTS);
}

// Pairs of each block and slot: found is (num_blocks, num_slots).
void xscene_count_pairs(const Search* given, int64_t num_slots, int64_t* found) {
  const Search& s = *given;
  const int64_t num_blocks = (s.num_out + s.rows_per_block - 1) / s.rows_per_block;
#pragma omp parallel for schedule(dynamic, 1) num_threads(s.num_threads)
  for (int64_t block = 0; block < num_blocks; block++) {
    int64_t* mine = found + block * num_slots;
    search_block(s, block, [=](int64_t slot, int64_t, int64_t) { mine[slot]++; });
  }
}

// The pairs themselves, into pairs (2, num_pairs); next (num_blocks, num_slots) says where, and is spent.
void xscene_fill_pairs(const Search* given, int64_t num_slots, int64_t* next, int64_t num_pairs, int32_t* pairs) {
  const Search& s = *given;
  const int64_t num_blocks = (s.num_out + s.rows_per_block - 1) / s.rows_per_block;
#pragma omp parallel for schedule(dynamic, 1) num_threads(s.num_threads)
  for (int64_t block = 0; block < num_blocks; block++) {
    int64_t* mine = next + block * num_slots;
    search_block(s, block, [=](int64_t slot, int64_t in, int64_t out) {
      const int64_t place = mine[slot]++;
      pairs[place] = static_cast<int32_t>(in);
      pairs[num_pairs + place] = static_cast<int32_t>(out);
    });
  }
}
}
