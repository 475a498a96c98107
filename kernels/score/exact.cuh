// Distances and sums in f64 from the values of rows, of those that were picked and of all.

#pragma once
#include "rows.cuh"

// out[pair] = |z - alpha x|^2, one CTA for each pair (query, row).
template <int THREADS, class T>
DEVICE void squared_distance(const T* values, uint32_t width, const double* z, const double* alpha, const uint2* pairs,
                             double* out) {
    const uint2 pair = pairs[blockIdx.x];
    const T* x = values + size_t(pair.y) * width;
    z += size_t(pair.x) * width;
    double total = 0.0;
    for (uint32_t i = threadIdx.x; i < width; i += THREADS) {
        const double difference = z[i] - alpha[pair.x] * value_of(x[i]);
        total += difference * difference;
    }
    total = over_block<THREADS>(total, sum);
    if (threadIdx.x == 0) out[blockIdx.x] = total;
}

// out[q][j] = sum over picks i of q, in their order, of weights[i] x[picks[i]][j]: a thread each. Query q has the picks from
// offsets[q] to offsets[q + 1].
template <int THREADS, class T>
DEVICE void picked_sum(const T* values, uint32_t width, const uint32_t* offsets, const uint32_t* picks,
                       const double* weights, double* out) {
    const uint32_t strips = (width + THREADS - 1) / THREADS, q = blockIdx.x / strips;
    const uint32_t j = blockIdx.x % strips * THREADS + threadIdx.x;
    if (j >= width) return;
    double total = 0.0;
    for (uint32_t i = offsets[q]; i < offsets[q + 1]; i++) total += weights[i] * value_of(values[size_t(picks[i]) * width + j]);
    out[size_t(q) * width + j] = total;
}

// A product in f64: 256 threads, DOWN x 64 sums, 16 terms at a time, a thread every 16th down and across. `left(m, k)` and
// `right(k, n)` are asked for factors within the extents; `store(m, n, sum)` for every sum that exists.
constexpr uint32_t EDGE = 64, DEPTH = 16;

template <uint32_t DOWN, bool RIGHT_ALONG, class LEFT, class RIGHT, class STORE>
DEVICE void product_f64(uint32_t down, uint32_t across, uint32_t first, uint32_t last, uint32_t row, uint32_t column,
                        LEFT left, RIGHT right, STORE store) {
    constexpr uint32_t OWN = DOWN / 16;
    // Rows of eight bytes more, so that what lies along the sum is written to banks of its own.
    __shared__ double a[DEPTH][DOWN + 1], b[DEPTH][EDGE + 1];
    const uint32_t m = threadIdx.x / 16, n = threadIdx.x % 16;
    double sums[OWN][4] = {};
    for (uint32_t start = first; start < last; start += DEPTH) {
        __syncthreads();
        // Neighbouring threads read neighbours in memory.
        for (uint32_t i = threadIdx.x; i < DEPTH * DOWN; i += 256) {
            const uint32_t k = i % DEPTH, at = i / DEPTH;
            a[k][at] = start + k < last && row + at < down ? left(row + at, start + k) : 0.0;
        }
        for (uint32_t i = threadIdx.x; i < DEPTH * EDGE; i += 256) {
            const uint32_t k = RIGHT_ALONG ? i % DEPTH : i / EDGE, at = RIGHT_ALONG ? i / DEPTH : i % EDGE;
            b[k][at] = start + k < last && column + at < across ? right(start + k, column + at) : 0.0;
        }
        __syncthreads();
#pragma unroll
        for (uint32_t k = 0; k < DEPTH; k++)
#pragma unroll
            for (uint32_t i = 0; i < OWN; i++)
#pragma unroll
                for (uint32_t j = 0; j < 4; j++) sums[i][j] += a[k][m + 16 * i] * b[k][n + 16 * j];
    }
#pragma unroll
    for (uint32_t i = 0; i < OWN; i++)
#pragma unroll
        for (uint32_t j = 0; j < 4; j++)
            if (row + m + 16 * i < down && column + n + 16 * j < across)
                store(row + m + 16 * i, column + n + 16 * j, sums[i][j]);
}

// logits[q][i] = kappa <z, x> - half |x|^2 + own of rows first + i; constants (asked, 3).
template <uint32_t QUERIES, class T>
DEVICE void all_logits(const T* values, uint32_t width, double* facts, uint32_t all, uint32_t first, uint32_t count,
                       const double* z, const double* constants, uint32_t asked, double* logits) {
    const Facts rows(facts, all);
    const uint32_t tiles = (asked + QUERIES - 1) / QUERIES;
    product_f64<QUERIES, true>(
        asked, count, 0, width, blockIdx.x % tiles * QUERIES, blockIdx.x / tiles * EDGE,
        [&](uint32_t q, uint32_t j) { return z[size_t(q) * width + j]; },
        [&](uint32_t j, uint32_t i) { return value_of(values[size_t(first + i) * width + j]); },
        [&](uint32_t q, uint32_t i, double product) {
            const double* own = constants + 3 * q;
            logits[size_t(q) * count + i] = own[0] * product - own[1] * rows.square[first + i] + own[2];
        });
}

// parts[p][q][j] = sum over the rows of part p = blockIdx.y of weights[q][i] x[first + i][j].
template <uint32_t QUERIES, class T>
DEVICE void weighted_sums(const T* values, uint32_t width, uint32_t first, uint32_t count, uint32_t each,
                          const double* weights, uint32_t asked, double* parts) {
    const uint32_t tiles = (asked + QUERIES - 1) / QUERIES, start = blockIdx.y * each;
    product_f64<QUERIES, false>(
        asked, width, start, min(start + each, count), blockIdx.x % tiles * QUERIES, blockIdx.x / tiles * EDGE,
        [&](uint32_t q, uint32_t i) { return weights[size_t(q) * count + i]; },
        [&](uint32_t i, uint32_t j) { return value_of(values[size_t(first + i) * width + j]); },
        [&](uint32_t q, uint32_t j, double sum) { parts[(size_t(blockIdx.y) * asked + q) * width + j] = sum; });
}
