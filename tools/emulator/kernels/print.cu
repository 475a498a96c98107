// printf, assert, local arrays, constants, switches and the mathematical library.

#include <assert.h>
#include <cuda_fp16.h>
#include <math.h>
#include <stdio.h>

extern "C" __global__ void print_lines(int n, float x) {
    int i = threadIdx.x;
    if (i < n) printf("lane %d of %3d: %.3f %s %5.1e %g %c %%\n", i, n, x * i, i % 2 ? "odd" : "even", x, x, 'a' + i);
}

extern "C" __global__ void assert_small(const int* values) { assert(values[threadIdx.x] < 100); }

__constant__ float scales[4];
__device__ int calls = 3;

// out[f * n + i] = function f of x[i], scaled by a constant.
extern "C" __global__ void functions(const float* __restrict__ x, float* __restrict__ out, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    if (i == 0) atomicAdd(&calls, 1);
    float v = x[i], y;
    switch (blockIdx.y) {
        case 0: y = sinf(v); break;
        case 1: y = expf(v); break;
        case 2: y = powf(fabsf(v), 1.3f); break;
        case 3: y = erff(v); break;
        case 4: y = tanhf(v); break;
        case 5: y = log1pf(fabsf(v)); break;
        case 6: y = cosf(v * 1000.f); break;
        case 7: y = fmodf(v, 0.3f); break;
        case 8: y = truncf(v * 7.f) + rintf(v * 5.f) * 10.f + floorf(v * 3.f) * 100.f; break;
        case 9: y = __half2float(__hfma(__float2half(v), __float2half(v), __float2half(1.f))); break;
        case 10: y = float(sqrt(double(v) * double(v) + 1.0)); break;
        default: y = cbrtf(v); break;
    }
    out[blockIdx.y * n + i] = y * scales[blockIdx.y & 3];
}

// Integer operations on pairs: out[16 * i + k].
extern "C" __global__ void integers(const int* __restrict__ a, const int* __restrict__ b, int* __restrict__ out, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    int x = a[i], y = b[i], local[16];
    unsigned ux = x, uy = y;
    local[0] = y ? x / y : 0;
    local[1] = y ? x % y : 0;
    local[2] = uy ? ux / uy : 0;
    local[3] = __popc(x) + 100 * __clz(x) + 10000 * __ffs(x);
    local[4] = __brev(x);
    local[5] = __byte_perm(x, y, 0x2741);
    local[6] = __funnelshift_l(x, y, x);
    local[7] = __mulhi(x, y);
    local[8] = __umulhi(ux, uy);
    local[9] = int((long long)x * y / 7);
    local[10] = max(x, y) - min(ux, uy);
    local[11] = __dp4a(x, y, 5);
    local[12] = x >> (y & 31) ^ int(ux << (y & 31));
    local[13] = __usad(ux, uy, 3);
    local[14] = int(__ll2float_rn((long long)x * 3));
    local[15] = __float2int_rd(float(x) * 0.001f) + __float2int_ru(float(y) * 0.001f);
    // An index that is known only at run time keeps the array in local memory.
    for (int k = 0; k < 16; k++) out[16 * i + k] = local[(k + n) & 15];
}

// Warp votes, matches and scans under divergence: out[4 * thread ..].
extern "C" __global__ void votes(const int* __restrict__ x, int* __restrict__ out) {
    int i = threadIdx.x, v = x[i], scan = v;
    unsigned all = __activemask();
    out[4 * i] = __ballot_sync(all, v & 1);
    out[4 * i + 1] = __popc(__match_any_sync(all, v % 3)) + 100 * __any_sync(all, v > 90) + 1000 * __all_sync(all, v >= 0);
    for (int by = 1; by < 32; by *= 2) {
        int left = __shfl_up_sync(all, scan, by);
        if (i % 32 >= by) scan += left;
    }
    out[4 * i + 2] = scan;
    int inside = 0;
    if (v & 1) {
        unsigned odd = __activemask();
        inside = __reduce_add_sync(odd, v);
        for (int k = 0; k < (v & 7); k++) inside += k;
        __syncwarp(odd);
    }
    out[4 * i + 3] = inside + __syncthreads_count(v & 1) * 100000;
}
