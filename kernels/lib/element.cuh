// The two types of activations, float and bf16, seen as floats; and 16 bytes of either at a time.
#pragma once
#include <cuda_bf16.h>
#include <cstdint>

using bf16 = __nv_bfloat16;

__device__ inline float to_float(float x) { return x; }
__device__ inline float to_float(bf16 x) { return __bfloat162float(x); }

template <class T> __device__ T from_float(float x);
template <> __device__ inline float from_float<float>(float x) { return x; }
template <> __device__ inline bf16 from_float<bf16>(float x) { return __float2bfloat16_rn(x); }

// 16 bytes of consecutive elements, moved by one instruction.
template <class T> struct alignas(16) Pack {
    static constexpr int SIZE = 16 / sizeof(T);
    T of[SIZE];
};

template <class T> __device__ Pack<T> load(const T* from) { return *reinterpret_cast<const Pack<T>*>(from); }
template <class T> __device__ void store(T* to, const Pack<T>& pack) { *reinterpret_cast<Pack<T>*>(to) = pack; }

// The elements of a grid-stride loop over `count`, each thread taking one after another in steps of the grid.
template <class F> __device__ void each(uint64_t count, F f) {
    const uint64_t stride = uint64_t(gridDim.x) * blockDim.x;
    for (uint64_t i = uint64_t(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += stride) f(i);
}
