// The empirical score's passes over the rows x_i of a data set; the twin of src/cpu/score.rs. Nothing is differentiated.
//
//   l_i = -|z - alpha x_i|^2 / 2 sigma^2 = kappa <z, x_i> - kappa alpha |x_i|^2 / 2 - |z|^2 / 2 sigma^2,   kappa = alpha / sigma^2
//
//   score_slices    facts of every row, and a slice of one byte a value: x' = scale (byte - center)
//   score_extremes  bounds of every logit from its slice, by tensor cores on bytes; of a leaf the largest are written
//   score_bounds    the same for the leaves of a list, every bound written
//   score_distances, score_picked    what is left, in f64 from the values themselves
//   score_logits, score_sums, score_add_parts    all rows, in f64, where most of them matter
//
//   values (rows, width) T      slices (rows, pitch) u8, pitch a multiple of 64      facts (4, rows) f64
//   queries (asked, pitch) s8, zero from width on      terms (asked, 8) f64      z (asked, width) f64
//
// Traffic: extremes read rows pitch bytes once for up to 64 queries and write 32 bytes a leaf and query: bound by memory. The
// passes in f64 over all rows do 2 asked rows width operations: bound by f64, which cards for computing have and others lack.
#include "score/bounds.cuh"
#include "score/exact.cuh"
#include "score/slices.cuh"

constexpr int THREADS = 256;

#define BOUNDS(QUERIES)                                                                                              \
    extern "C" __global__ void __launch_bounds__(Tile##QUERIES::THREADS, Tile##QUERIES::CTAS)                        \
        score_extremes_##QUERIES(const uint8_t* slices, double* facts, uint32_t all, uint32_t pitch, uint32_t first, \
                                 uint32_t end, const int8_t* queries, const Terms* terms, uint32_t asked,            \
                                 double* extremes) {                                                                 \
        leaf_extremes<Tile##QUERIES>(slices, facts, all, pitch, first, end, queries, terms, asked, extremes);        \
    }                                                                                                                \
    extern "C" __global__ void __launch_bounds__(Tile##QUERIES::THREADS, Tile##QUERIES::CTAS)                        \
        score_bounds_##QUERIES(const uint8_t* slices, double* facts, uint32_t all, uint32_t pitch, uint32_t first,   \
                               uint32_t end, const int8_t* queries, const Terms* terms, uint32_t asked,              \
                               const uint32_t* leaves, double* bounds) {                                             \
        leaf_bounds<Tile##QUERIES>(slices, facts, all, pitch, first, end, queries, terms, asked, leaves, bounds);    \
    }
BOUNDS(16)
BOUNDS(64)

#define KERNEL extern "C" __global__ void __launch_bounds__(THREADS)

#define OF_VALUES(TYPE, T)                                                                                              \
    KERNEL score_slices_##TYPE(const T* values, uint32_t width, uint32_t pitch, uint32_t rows, uint8_t* slices,         \
                               double* facts) {                                                                         \
        slice_row<THREADS>(values, width, pitch, rows, slices, facts);                                                  \
    }                                                                                                                   \
    KERNEL score_distances_##TYPE(const T* values, uint32_t width, const double* z, const double* alpha,                \
                                  const uint2* pairs, double* out) {                                                    \
        squared_distance<THREADS>(values, width, z, alpha, pairs, out);                                                 \
    }                                                                                                                   \
    KERNEL score_picked_##TYPE(const T* values, uint32_t width, const uint32_t* offsets, const uint32_t* picks,         \
                               const double* weights, double* out) {                                                    \
        picked_sum<THREADS>(values, width, offsets, picks, weights, out);                                               \
    }
OF_VALUES(u8, uint8_t)
OF_VALUES(f16, __half)
OF_VALUES(f32, float)

#define OF_ALL(QUERIES, TYPE, T)                                                                                        \
    KERNEL score_logits_##QUERIES##_##TYPE(const T* values, uint32_t width, double* facts, uint32_t all,                \
                                           uint32_t first, uint32_t count, const double* z, const double* constants,    \
                                           uint32_t asked, double* logits) {                                            \
        all_logits<QUERIES>(values, width, facts, all, first, count, z, constants, asked, logits);                      \
    }                                                                                                                   \
    KERNEL score_sums_##QUERIES##_##TYPE(const T* values, uint32_t width, uint32_t first, uint32_t count,               \
                                         uint32_t each, const double* weights, uint32_t asked, double* parts) {         \
        weighted_sums<QUERIES>(values, width, first, count, each, weights, asked, parts);                               \
    }
OF_ALL(16, u8, uint8_t)
OF_ALL(16, f16, __half)
OF_ALL(16, f32, float)
OF_ALL(64, u8, uint8_t)
OF_ALL(64, f16, __half)
OF_ALL(64, f32, float)

// out[i] = sum over parts p, in their order, of parts[p][i].
KERNEL score_add_parts(const double* parts, uint32_t count, uint32_t size, double* out) {
    const uint32_t i = blockIdx.x * THREADS + threadIdx.x;
    if (i >= size) return;
    double total = 0.0;
    for (uint32_t part = 0; part < count; part++) total += parts[size_t(part) * size + i];
    out[i] = total;
}
