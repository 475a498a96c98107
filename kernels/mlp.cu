// mlp: what its products do beyond those of linear. y = gelu(x W1^T + b1) W2^T + b2.
//
//   forward     p = x W1^T + b1      active = gelu(p)      slope = gelu'(p)
//   backward    dp = (dy W2) slope
//
//   x (rows, inner) T      W1 (width, inner) T      b1 (width) T      active, slope, dp (rows, width) T
//   dy (rows, inner) T     W2 (inner, width) T
//
// Here `width` is the hidden one. The second product of forward, y = active W2^T + b2, and the gradients of W1, b1, W2, b2
// and x are linear's. p itself is not stored: backward wants gelu(p) as a factor and gelu'(p), and both are known here for
// one exponential. So backward takes none, and no pass makes gelu(p) again: of (rows, width) forward writes 2 and backward
// reads both once, where with p stored and gelu(p) made again from it a write would be added.
// Traffic: forward and backward each rows (inner + 2 width) + width inner elements; 2 rows inner width flops.
//
// NAME_bf16_ROWSxCOLUMNS are for tensor cores and need inner and width to be multiples of 8; of them 128x192 is Hopper's, as in
// linear. NAME_f32 and NAME_bf16 take any extents: 256 threads, 64 x 64.
#include "lib/epilogue.cuh"
#include "lib/math.cuh"
#include "lib/plain.cuh"
#include "lib/stream.cuh"

template <class TILE>
DEVICE void store_gelu(const Sums<TILE>& sums, Place tile, const bf16* b, bf16* active, bf16* slope, uint32_t rows,
                       uint32_t width) {
    Corner<TILE> corner(tile);
    Bias<TILE> bias(b, corner, width);
    for_each_row(corner, rows, width, [&](int i, int half, int j, size_t at, bool inside) {
        uint32_t values[4], slopes[4];
#pragma unroll
        for (int f = 0; f < 4; f++) {
            const float* s = sums.at[i][j + f] + 2 * half;
            Gelu first = gelu(s[0] + bias.at[j + f].x), second = gelu(s[1] + bias.at[j + f].y);
            values[f] = pack_bf16(first.value, second.value), slopes[f] = pack_bf16(first.slope, second.slope);
        }
        store_row(active + at, values, inside);
        store_row(slope + at, slopes, inside);
    });
}

template <class TILE>
DEVICE void store_scaled(const Sums<TILE>& sums, Place tile, const bf16* slope, bf16* dp, uint32_t rows, uint32_t width) {
    Corner<TILE> corner(tile);
    for_each_row(corner, rows, width, [&](int i, int half, int j, size_t at, bool inside) {
        uint32_t slopes[4];
        load_row(slopes, slope + at, inside);
#pragma unroll
        for (int f = 0; f < 4; f++) {
            const float* s = sums.at[i][j + f] + 2 * half;
            float2 scale = unpack_bf16(slopes[f]);
            slopes[f] = pack_bf16(s[0] * scale.x, s[1] * scale.y);
        }
        store_row(dp + at, slopes, inside);
    });
}

template <class TILE>
DEVICE void forward(const bf16* x, const bf16* w, const bf16* b, bf16* active, bf16* slope, uint32_t rows, uint32_t inner,
                    uint32_t width) {
    Place tile = place<TILE>(blockIdx.x, rows, width);
    Sums<TILE> sums;
    NoRowSums none;
    product<TILE, Contiguous::Sum, Contiguous::Sum>(sums, none, x, w, tile.row * TILE::ROWS, tile.column * TILE::COLUMNS,
                                                    rows, width, inner, 0, inner);
    store_gelu(sums, tile, b, active, slope, rows, width);
}

template <class TILE>
DEVICE void backward(const bf16* dy, const bf16* w, const bf16* slope, bf16* dp, uint32_t rows, uint32_t inner,
                     uint32_t width) {
    Place tile = place<TILE>(blockIdx.x, rows, width);
    Sums<TILE> sums;
    NoRowSums none;
    product<TILE, Contiguous::Sum, Contiguous::Output>(sums, none, dy, w, tile.row * TILE::ROWS,
                                                       tile.column * TILE::COLUMNS, rows, width, inner, 0, inner);
    store_scaled(sums, tile, slope, dp, rows, width);
}

#define KERNEL(TILE) extern "C" __global__ void __launch_bounds__(Tile##TILE::THREADS, Tile##TILE::CTAS)

#define TENSOR(TILE)                                                                                                  \
    KERNEL(TILE) mlp_forward_bf16_##TILE(const bf16* __restrict__ x, const bf16* __restrict__ w,                      \
                                         const bf16* __restrict__ b, bf16* __restrict__ active,                       \
                                         bf16* __restrict__ slope, uint32_t rows, uint32_t inner, uint32_t width) {   \
        forward<Tile##TILE>(x, w, b, active, slope, rows, inner, width);                                              \
    }                                                                                                                 \
    KERNEL(TILE) mlp_backward_bf16_##TILE(const bf16* __restrict__ dy, const bf16* __restrict__ w,                    \
                                          const bf16* __restrict__ slope, bf16* __restrict__ dp, uint32_t rows,       \
                                          uint32_t inner, uint32_t width) {                                           \
        backward<Tile##TILE>(dy, w, slope, dp, rows, inner, width);                                                   \
    }
TENSOR(256x128)
TENSOR(128x128)
TENSOR(32x128)

#ifdef HOPPER

#define STREAM \
    extern "C" __global__ void __cluster_dims__(StreamPair::CTAS, 1, 1) __launch_bounds__(Stream128x192::THREADS, 1)

STREAM mlp_forward_bf16_128x192(const __grid_constant__ CUtensorMap x, const __grid_constant__ CUtensorMap w,
                                const bf16* __restrict__ b, bf16* __restrict__ active, bf16* __restrict__ slope,
                                uint32_t rows, uint32_t inner, uint32_t width) {
    stream_product<Contiguous::Sum, Contiguous::Sum>(
        x, w, rows, width, 0, inner, Nobody(),
        [&](const StreamSums& sums, Place tile) { store_gelu(sums, tile, b, active, slope, rows, width); });
}

STREAM mlp_backward_bf16_128x192(const __grid_constant__ CUtensorMap dy, const __grid_constant__ CUtensorMap w,
                                 const bf16* __restrict__ slope, bf16* __restrict__ dp, uint32_t rows, uint32_t inner,
                                 uint32_t width) {
    stream_product<Contiguous::Sum, Contiguous::Output>(
        dy, w, rows, width, 0, inner, Nobody(),
        [&](const StreamSums& sums, Place tile) { store_scaled(sums, tile, slope, dp, rows, width); });
}

#endif

template <class T>
DEVICE void plain_forward(const T* x, const T* w, const T* b, T* active, T* slope, uint32_t rows, uint32_t inner,
                          uint32_t width) {
    auto store = [&](uint32_t r, uint32_t c, float sum) {
        Gelu g = gelu(sum + to_float(b[c]));
        active[size_t(r) * width + c] = from_float<T>(g.value);
        slope[size_t(r) * width + c] = from_float<T>(g.slope);
    };
    plain_product<Contiguous::Sum, Contiguous::Sum>(x, w, rows, width, inner, 0, inner, store);
}

template <class T>
DEVICE void plain_backward(const T* dy, const T* w, const T* slope, T* dp, uint32_t rows, uint32_t inner,
                           uint32_t width) {
    auto store = [&](uint32_t r, uint32_t c, float sum) {
        size_t at = size_t(r) * width + c;
        dp[at] = from_float<T>(sum * to_float(slope[at]));
    };
    plain_product<Contiguous::Sum, Contiguous::Output>(dy, w, rows, width, inner, 0, inner, store);
}

#define PLAIN(T, TYPE)                                                                                                \
    extern "C" __global__ void __launch_bounds__(256) mlp_forward_##TYPE(                                             \
        const T* __restrict__ x, const T* __restrict__ w, const T* __restrict__ b, T* __restrict__ active,            \
        T* __restrict__ slope, uint32_t rows, uint32_t inner, uint32_t width) {                                       \
        plain_forward(x, w, b, active, slope, rows, inner, width);                                                    \
    }                                                                                                                 \
    extern "C" __global__ void __launch_bounds__(256)                                                                 \
        mlp_backward_##TYPE(const T* __restrict__ dy, const T* __restrict__ w, const T* __restrict__ slope,           \
                            T* __restrict__ dp, uint32_t rows, uint32_t inner, uint32_t width) {                      \
        plain_backward(dy, w, slope, dp, rows, inner, width);                                                         \
    }
PLAIN(float, f32)
PLAIN(bf16, bf16)
