// layer_norm: residual and layer norm with weights.
//
//   s' = s + branch      y = (s' - mean) rstd w + b      mean and variance over D; epsilon 1e-5
//   ds = rstd (g - mean(g) - h mean(g h)) + ds'          g = dy w, h = (s' - mean) rstd; written over dy and ds'
//   dw = sum over rows of dy h      db = sum of dy
//
//   s, branch, s', y, dy, ds (rows, D) T      w, b (D) T      stats (rows, 2: mean, rstd) f32      dw, db (D) f32
//
// One warp per row, a lane every 32nd column. Forward reads s and branch and writes s' and y; backward reads dy, ds' and s'
// twice, since `sums` adds up a stretch of rows by columns before `rows` writes over dy: parts (stretches, D) each.
#include "lib/pack.cuh"
#include "lib/reduce.cuh"

constexpr float EPSILON = 1e-5f;
constexpr uint32_t WARPS = 8;

template <class T>
DEVICE void forward(const T* s, const T* branch, const T* w, const T* b, T* sum, T* y, float* stats, uint32_t rows,
                    uint32_t width) {
    uint32_t row = blockIdx.x * WARPS + threadIdx.x / WARP, lane = threadIdx.x % WARP;
    if (row >= rows) return;
    // Either what was given or what this kernel has written: not constant, so s is without __restrict__ where this is called.
    const T* x = s + size_t(row) * width;
    y += size_t(row) * width;
    if (branch) {
        sum += size_t(row) * width;
        branch += size_t(row) * width;
        for (uint32_t c = lane; c < width; c += WARP) sum[c] = from_float<T>(to_float(x[c]) + to_float(branch[c]));
        x = sum;
    }
    float total = 0, squares = 0;
    for (uint32_t c = lane; c < width; c += WARP) total += to_float(x[c]);
    float mean = warp_sum(total) / width;
    for (uint32_t c = lane; c < width; c += WARP) squares += (to_float(x[c]) - mean) * (to_float(x[c]) - mean);
    float rstd = 1.f / sqrtf(warp_sum(squares) / width + EPSILON);
    for (uint32_t c = lane; c < width; c += WARP)
        y[c] = from_float<T>((to_float(x[c]) - mean) * rstd * to_float(w[c]) + to_float(b[c]));
    if (lane == 0) stats[2 * row] = mean, stats[2 * row + 1] = rstd;
}

template <class T>
DEVICE void rows_backward(T* dy, T* ds, const T* s, const float* stats, const T* w, uint32_t rows, uint32_t width,
                          bool add) {
    uint32_t row = blockIdx.x * WARPS + threadIdx.x / WARP, lane = threadIdx.x % WARP;
    if (row >= rows) return;
    dy += size_t(row) * width, ds += size_t(row) * width, s += size_t(row) * width;
    float mean = stats[2 * row], rstd = stats[2 * row + 1], g_sum = 0, gh_sum = 0;
    for (uint32_t c = lane; c < width; c += WARP) {
        float g = to_float(dy[c]) * to_float(w[c]);
        g_sum += g, gh_sum += g * ((to_float(s[c]) - mean) * rstd);
    }
    float mean_g = warp_sum(g_sum) / width, mean_gh = warp_sum(gh_sum) / width;
    for (uint32_t c = lane; c < width; c += WARP) {
        float g = to_float(dy[c]) * to_float(w[c]), h = (to_float(s[c]) - mean) * rstd;
        float d = rstd * (g - mean_g - h * mean_gh) + (add ? to_float(ds[c]) : 0.f);
        dy[c] = ds[c] = from_float<T>(d);
    }
}

// A thread per column; blockIdx.y is a stretch of rows.
template <class T>
DEVICE void sums(const T* dy, const T* s, const float* stats, float* dw, float* db, uint32_t rows, uint32_t width,
                 uint32_t stretch) {
    uint32_t c = blockIdx.x * blockDim.x + threadIdx.x, first = blockIdx.y * stretch;
    if (c >= width) return;
    float bias = 0, weight = 0;
    for (uint32_t row = first; row < min(first + stretch, rows); row++) {
        float d = to_float(dy[size_t(row) * width + c]);
        bias += d;
        weight += d * ((to_float(s[size_t(row) * width + c]) - stats[2 * row]) * stats[2 * row + 1]);
    }
    dw[size_t(blockIdx.y) * width + c] = weight, db[size_t(blockIdx.y) * width + c] = bias;
}

#define EITHER_TYPE(T, TYPE)                                                                                           \
    extern "C" __global__ void layer_norm_forward_##TYPE(                                                              \
        const T* s, const T* __restrict__ branch, const T* __restrict__ w, const T* __restrict__ b,                    \
        T* sum, T* __restrict__ y, float* __restrict__ stats, uint32_t rows, uint32_t width) {                         \
        forward(s, branch, w, b, sum, y, stats, rows, width);                                                          \
    }                                                                                                                  \
    extern "C" __global__ void layer_norm_rows_##TYPE(T* dy, T* ds, const T* __restrict__ s,                           \
                                                      const float* __restrict__ stats, const T* __restrict__ w,        \
                                                      uint32_t rows, uint32_t width, uint32_t add) {                   \
        rows_backward(dy, ds, s, stats, w, rows, width, add);                                                          \
    }                                                                                                                  \
    extern "C" __global__ void layer_norm_sums_##TYPE(const T* __restrict__ dy, const T* __restrict__ s,               \
                                                      const float* __restrict__ stats, float* __restrict__ dw,         \
                                                      float* __restrict__ db, uint32_t rows, uint32_t width,           \
                                                      uint32_t stretch) {                                              \
        sums(dy, s, stats, dw, db, rows, width, stretch);                                                              \
    }
EITHER_TYPE(float, f32)
EITHER_TYPE(bf16, bf16)
