// The update of all parameters, as two launches over the flat slabs of `count` elements, a multiple of 64.
//
//   gradient_norm  |g| in f64; then, in the block that arrives last, what the step does: the report (loss, norm, applied) and the
//           decision (clip, rate / (1 - b1^k), 1 / sqrt(1 - b2^k), rate decay, applied), k counting the applied updates
//   adamw          g <- clip g      m <- b1 m + (1 - b1) g      v <- b2 v + (1 - b2) g^2
//           w <- w - rate decay w - rate' m / (sqrt(v) scale + eps)        e <- e + (1 - d) (w - e)
//
//   cast_bf16      the weights as products read them, where only the masters were written: reads 4 bytes, writes 2
//
// A step whose loss, norm or square of the clipped norm is not finite in f32 touches nothing. gradient_norm reads 4 bytes an
// element; adamw reads g, m, v, w and every average and writes all but g, and the bf16 copy of w: 38 bytes with one average.
// AdamW: Loshchilov and Hutter, 2019.
#include "lib/pack.cuh"
#include "lib/reduce.cuh"

constexpr int THREADS = 256;

// The sum over the block in a fixed order; every thread gets it.
__device__ double block_sum(double x) {
    __shared__ double lanes[THREADS / 32];
    x = warp_sum(x);
    __syncthreads(); // an earlier sum may still be read
    if (threadIdx.x % 32 == 0) lanes[threadIdx.x / 32] = x;
    __syncthreads();
    double sum = 0.0;
    for (int warp = 0; warp < THREADS / 32; warp++) sum += lanes[warp];
    return sum;
}

// b^k by repeated squaring.
__device__ double power(double b, uint32_t k) {
    double p = 1.0;
    for (; k; k >>= 1, b *= b) {
        if (k & 1) p *= b;
    }
    return p;
}

// `applied` is (updates applied, blocks that have arrived); a `clip` of 0 leaves the gradient.
extern "C" __global__ void gradient_norm(const float* g, uint64_t count, double* partial, const float* loss, const float* rate,
                                float clip, float beta1, float beta2, float weight_decay, uint32_t* applied,
                                float* decision, float* report) {
    double sum = 0.0;
    each(count / 4, [&](uint64_t i) {
        const Pack<float> four = load(g + i * 4);
        for (float x : four.of) sum += double(x) * double(x);
    });
    sum = block_sum(sum);
    __shared__ bool last;
    if (threadIdx.x == 0) {
        partial[blockIdx.x] = sum;
        __threadfence();
        // Wraps to zero with the last arrival, ready for the next step.
        last = atomicInc(applied + 1, gridDim.x - 1) == gridDim.x - 1;
    }
    __syncthreads();
    if (!last) return;
    __threadfence();
    sum = 0.0;
    for (uint32_t i = threadIdx.x; i < gridDim.x; i += THREADS) sum += __ldcg(partial + i);
    sum = block_sum(sum);
    if (threadIdx.x > 0) return;
    const double norm = sqrt(sum);
    const double scaled = clip > 0.0f ? fmin(double(clip) / norm, 1.0) : 1.0;
    // The norm bounds every element, so no second moment comes to infinity, from which it would not return.
    const bool finite = isfinite(float(norm)) && isfinite(float(norm * scaled * (norm * scaled))) && isfinite(*loss);
    report[0] = *loss;
    report[1] = float(norm);
    report[2] = finite ? 1.0f : 0.0f;
    const uint32_t k = *applied + 1;
    decision[0] = float(scaled);
    decision[1] = float(double(*rate) / (1.0 - power(beta1, k)));
    decision[2] = float(1.0 / sqrt(1.0 - power(beta2, k)));
    decision[3] = *rate * weight_decay;
    decision[4] = finite ? 1.0f : 0.0f;
    if (finite) *applied = k;
}

struct Average {
    float* e;
    float decay;
};

// `working` and the averages may be null.
extern "C" __global__ void adamw(const float* g, float* w, bf16* working, float* m, float* v, uint64_t count,
                                 const float* decision, float beta1, float beta2, float epsilon, float* e0, float d0,
                                 float* e1, float d1, float* e2, float d2, float* e3, float d3) {
    if (decision[4] == 0.0f) return;
    const float clip = decision[0], rate = decision[1], scale = decision[2], decay = decision[3];
    const Average averages[] = {{e0, d0}, {e1, d1}, {e2, d2}, {e3, d3}};
    each(count / 4, [&](uint64_t i) {
        const uint64_t at = i * 4;
        const Pack<float> gs = load(g + at);
        Pack<float> ws = load(w + at), ms = load(m + at), vs = load(v + at);
        for (int j = 0; j < 4; j++) {
            const float x = gs.of[j] * clip;
            ms.of[j] = beta1 * ms.of[j] + (1.0f - beta1) * x;
            vs.of[j] = beta2 * vs.of[j] + (1.0f - beta2) * (x * x);
            ws.of[j] -= decay * ws.of[j] + rate * ms.of[j] / (sqrtf(vs.of[j]) * scale + epsilon);
        }
        store(w + at, ws);
        store(m + at, ms);
        store(v + at, vs);
        if (working) {
            *reinterpret_cast<uint2*>(working + at) = {pack_bf16(ws.of[0], ws.of[1]), pack_bf16(ws.of[2], ws.of[3])};
        }
        for (const Average& average : averages) {
            if (!average.e) continue;
            Pack<float> es = load(average.e + at);
            for (int j = 0; j < 4; j++) es.of[j] += (1.0f - average.decay) * (ws.of[j] - es.of[j]);
            store(average.e + at, es);
        }
    });
}

extern "C" __global__ void cast_bf16(const float* from, bf16* to, uint64_t count) {
    each(count / 8, [&](uint64_t i) {
        const Pack<float> low = load(from + i * 8), high = load(from + i * 8 + 4);
        store(to + i * 8, rounded<bf16>({low[0], low[1], low[2], low[3], high[0], high[1], high[2], high[3]}));
    });
}
