// Scalars: the two types of activations seen as floats, and two bf16 in one register.

#pragma once
#include <cstdint>
#include <cuda_bf16.h>

#define DEVICE __device__ __forceinline__

using bf16 = __nv_bfloat16;

// Compiled for sm_90a, which has what no other target has.
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
#define HOPPER
#endif

constexpr int WARP = 32;

DEVICE float to_float(float x) { return x; }
DEVICE float to_float(bf16 x) { return __bfloat162float(x); }

template <class T>
DEVICE T from_float(float x);
template <>
DEVICE float from_float<float>(float x) { return x; }
template <>
DEVICE bf16 from_float<bf16>(float x) { return __float2bfloat16_rn(x); }

// Two bf16 in one register, the first in the low half, as they lie in memory.
DEVICE uint32_t pack_bf16(float first, float second) {
    __nv_bfloat162 pair = __floats2bfloat162_rn(first, second);
    return *reinterpret_cast<uint32_t*>(&pair);
}

DEVICE float2 unpack_bf16(uint32_t pair) { return {__uint_as_float(pair << 16), __uint_as_float(pair & 0xffff0000u)}; }
