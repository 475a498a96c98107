// The peak of a card: multiply-adds whose operands never leave the registers, or for wgmma shared memory.
//
//   peak_f32   16 chains a thread, each `loops` times x <- x a + b                           32 flops a thread and loop
//   peak_bf16  mma.sync: 8 products of 16 x 8 x 16 a warp and loop                        32,768 flops a warp and loop
//   peak_bf16  wgmma: 4 products of 64 x 192 x 16 a warpgroup and loop                1,572,864 flops a warpgroup and loop
//   peak_read  `count` packs of 16 bytes, read once
//
// What is multiplied is not zero and not equal, since the power that switching bits takes lowers the clock. The sum of what
// comes out is written so that it must be computed: 4 bytes a thread are all that is written.
#include "lib/mma.cuh"
#include "lib/pack.cuh"
#include "lib/wgmma.cuh"

// Bits that differ from place to place, as a number from -1 to 1.
DEVICE float scattered(uint32_t place) {
    place = (place ^ place >> 15) * 0x2c1b3c6du;
    place = (place ^ place >> 12) * 0x297a2d39u;
    return float(int32_t(place ^ place >> 15)) * 0x1p-31f;
}

extern "C" __global__ void __launch_bounds__(256) peak_f32(uint32_t loops, float* out) {
    const uint32_t thread = blockIdx.x * blockDim.x + threadIdx.x;
    float x[16], a = 1.0f + 0x1p-20f * scattered(thread), b = 0x1p-20f * scattered(~thread);
#pragma unroll
    for (int i = 0; i < 16; i++) x[i] = scattered(thread * 16 + i);
    for (uint32_t loop = 0; loop < loops; loop++) {
#pragma unroll
        for (int i = 0; i < 16; i++) x[i] = fmaf(x[i], a, b);
    }
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < 16; i++) sum += x[i];
    out[thread] = sum;
}

#ifdef HOPPER
constexpr int ROWS = 128, COLUMNS = 192, TERMS = 64;

extern "C" __global__ void __launch_bounds__(256) peak_bf16(uint32_t loops, float* out) {
    __shared__ alignas(1024) bf16 operands[(ROWS + COLUMNS) * TERMS];
    for (uint32_t i = threadIdx.x; i < (ROWS + COLUMNS) * TERMS; i += blockDim.x) operands[i] = from_float<bf16>(scattered(i));
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    __syncthreads();

    const uint32_t start = uint32_t(__cvta_generic_to_shared(operands));
    const uint64_t a = describe<128>(start + threadIdx.x / 128 * 64 * TERMS * 2, 0), b = describe<128>(start + ROWS * TERMS * 2, 0);
    float d[24][4] = {};
    for (uint32_t loop = 0; loop < loops; loop++) {
        wgmma_fence();
#pragma unroll
        for (int k = 0; k < TERMS / 16; k++) wgmma<false, false>(d, a + k * 2, b + k * 2);
        wgmma_commit();
        wgmma_wait<0>();
    }
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < 24; i++) sum += d[i][0] + d[i][1] + d[i][2] + d[i][3];
    out[blockIdx.x * blockDim.x + threadIdx.x] = sum;
}
#else
extern "C" __global__ void __launch_bounds__(256) peak_bf16(uint32_t loops, float* out) {
    const uint32_t thread = blockIdx.x * blockDim.x + threadIdx.x;
    uint32_t a[4], b[2];
#pragma unroll
    for (int i = 0; i < 4; i++) a[i] = pack_bf16(scattered(thread * 12 + i), scattered(thread * 12 + 4 + i));
#pragma unroll
    for (int i = 0; i < 2; i++) b[i] = pack_bf16(scattered(thread * 12 + 8 + i), scattered(thread * 12 + 10 + i));
    float c[8][4] = {};
    for (uint32_t loop = 0; loop < loops; loop++) {
#pragma unroll
        for (int i = 0; i < 8; i++) mma(c[i], a, b[0], b[1]);
    }
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < 8; i++) sum += c[i][0] + c[i][1] + c[i][2] + c[i][3];
    out[thread] = sum;
}
#endif

extern "C" __global__ void __launch_bounds__(256) peak_read(const float* x, uint64_t count, float* out) {
    constexpr int SIZE = Pack<float>::SIZE;
    float sum = 0.0f;
    each(count, [&](uint64_t i) {
        const Pack<float> pack = load(x + i * SIZE);
        sum += (pack[0] + pack[1]) + (pack[2] + pack[3]);
    });
    out[blockIdx.x * blockDim.x + threadIdx.x] = sum;
}
