// Hopper's own engines: barriers in shared memory that count bytes, copies of whole boxes, and registers that move between
// warpgroups.

#pragma once
#include "copy.cuh"
#include <cuda.h>

constexpr int WARPGROUP = 128;

// A barrier's phase ends when `arrivals` threads have come and all bytes announced meanwhile have landed.
DEVICE void init_barrier(uint32_t barrier, uint32_t arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals) : "memory");
}

// Shows initialised barriers to the copy engine; other threads need a barrier behind it.
DEVICE void publish_barriers() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }

DEVICE void arrive(uint32_t barrier) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}

// Arrives and announces bytes.
DEVICE void expect(uint32_t barrier, uint32_t bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}

// Until the phase of this parity has ended. Of a new barrier that of parity 1 counts as ended.
DEVICE void wait(uint32_t barrier, uint32_t parity) {
    asm volatile(
        "{\n.reg .pred done;\nAGAIN:\nmbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n@!done bra AGAIN;\n}" ::"r"(
            barrier),
        "r"(parity)
        : "memory");
}

// Copies the box of a map that starts at a column and a row of an image; what lies outside becomes zeros. Its bytes count at
// `barrier`, zeros included.
DEVICE void copy_box(uint32_t to, const CUtensorMap& map, uint32_t barrier, uint32_t column, uint32_t row, uint32_t image) {
    asm volatile(
        "cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5}], [%2];" ::
            "r"(to),
        "l"(&map), "r"(barrier), "r"(column), "r"(row), "r"(image)
        : "memory");
}

// The same to the same place in both CTAs of a cluster of two; its bytes count at the same barrier of each.
DEVICE void copy_box_to_both(uint32_t to, const CUtensorMap& map, uint32_t barrier, uint32_t column, uint32_t row,
                             uint32_t image) {
    asm volatile(
        "cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.multicast::cluster"
        " [%0], [%1, {%3, %4, %5}], [%2], %6;" ::"r"(to),
        "l"(&map), "r"(barrier), "r"(column), "r"(row), "r"(image), "h"(uint16_t(3))
        : "memory");
}

DEVICE uint32_t cluster_rank() {
    uint32_t rank;
    asm("mov.u32 %0, %cluster_ctarank;" : "=r"(rank));
    return rank;
}

// Of all threads of the cluster that have not ended.
DEVICE void synchronize_cluster() {
    asm volatile("barrier.cluster.arrive.release;\nbarrier.cluster.wait.acquire;" ::: "memory");
}

// Arrives at the same barrier of the CTA of this rank.
DEVICE void arrive_at(uint32_t barrier, uint32_t rank) {
    asm volatile(
        "{\n.reg .b32 there;\nmapa.shared::cluster.u32 there, %0, %1;\n"
        "mbarrier.arrive.release.cluster.shared::cluster.b64 _, [there];\n}" ::"r"(barrier),
        "r"(rank)
        : "memory");
}

// A barrier of two warpgroups at which one waits and the other does not.
DEVICE void wait_for_warpgroup() { asm volatile("bar.sync 1, 256;" ::: "memory"); }
DEVICE void let_warpgroup_go() { asm volatile("bar.arrive 1, 256;" ::: "memory"); }

// From here on each thread of this warpgroup has COUNT registers, fewer or more than before.
template <int COUNT>
DEVICE void give_registers() {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(COUNT));
}
template <int COUNT>
DEVICE void take_registers() {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(COUNT));
}

// Shows what this thread has written to shared memory to the copy engine and to wgmma; they need a barrier behind it.
DEVICE void publish_to_engines() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

// A ring of stages of BYTES bytes, each full when its writers have come and its copies have landed, and empty when its readers
// have said so.
// Every thread that uses it keeps its own place.
template <int STAGES, int BYTES>
struct Ring {
    // Of memory, and of barriers.
    static constexpr int MEMORY = STAGES * BYTES, BARRIERS = STAGES * 16;

    uint32_t first, fulls, stage = 0, turn = 0;

    DEVICE Ring(uint32_t memory, uint32_t barriers) : first(memory), fulls(barriers) {}
    // One thread's work, which then publishes them.
    DEVICE void init(uint32_t writers, uint32_t readers) const {
        for (int i = 0; i < STAGES; i++)
            init_barrier(fulls + i * 16, writers), init_barrier(fulls + i * 16 + 8, readers);
    }
    DEVICE uint32_t at() const { return first + stage * BYTES; }
    DEVICE uint32_t full() const { return fulls + stage * 16; }
    DEVICE uint32_t empty() const { return full() + 8; }
    DEVICE void wait_full() const { wait(full(), turn); }
    DEVICE void wait_empty() const { wait(empty(), turn ^ 1); }
    DEVICE void next() {
        if (++stage == STAGES) stage = 0, turn ^= 1;
    }
};
