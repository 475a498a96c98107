// What a data set is made of for passes: the twin of `Facts` in src/cpu/score.rs.

#pragma once
#include "rows.cuh"

// One CTA a row. `slices` (rows, pitch) may be null where the values are their own; bytes beyond the row are zero.
template <int THREADS, class T>
DEVICE void slice_row(const T* values, uint32_t width, uint32_t pitch, uint32_t rows, uint8_t* slices, double* facts) {
    // What a sum of so many f64 squares may be off, relatively, and then some.
    constexpr double SLACK = 1.0 + 1e-9;
    Facts known(facts, rows);
    const uint32_t row = blockIdx.x;
    const T* x = values + size_t(row) * width;
    double square = 0.0, most = 0.0;
    for (uint32_t i = threadIdx.x; i < width; i += THREADS) {
        const double v = value_of(x[i]);
        square += v * v, most = fmax(most, fabs(v));
    }
    square = over_block<THREADS>(square, sum);
    double scale = 2.0 / 255.0, residual;
    uint8_t* slice = slices ? slices + size_t(row) * pitch : nullptr;
    if constexpr (sizeof(T) == 1) {
        // A value is rounded to half a unit of f32 twice, at a size of at most 2 and of at most 1.
        residual = sqrt(double(width)) * 0.75 * 1.1920928955078125e-7;
        for (uint32_t i = threadIdx.x; slice && i < pitch; i += THREADS) slice[i] = i < width ? x[i] : 0;
    } else {
        most = over_block<THREADS>(most, largest);
        scale = most > 0.0 ? most / 127.0 : 1.0;
        double rest = 0.0;
        for (uint32_t i = threadIdx.x; i < pitch; i += THREADS) {
            double v = i < width ? value_of(x[i]) : 0.0, byte = rint(v / scale);
            slice[i] = i < width ? uint8_t(byte + 128.0) : 0;
            rest += (v - scale * byte) * (v - scale * byte);
        }
        residual = sqrt(over_block<THREADS>(rest, sum)) * SLACK;
    }
    if (threadIdx.x == 0) {
        known.scale[row] = scale, known.square[row] = square, known.residual[row] = residual;
        known.length[row] = sqrt(square) * SLACK + (sizeof(T) == 1 ? residual : 0.0);
    }
}
