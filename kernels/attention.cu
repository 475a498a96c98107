// attention: softmax attention of every head of every image, and its gradient.
//
//   S = q k^T / sqrt(K)      P = softmax_rows(S)      o = P v           q, k, v: (N, K) of one head
//   dv = P^T do              dP = do v^T              dS = P (dP - delta),  delta = rowsum(do o)
//   dq = dS k / sqrt(K)      dk = dS^T q / sqrt(K)
//
//   qkv, dqkv (B, N, 3, H, K) T      out, dout (B, N, H, K) T      lse, delta (B, H, N) f32      scale 1 / sqrt(K)
//
// lse is the logarithm of each row's sum of exponentials; backward makes P from it again, so no (N, N) matrix is stored.
// `delta` runs before backward. Everything is summed in a fixed order: keys ascending, queries ascending.
// Traffic: forward 4 B N H K elements; delta and backward together 9 of them, one more than must be, since dout is read
// twice. Flops: forward 4 N B N H K, backward 14 (10 must be).
//
// NAME_bf16_WIDTHxROWS are for tensor cores: head width WIDTH, 128 threads for ROWS queries (or keys) of one head; 64 suits
// at most 64 tokens. NAME_f32 and NAME_bf16 take any width up to 256, 128 threads for 4 rows. Both have a grid of
// (blocks of rows, H, B), backward twice the blocks; `delta` runs in CTAs of 256 threads, eight for each row.
//
// stream_NAME_bf16_WIDTHxROWS are Hopper's, by wgmma from what the copy engine brings: 384 threads, each CTA takes item after
// item, of 128 rows of one head or of 64 of two. They take maps of qkv (and dout) in boxes of ROWS rows: of 64 columns, and of
// the WIDTH % 64 that are left. Products over the width go by 16.
#include "attention/backward.cuh"
#include "attention/forward.cuh"
#include "attention/plain.cuh"
#ifdef HOPPER
#include "attention/stream_backward.cuh"
#include "attention/stream_forward.cuh"

#define STREAM extern "C" __global__ void __launch_bounds__(3 * WARPGROUP, 1)
#define STREAM_FORWARD(WIDTH, ROWS)                                                                                   \
    STREAM attention_stream_forward_bf16_##WIDTH##x##ROWS(                                                            \
        const __grid_constant__ CUtensorMap panels, const __grid_constant__ CUtensorMap rest, bf16* __restrict__ out, \
        float* __restrict__ lse, uint32_t batch, uint32_t tokens, uint32_t heads, float scale) {                      \
        StreamForward<WIDTH, ROWS>{panels, rest, out, lse, batch, tokens, heads, scale * LOG2_E}.run();               \
    }
#define STREAM_BACKWARD(WIDTH, ROWS)                                                                                  \
    STREAM attention_stream_backward_bf16_##WIDTH##x##ROWS(                                                           \
        const __grid_constant__ CUtensorMap panels, const __grid_constant__ CUtensorMap rest,                         \
        const __grid_constant__ CUtensorMap dout_panels, const __grid_constant__ CUtensorMap dout_rest,               \
        const float* __restrict__ lse, const float* __restrict__ delta, bf16* __restrict__ dqkv, uint32_t batch,      \
        uint32_t tokens, uint32_t heads, float scale) {                                                               \
        StreamBackward<WIDTH, ROWS> head{panels, rest, dout_panels, dout_rest, lse, delta, dqkv, batch, tokens, heads, \
                                         scale};                                                                      \
        head.run();                                                                                                   \
    }
#define STREAM_BOTH(WIDTH, ROWS) STREAM_FORWARD(WIDTH, ROWS) STREAM_BACKWARD(WIDTH, ROWS)
STREAM_BOTH(32, 64)
STREAM_BOTH(32, 128)
STREAM_BOTH(64, 64)
STREAM_BOTH(64, 128)
STREAM_BOTH(72, 64)
STREAM_BOTH(72, 128)
STREAM_BOTH(80, 64)
STREAM_BOTH(80, 128)
STREAM_FORWARD(128, 64)
STREAM_BOTH(128, 128)
#endif

#define FORWARD(WIDTH, ROWS)                                                                                          \
    extern "C" __global__ void __launch_bounds__(128, 2)                                                              \
        attention_forward_bf16_##WIDTH##x##ROWS(const bf16* __restrict__ qkv, bf16* __restrict__ out,                 \
                                                float* __restrict__ lse, uint32_t tokens, float scale) {              \
        Forward<WIDTH, ROWS / 64>().run(qkv, out, lse, tokens, scale);                                                \
    }
#define BACKWARD(WIDTH, ROWS)                                                                                         \
    extern "C" __global__ void __launch_bounds__(128, 2) attention_backward_bf16_##WIDTH##x##ROWS(                    \
        const bf16* __restrict__ qkv, const bf16* __restrict__ dout, const float* __restrict__ lse,                   \
        const float* __restrict__ delta, bf16* __restrict__ dqkv, uint32_t tokens, float scale) {                     \
        backward<WIDTH, ROWS / 64>(qkv, dout, lse, delta, dqkv, tokens, scale);                                       \
    }
#define BOTH(WIDTH, ROWS) FORWARD(WIDTH, ROWS) BACKWARD(WIDTH, ROWS)
BOTH(32, 64)
BOTH(32, 128)
BOTH(64, 64)
BOTH(64, 128)
BOTH(72, 64)
BOTH(72, 128)
BOTH(80, 64)
FORWARD(80, 128)
// Twice the sums of 128 rows of so wide heads do not fit the registers.
BOTH(128, 64)

// Eight lanes for each row of a head, by 16 bytes where its width allows.
template <class T>
DEVICE void delta_of(const T* out, const T* dout, float* delta, uint32_t batch, uint32_t tokens, uint32_t heads,
                     uint32_t width) {
    uint32_t at = (blockIdx.x * blockDim.x + threadIdx.x) / 8, lane = threadIdx.x % 8;
    // Memory order, (B, N, H): neighbours read neighbouring rows.
    bool exists = at < batch * tokens * heads;
    const T *o = out + size_t(at) * width, *d = dout + size_t(at) * width;
    float sum = 0;
    if (exists && sizeof(T) == 2 && width % 8 == 0) {
        for (uint32_t k = lane * 8; k < width; k += 64) {
            uint4 x = *reinterpret_cast<const uint4*>(o + k), y = *reinterpret_cast<const uint4*>(d + k);
            uint32_t xs[4] = {x.x, x.y, x.z, x.w}, ys[4] = {y.x, y.y, y.z, y.w};
#pragma unroll
            for (int i = 0; i < 4; i++) {
                float2 a = unpack_bf16(xs[i]), b = unpack_bf16(ys[i]);
                sum += a.x * b.x, sum += a.y * b.y;
            }
        }
    } else if (exists) {
        for (uint32_t k = lane; k < width; k += 8) sum += to_float(o[k]) * to_float(d[k]);
    }
#pragma unroll
    for (int distance = 1; distance < 8; distance *= 2) sum += __shfl_xor_sync(0xffffffffu, sum, distance);
    uint32_t head = at % heads, n = at / heads % tokens, image = at / heads / tokens;
    if (exists && lane == 0) delta[(size_t(image) * heads + head) * tokens + n] = sum;
}

#define PLAIN(T, TYPE)                                                                                                \
    extern "C" __global__ void __launch_bounds__(128)                                                                 \
        attention_forward_##TYPE(const T* __restrict__ qkv, T* __restrict__ out, float* __restrict__ lse,             \
                                 uint32_t tokens, uint32_t width, float scale) {                                      \
        plain_forward(qkv, out, lse, tokens, width, scale);                                                           \
    }                                                                                                                 \
    extern "C" __global__ void __launch_bounds__(128) attention_backward_##TYPE(                                      \
        const T* __restrict__ qkv, const T* __restrict__ dout, const float* __restrict__ lse,                         \
        const float* __restrict__ delta, T* __restrict__ dqkv, uint32_t tokens, uint32_t width, float scale) {        \
        plain_backward(qkv, dout, lse, delta, dqkv, tokens, width, scale);                                            \
    }                                                                                                                 \
    extern "C" __global__ void __launch_bounds__(256)                                                                 \
        attention_delta_##TYPE(const T* __restrict__ out, const T* __restrict__ dout, float* __restrict__ delta,      \
                               uint32_t batch, uint32_t tokens, uint32_t heads, uint32_t width) {                     \
        delta_of(out, dout, delta, batch, tokens, heads, width);                                                      \
    }
PLAIN(float, f32)
PLAIN(bf16, bf16)
