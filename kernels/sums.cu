// sum <- sum + x, element by element: a gradient that arrives at a value which already has one.
//
// Reads two arrays of `count` elements and writes one, 16 bytes at a time.
#include "lib/pack.cuh"

template <class T> __device__ void add(T* sum, const T* x, uint64_t count) {
    constexpr int SIZE = Pack<T>::SIZE;
    each(count / SIZE, [&](uint64_t i) {
        const Pack<T> a = load(sum + i * SIZE), b = load(x + i * SIZE);
        float sums[SIZE];
        for (int j = 0; j < SIZE; j++) sums[j] = a[j] + b[j];
        store(sum + i * SIZE, rounded<T>(sums));
    });
    const uint64_t whole = count / SIZE * SIZE;
    each(count - whole, [&](uint64_t i) {
        sum[whole + i] = from_float<T>(to_float(sum[whole + i]) + to_float(x[whole + i]));
    });
}

extern "C" __global__ void add_f32(float* sum, const float* x, uint64_t count) { add(sum, x, count); }
extern "C" __global__ void add_bf16(bf16* sum, const bf16* x, uint64_t count) { add(sum, x, count); }
