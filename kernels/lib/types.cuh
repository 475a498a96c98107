// What the kernels of matrices share: registers that hold two bf16, and names.

#pragma once
#include "element.cuh"

#define DEVICE __device__ __forceinline__

constexpr int WARP = 32;

// Two bf16 in one register, the first in the low half, as they lie in memory.
DEVICE uint32_t pack_bf16(float first, float second) {
    __nv_bfloat162 pair = __floats2bfloat162_rn(first, second);
    return *reinterpret_cast<uint32_t*>(&pair);
}

DEVICE float2 unpack_bf16(uint32_t pair) { return {__uint_as_float(pair << 16), __uint_as_float(pair & 0xffff0000u)}; }
