"""Runs the kernels that `CONFORMANCE_DIR=folder cargo test -p emulator --test conformance` wrote, on the first GPU, and
leaves each one's output beside it as NAME.out. Needs python3, a CUDA driver and a GPU of compute capability 9.0, nothing else.

    python3 record.py folder
"""

import ctypes
import pathlib
import sys

cuda = ctypes.CDLL("libcuda.so.1")

# As in cuda.h: CUtensorMapDataType and CUtensorMapSwizzle.
TYPES = ["U8", "U16", "U32", "S32", "U64", "S64", "F16", "F32", "F64", "Bf16"]
SWIZZLES = ["None", "B32", "B64", "B128"]
# What outputs hold before the launch, as in the emulator's test.
FILL = 0xCD


def call(name, *arguments):
    code = getattr(cuda, name)(*arguments)
    if code:
        text = ctypes.c_char_p()
        cuda.cuGetErrorString(code, ctypes.byref(text))
        raise RuntimeError(f"{name}: error {code}: {(text.value or b'').decode()}")


def allocate(size):
    pointer = ctypes.c_uint64()
    call("cuMemAlloc_v2", ctypes.byref(pointer), ctypes.c_size_t(size))
    return pointer


def tensor_map(base, ty, swizzle, extents, strides, sides):
    """The 128 bytes of a CUtensorMap, at an address that is a multiple of 64."""
    extents, sides = ([int(n) for n in text.split(",")] for text in (extents, sides))
    strides = [] if strides == "-" else [int(n) for n in strides.split(",")]
    rank, room = len(extents), (ctypes.c_uint8 * 192)()
    at = ctypes.addressof(room)
    at += -at % 64
    call(
        "cuTensorMapEncodeTiled",
        ctypes.c_void_p(at),
        TYPES.index(ty),
        ctypes.c_uint32(rank),
        ctypes.c_void_p(base.value),
        (ctypes.c_uint64 * rank)(*extents),
        (ctypes.c_uint64 * max(rank - 1, 1))(*strides),
        (ctypes.c_uint32 * rank)(*sides),
        (ctypes.c_uint32 * rank)(*[1] * rank),
        0,  # no interleave
        SWIZZLES.index(swizzle),
        0,  # no promotion to L2 sectors
        0,  # zeros for what is outside
    )
    return (ctypes.c_uint8 * 128).from_buffer_copy(ctypes.string_at(at, 128))


def record(ptx):
    launch, *maps = ptx.with_suffix(".launch").read_text().splitlines()
    threads, size, *numbers = map(int, launch.split())
    data = ptx.with_suffix(".in").read_bytes()
    module, function = ctypes.c_void_p(), ctypes.c_void_p()
    call("cuModuleLoadData", ctypes.byref(module), ptx.read_bytes() + b"\0")
    call("cuModuleGetFunction", ctypes.byref(function), module, b"vector")
    source, target = allocate(len(data)), allocate(size)
    call("cuMemcpyHtoD_v2", source, data, ctypes.c_size_t(len(data)))
    call("cuMemsetD8_v2", target, ctypes.c_uint8(FILL), ctypes.c_size_t(size))
    values = [source, target, *(ctypes.c_uint64(n) for n in numbers)]
    for line in maps:
        of, *shape = line.split()
        values.append(tensor_map(target if of == "output" else source, *shape))
    pointers = (ctypes.c_void_p * len(values))(*(ctypes.addressof(v) for v in values))
    call("cuLaunchKernel", function, 1, 1, 1, threads, 1, 1, 0, None, pointers, None)
    call("cuCtxSynchronize")
    output = ctypes.create_string_buffer(size)
    call("cuMemcpyDtoH_v2", output, target, ctypes.c_size_t(size))
    ptx.with_suffix(".out").write_bytes(output.raw)
    call("cuMemFree_v2", source)
    call("cuMemFree_v2", target)
    call("cuModuleUnload", module)


def main():
    device, context = ctypes.c_int(), ctypes.c_void_p()
    call("cuInit", 0)
    call("cuDeviceGet", ctypes.byref(device), 0)
    call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
    call("cuCtxSetCurrent", context)
    kernels = sorted(pathlib.Path(sys.argv[1]).glob("*.ptx"))
    failed = 0
    for kernel in kernels:
        try:
            record(kernel)
        except RuntimeError as error:
            failed += 1
            print(f"{kernel.name}: {error}", file=sys.stderr)
    print(f"{len(kernels) - failed} of {len(kernels)} kernels recorded")
    sys.exit(failed > 0)


main()
