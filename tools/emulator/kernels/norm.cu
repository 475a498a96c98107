// Row statistics and column sums: shuffles, vector loads, bf16, shared and global atomics, a block reduction whose last
// block finishes the sum.

#include <cuda_bf16.h>

__device__ float warp_sum(float x) {
#pragma unroll
    for (int offset = 16; offset; offset >>= 1) x += __shfl_xor_sync(0xffffffffu, x, offset);
    return x;
}

// y[r][:] = (x[r][:] - mean) * rstd, one warp for each row of `width` bf16, a multiple of 8.
extern "C" __global__ void norm_rows(const __nv_bfloat16* __restrict__ x, __nv_bfloat16* __restrict__ y,
                                     float* __restrict__ rstds, int rows, int width) {
    int row = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32, lane = threadIdx.x % 32;
    if (row >= rows) return;
    const uint4* from = reinterpret_cast<const uint4*>(x + size_t(row) * width);
    float sum = 0.f, squares = 0.f;
    for (int i = lane; i < width / 8; i += 32) {
        uint4 packed = from[i];
        const __nv_bfloat162* pairs = reinterpret_cast<const __nv_bfloat162*>(&packed);
#pragma unroll
        for (int k = 0; k < 4; k++) {
            float2 pair = __bfloat1622float2(pairs[k]);
            sum += pair.x + pair.y;
            squares += pair.x * pair.x + pair.y * pair.y;
        }
    }
    float mean = warp_sum(sum) / width;
    float rstd = rsqrtf(warp_sum(squares) / width - mean * mean + 1e-6f);
    for (int i = lane; i < width; i += 32) {
        float value = (__bfloat162float(x[size_t(row) * width + i]) - mean) * rstd;
        y[size_t(row) * width + i] = __float2bfloat16(value);
    }
    if (lane == 0) rstds[row] = rstd;
}

// columns[c] += sum over rows of x[r][c]: partial sums in shared memory, then one global atomic for each column.
extern "C" __global__ void sum_columns(const float* __restrict__ x, float* __restrict__ columns, int rows, int width) {
    extern __shared__ float partial[];
    for (int c = threadIdx.x; c < width; c += blockDim.x) partial[c] = 0.f;
    __syncthreads();
    int warps = blockDim.x / 32, warp = threadIdx.x / 32;
    for (int row = blockIdx.x * warps + warp; row < rows; row += gridDim.x * warps)
        for (int c = threadIdx.x % 32; c < width; c += 32) atomicAdd(&partial[c], x[size_t(row) * width + c]);
    __syncthreads();
    for (int c = threadIdx.x; c < width; c += blockDim.x) atomicAdd(&columns[c], partial[c]);
}

__device__ unsigned finished;

// total = sum of x, one float for each block in `partial`; the last block to finish adds them up.
extern "C" __global__ void sum_all(const float* __restrict__ x, float* partial, float* total, int n) {
    __shared__ float warps[32];
    __shared__ bool last;
    float sum = 0.f;
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) sum += x[i];
    sum = warp_sum(sum);
    if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = sum;
    __syncthreads();
    if (threadIdx.x == 0) {
        sum = 0.f;
        for (int w = 0; w < blockDim.x / 32; w++) sum += warps[w];
        partial[blockIdx.x] = sum;
        __threadfence();
        last = atomicAdd(&finished, 1u) == gridDim.x - 1;
    }
    __syncthreads();
    if (last && threadIdx.x == 0) {
        __threadfence();
        sum = 0.f;
        for (int b = 0; b < gridDim.x; b++) sum += partial[b];
        *total = sum;
        finished = 0;
    }
}
