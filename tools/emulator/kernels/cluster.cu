// A cluster: distributed shared memory, bulk rows, tile stores, a reduction into global memory, elect and stmatrix.

#include "asm.cuh"
#include <cooperative_groups.h>
#include <cuda.h>

namespace cg = cooperative_groups;

// total[blockIdx / 4] = sum over the cluster's four CTAs of 4 * 256 floats. Each CTA fetches its row by a bulk copy, adds
// it up, and leaves the sum in the shared memory of rank 0.
extern "C" __global__ void __cluster_dims__(4, 1, 1) cluster_sum(const float* __restrict__ x, float* __restrict__ total) {
    __shared__ __align__(128) float row[256];
    __shared__ float sums[4];
    __shared__ __align__(8) uint64_t landed;
    auto cluster = cg::this_cluster();
    uint32_t barrier = shared_address(&landed);
    if (threadIdx.x == 0) {
        init_barrier(barrier, 1);
        fence_barrier_init();
        expect_bytes(barrier, sizeof row);
        asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
                         shared_address(row)),
                     "l"(x + blockIdx.x * 256), "r"(int(sizeof row)), "r"(barrier)
                     : "memory");
    }
    __syncthreads();
    wait(barrier, 0);
    float sum = 0.f;
    if (threadIdx.x < 32) {
        for (int i = threadIdx.x; i < 256; i += 32) sum += row[i];
        for (int offset = 16; offset; offset >>= 1) sum += __shfl_xor_sync(0xffffffffu, sum, offset);
    }
    if (threadIdx.x == 0) cluster.map_shared_rank(sums, 0)[cluster.block_rank()] = sum;
    cluster.sync();
    if (cluster.block_rank() == 0 && threadIdx.x == 0) total[blockIdx.x / 4] = sums[0] + sums[1] + sums[2] + sums[3];
}

// Rank r sends its row to rank r + 1 by a bulk copy that completes on the receiver's barrier; each stores what it got.
extern "C" __global__ void __cluster_dims__(2, 1, 1) pass_on(float* __restrict__ out) {
    __shared__ __align__(128) float own[64], received[64];
    __shared__ __align__(8) uint64_t landed;
    auto cluster = cg::this_cluster();
    unsigned other = cluster.block_rank() ^ 1;
    uint32_t barrier = shared_address(&landed);
    own[threadIdx.x] = float(cluster.block_rank() * 1000 + threadIdx.x);
    if (threadIdx.x == 0) {
        init_barrier(barrier, 1);
        fence_barrier_init();
        expect_bytes(barrier, sizeof received);
    }
    fence_async();
    cluster.sync();
    if (threadIdx.x == 0) {
        uint32_t to, signal;
        asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(to) : "r"(shared_address(received)), "r"(other));
        asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(signal) : "r"(barrier), "r"(other));
        asm volatile("cp.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(to),
                     "r"(shared_address(own)), "r"(int(sizeof own)), "r"(signal)
                     : "memory");
    }
    wait(barrier, 0);
    out[blockIdx.x * 64 + threadIdx.x] = received[threadIdx.x];
    cluster.sync();
}

// out tile (of a 2-D bf16 tensor) = 2 * in tile, and sums += each row of it: a tile load, stmatrix, a tile store, and
// bulk reductions. Boxes are 32 columns by 8 rows under the 64-byte swizzle; one warp.
extern "C" __global__ void double_tile(const __grid_constant__ CUtensorMap in, const __grid_constant__ CUtensorMap out,
                                       float* __restrict__ sums) {
    __shared__ __align__(1024) bf16 tile[8 * 32], twice[8 * 32];
    __shared__ __align__(128) float row_sums[32];
    __shared__ __align__(8) uint64_t landed;
    uint32_t barrier = shared_address(&landed), lane = threadIdx.x, leader;
    asm volatile(
        "{\n.reg .pred chosen;\nelect.sync _|chosen, 0xffffffff;\nselp.u32 %0, 1, 0, chosen;\n}" : "=r"(leader));
    if (leader) {
        init_barrier(barrier, 1);
        fence_barrier_init();
        expect_bytes(barrier, sizeof tile);
        load_tile(shared_address(tile), &in, barrier, blockIdx.x * 32 - 8, blockIdx.y * 8 - 3);
    }
    __syncwarp();
    wait(barrier, 0);
    // Fragment layout: lane holds row lane / 4, columns 2 (lane % 4) of each of four 8x8 matrices.
    uint32_t parts[4], row = lane / 4;
#pragma unroll
    for (int q = 0; q < 4; q++) {
        uint32_t at = row * 64 + ((q ^ (row >> 1 & 3)) << 4) + lane % 4 * 4;
        __nv_bfloat162 pair = *reinterpret_cast<__nv_bfloat162*>(reinterpret_cast<uint8_t*>(tile) + at);
        parts[q] = pack(2.f * __bfloat162float(pair.x), 2.f * __bfloat162float(pair.y));
    }
    uint32_t to = shared_address(twice) + (lane % 8) * 64 + ((lane / 8 ^ (lane % 8 >> 1 & 3)) << 4);
    asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(to), "r"(parts[0]),
                 "r"(parts[1]), "r"(parts[2]), "r"(parts[3])
                 : "memory");
    __syncwarp();
    float sum = 0.f;
    for (int r = 0; r < 8; r++) {
        uint32_t at = r * 64 + ((lane / 8 ^ (r >> 1 & 3)) << 4) + lane % 8 * 2;
        sum += __bfloat162float(*reinterpret_cast<bf16*>(reinterpret_cast<uint8_t*>(twice) + at));
    }
    row_sums[lane] = sum;
    fence_async();
    __syncwarp();
    if (leader) {
        asm volatile("cp.async.bulk.tensor.2d.global.shared::cta.tile.bulk_group [%0, {%2, %3}], [%1];" ::"l"(&out),
                     "r"(shared_address(twice)), "r"(blockIdx.x * 32 - 8), "r"(blockIdx.y * 8 - 3)
                     : "memory");
        asm volatile("cp.reduce.async.bulk.global.shared::cta.bulk_group.add.f32 [%0], [%1], %2;" ::"l"(
                         sums + blockIdx.x * 32),
                     "r"(shared_address(row_sums)), "r"(int(sizeof row_sums))
                     : "memory");
        asm volatile("cp.async.bulk.commit_group;" ::: "memory");
        asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory");
    }
}

// Rank 0 sends one row to the shared memory of both CTAs of the cluster, each of which waits on a barrier of its own.
extern "C" __global__ void __cluster_dims__(2, 1, 1) spread_row(const float* __restrict__ x, float* __restrict__ out) {
    __shared__ __align__(128) float row[64];
    __shared__ __align__(8) uint64_t landed;
    auto cluster = cg::this_cluster();
    uint32_t barrier = shared_address(&landed);
    if (threadIdx.x == 0) {
        init_barrier(barrier, 1);
        fence_barrier_init();
        expect_bytes(barrier, sizeof row);
    }
    cluster.sync();
    if (cluster.block_rank() == 0 && threadIdx.x == 0) {
        asm volatile(
            "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%0], [%1], %2, [%3], %4;" ::
                "r"(shared_address(row)),
            "l"(x), "r"(int(sizeof row)), "r"(barrier), "h"(uint16_t(3))
            : "memory");
    }
    wait(barrier, 0);
    out[blockIdx.x * 64 + threadIdx.x] = row[threadIdx.x];
    cluster.sync();
}

// A box of 4 x 3 x 2 floats of a tensor goes to the same place of another, and 16 floats of a line to `out`; one warp.
extern "C" __global__ void move_boxes(const __grid_constant__ CUtensorMap in, const __grid_constant__ CUtensorMap to,
                                      const __grid_constant__ CUtensorMap line, float* __restrict__ out, int x, int y,
                                      int z) {
    __shared__ __align__(128) float box[24], part[16];
    __shared__ __align__(8) uint64_t landed;
    uint32_t barrier = shared_address(&landed);
    if (threadIdx.x == 0) {
        init_barrier(barrier, 1);
        fence_barrier_init();
        expect_bytes(barrier, sizeof box + sizeof part);
        asm volatile(
            "cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5}], [%2];" ::
                "r"(shared_address(box)),
            "l"(&in), "r"(barrier), "r"(x), "r"(y), "r"(z)
            : "memory");
        asm volatile(
            "cp.async.bulk.tensor.1d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%3}], [%2];" ::"r"(
                shared_address(part)),
            "l"(&line), "r"(barrier), "r"(x)
            : "memory");
    }
    __syncwarp();
    wait(barrier, 0);
    if (threadIdx.x < 16) out[threadIdx.x] = part[threadIdx.x];
    if (threadIdx.x == 0) {
        asm volatile("cp.async.bulk.tensor.3d.global.shared::cta.tile.bulk_group [%0, {%2, %3, %4}], [%1];" ::"l"(&to),
                     "r"(shared_address(box)), "r"(x), "r"(y), "r"(z)
                     : "memory");
        asm volatile("cp.async.bulk.commit_group;" ::: "memory");
        asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory");
    }
}
