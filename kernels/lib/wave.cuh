// Cosine and sine in f64.

#pragma once
#include "types.cuh"

// cos x and sin x: with x = n pi / 2 + r, the Taylor series of r, whose next terms are below 1e-15.
DEVICE double2 cos_sin(double x) {
    constexpr double PI_2 = 1.5707963267948966, PI_2_LOW = 6.123233995736766e-17;
    double n = rint(x / PI_2), r = fma(n, -PI_2_LOW, fma(n, -PI_2, x)), square = r * r, cos = 1, sin = 1;
#pragma unroll
    for (int k = 14; k > 0; k -= 2) {
        cos = fma(square * (-1.0 / (k * (k - 1))), cos, 1.0);
        sin = fma(square * (-1.0 / (k * (k + 1))), sin, 1.0);
    }
    sin *= r;
    int turn = int(n) & 3;
    double2 turned = turn % 2 ? double2{-sin, cos} : double2{cos, sin};
    return turn / 2 ? double2{-turned.x, -turned.y} : turned;
}
