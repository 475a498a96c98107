// join: a stream after its branch beside a long skip, y = [s + branch, skip], and the gradients of the three.
//
//   s, branch, skip and their gradients (rows, D) T      y, dy (rows, 2 D) T
//
// A thread takes one element of each at a time: reads three and writes two, and the other way round.
#include "lib/pack.cuh"

template <class T>
DEVICE void forward(const T* s, const T* branch, const T* skip, T* y, uint32_t width, uint64_t count) {
    each(count, [&](uint64_t i) {
        uint64_t at = i + i / width * width;
        y[at] = from_float<T>(to_float(s[i]) + to_float(branch[i]));
        y[at + width] = skip[i];
    });
}

template <class T>
DEVICE void backward(const T* dy, T* ds, T* dbranch, T* dskip, uint32_t width, uint64_t count) {
    each(count, [&](uint64_t i) {
        uint64_t at = i + i / width * width;
        ds[i] = dbranch[i] = dy[at];
        dskip[i] = dy[at + width];
    });
}

#define EITHER_TYPE(T, TYPE)                                                                                           \
    extern "C" __global__ void join_forward_##TYPE(const T* __restrict__ s, const T* __restrict__ branch,              \
                                                   const T* __restrict__ skip, T* __restrict__ y, uint32_t width,      \
                                                   uint64_t count) {                                                   \
        forward(s, branch, skip, y, width, count);                                                                     \
    }                                                                                                                  \
    extern "C" __global__ void join_backward_##TYPE(const T* __restrict__ dy, T* __restrict__ ds,                      \
                                                    T* __restrict__ dbranch, T* __restrict__ dskip, uint32_t width,    \
                                                    uint64_t count) {                                                  \
        backward(dy, ds, dbranch, dskip, width, count);                                                                \
    }
EITHER_TYPE(float, f32)
EITHER_TYPE(bf16, bf16)
