// Sums over the threads of a warp, in a fixed order.

#pragma once
#include "types.cuh"

// Every lane gets the sum over the warp, whose lanes all take part.
template <class T>
DEVICE T warp_sum(T x) {
#pragma unroll
    for (int distance = WARP / 2; distance > 0; distance /= 2) x += __shfl_xor_sync(0xffffffffu, x, distance);
    return x;
}
