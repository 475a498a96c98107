// Asynchronous copies from global to shared memory, 16 bytes a thread.

#pragma once
#include "types.cuh"

DEVICE uint32_t shared_address(const void* p) { return uint32_t(__cvta_generic_to_shared(p)); }

// Shared memory as large as the launch asks for, aligned as the swizzle of wgmma's operands wants it.
DEVICE uint8_t* dynamic_shared() {
    extern __shared__ __align__(1024) uint8_t memory[];
    return memory;
}

// Past level one, since a CTA reads a tile once; level two asks memory for whole lines of 128 bytes, since the rest of a
// line belongs to the next stage or to the next head. Where not `valid` zeros are written and nothing is read.
DEVICE void copy16(uint32_t to, const void* from, bool valid) {
    asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(valid ? 16 : 0)
                 : "memory");
}

DEVICE void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Until at most `PENDING` of this thread's groups are under way; other threads' need a barrier behind it.
template <int PENDING>
DEVICE void wait_copies() {
    asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}
