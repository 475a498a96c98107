// gelu: the error function's form of GELU and its derivative, over the argument of a U-ViT's mlp.
//
//   value[i] <- v Phi(v)      slope[i] = Phi(v) + v phi(v)      v the old value[i]
//
//   value, slope (count) T
//
// Reads one array and writes two. Phi(-|v|) = erfc(z) / 2 with z = |v| / sqrt 2, and erfc(z) = t exp(P(t) - z^2) with
// t = 1 / (1 + z / 2): P is the Chebyshev fit of degree 9 of src/cpu/math.rs. Absolute error below 4e-7 (|v| + 1).
#include "lib/math.cuh"
#include "lib/pack.cuh"

template <class T>
DEVICE void gelu_erf(T* value, T* slope, uint64_t count) {
    each(count, [&](uint64_t i) {
        float v = to_float(value[i]), z = fminf(fabsf(v) * 0.707106781f, 20.f);
        float t = reciprocal_approximate(fmaf(0.5f, z, 1.f)), p = 0.154191726f;
        constexpr float P[9] = {-0.731059301f, 1.27436159f,  -0.851879444f, 0.047508607f, -0.0660282766f,
                                0.0572463487f, 0.381963899f, 0.9991688f,    -1.2654739f};
#pragma unroll
        for (int k = 0; k < 9; k++) p = fmaf(p, t, P[k]);
        float tail = 0.5f * t * exp2_approximate(LOG2_E * (p - z * z));
        float phi = v < 0.f ? tail : 1.f - tail;
        float density = 0.39894228f * exp2_approximate(-LOG2_E * z * z);
        value[i] = from_float<T>(v * phi);
        slope[i] = from_float<T>(fmaf(fminf(fmaxf(v, -30.f), 30.f), density, phi));
    });
}

extern "C" __global__ void gelu_erf_f32(float* value, float* slope, uint64_t count) { gelu_erf(value, slope, count); }
extern "C" __global__ void gelu_erf_bf16(bf16* value, bf16* slope, uint64_t count) { gelu_erf(value, slope, count); }
