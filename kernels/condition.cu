// condition: what lies between the products of the conditioning, which are those of linear.cu.
//
//   features   f = [cos(t w_i), sin(t w_i)],  w_i = 10000^(-i / 128), i < 128
//   activate   c <- c + table[y],  a = silu(c)
//   slope      d <- d silu'(c)
//   scatter    dtable[k] += sum of d[b] over the images b of label k, in order
//
//   t (B) f32      f (B, 256) T      y (B) u32      c, a, d (B, D) T      table (rows, D) T      dtable (rows, D) f32
//
// Without a table (null) c stays. Cosines and sines are made in f64 and rounded once. Traffic: each array once, and the
// table's rows of the batch: B D elements are so few that a thread has one.
#include "lib/pack.cuh"
#include "lib/wave.cuh"

constexpr uint32_t HALF = 128;

template <class T>
DEVICE void features(const float* t, T* f, uint32_t batch) {
    each(uint64_t(batch) * HALF, [&](uint64_t at) {
        constexpr double LN_10000 = 9.210340371976182;
        uint64_t image = at / HALF, i = at % HALF;
        double2 wave = cos_sin(t[image] * exp(-LN_10000 * double(i) / HALF));
        f[image * 2 * HALF + i] = from_float<T>(wave.x);
        f[image * 2 * HALF + HALF + i] = from_float<T>(wave.y);
    });
}

template <class T>
DEVICE void activate(T* c, const T* table, const uint32_t* y, T* a, uint32_t width, uint64_t count) {
    each(count, [&](uint64_t i) {
        T x = c[i];
        if (table) c[i] = x = from_float<T>(to_float(x) + to_float(table[size_t(y[i / width]) * width + i % width]));
        a[i] = from_float<T>(to_float(x) / (1.f + expf(-to_float(x))));
    });
}

template <class T>
DEVICE void slope(const T* c, T* d, uint64_t count) {
    each(count, [&](uint64_t i) {
        // s = sigmoid(x) and 1 - s, neither by a difference that cancels.
        float x = to_float(c[i]), e = expf(-fabsf(x)), large = 1.f / (1.f + e), small = e / (1.f + e);
        float s = x < 0.f ? small : large;
        d[i] = from_float<T>(to_float(d[i]) * fmaf(x, large * small, s));
    });
}

// blockIdx.y is an image; the first one of a label sums for all of them.
template <class T>
DEVICE void scatter(const T* d, const uint32_t* y, float* dtable, uint32_t width, uint32_t batch) {
    uint32_t column = blockIdx.x * blockDim.x + threadIdx.x, first = blockIdx.y, label = y[first];
    if (column >= width) return;
    for (uint32_t image = 0; image < first; image++) {
        if (y[image] == label) return;
    }
    float sum = 0;
    for (uint32_t image = first; image < batch; image++) {
        if (y[image] == label) sum += to_float(d[size_t(image) * width + column]);
    }
    dtable[size_t(label) * width + column] += sum;
}

#define EITHER_TYPE(T, TYPE)                                                                                               \
    extern "C" __global__ void condition_features_##TYPE(const float* __restrict__ t, T* __restrict__ f, uint32_t batch) { \
        features(t, f, batch);                                                                                             \
    }                                                                                                                      \
    extern "C" __global__ void condition_activate_##TYPE(T* __restrict__ c, const T* __restrict__ table,                   \
                                                         const uint32_t* __restrict__ y, T* __restrict__ a,                \
                                                         uint32_t width, uint64_t count) {                                 \
        activate(c, table, y, a, width, count);                                                                            \
    }                                                                                                                      \
    extern "C" __global__ void condition_slope_##TYPE(const T* __restrict__ c, T* __restrict__ d, uint64_t count) {        \
        slope(c, d, count);                                                                                                \
    }                                                                                                                      \
    extern "C" __global__ void condition_scatter_##TYPE(const T* __restrict__ d, const uint32_t* __restrict__ y,           \
                                                        float* __restrict__ dtable, uint32_t width, uint32_t batch) {      \
        scatter(d, y, dtable, width, batch);                                                                               \
    }
EITHER_TYPE(float, f32)
EITHER_TYPE(bf16, bf16)
