// Arrays in memory: 16 bytes at a time, and loops over all of their elements.

#pragma once
#include "types.cuh"

// 16 bytes of consecutive elements, moved by one instruction.
template <class T>
struct Pack;

template <>
struct alignas(16) Pack<float> {
    static constexpr int SIZE = 4;
    float of[SIZE];

    DEVICE float operator[](int i) const { return of[i]; }
};

// Held by pairs: a register for each element would be twice as many.
template <>
struct alignas(16) Pack<bf16> {
    static constexpr int SIZE = 8;
    uint32_t of[SIZE / 2];

    DEVICE float operator[](int i) const { return i % 2 ? unpack_bf16(of[i / 2]).y : unpack_bf16(of[i / 2]).x; }
};

template <class T>
DEVICE Pack<T> rounded(const float (&x)[Pack<T>::SIZE]);
template <>
DEVICE Pack<float> rounded<float>(const float (&x)[4]) { return {x[0], x[1], x[2], x[3]}; }
template <>
DEVICE Pack<bf16> rounded<bf16>(const float (&x)[8]) {
    return {pack_bf16(x[0], x[1]), pack_bf16(x[2], x[3]), pack_bf16(x[4], x[5]), pack_bf16(x[6], x[7])};
}

template <class T>
DEVICE Pack<T> load(const T* from) { return *reinterpret_cast<const Pack<T>*>(from); }
template <class T>
DEVICE void store(T* to, const Pack<T>& pack) { *reinterpret_cast<Pack<T>*>(to) = pack; }

// The elements of a grid-stride loop over `count`, each thread taking one after another in steps of the grid.
template <class F>
DEVICE void each(uint64_t count, F f) {
    const uint64_t stride = uint64_t(gridDim.x) * blockDim.x;
    for (uint64_t i = uint64_t(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += stride) f(i);
}
