"""Runs the kernels that `CONFORMANCE_DIR=folder cargo test -p emulator --test conformance` wrote, on the first GPU, and
leaves each one's output beside it as NAME.out. Needs python3 and a CUDA driver, nothing else.

    python3 record.py folder
"""

import ctypes
import pathlib
import sys

cuda = ctypes.CDLL("libcuda.so.1")


def call(name, *arguments):
    code = getattr(cuda, name)(*arguments)
    if code:
        text = ctypes.c_char_p()
        cuda.cuGetErrorString(code, ctypes.byref(text))
        raise SystemExit(f"{name}: error {code}: {(text.value or b'').decode()}")


def allocate(size):
    pointer = ctypes.c_uint64()
    call("cuMemAlloc_v2", ctypes.byref(pointer), ctypes.c_size_t(size))
    return pointer


def record(ptx):
    threads, size, *numbers = map(int, ptx.with_suffix(".args").read_text().split())
    data = ptx.with_suffix(".in").read_bytes()
    module, function = ctypes.c_void_p(), ctypes.c_void_p()
    call("cuModuleLoadData", ctypes.byref(module), ptx.read_bytes() + b"\0")
    call("cuModuleGetFunction", ctypes.byref(function), module, b"vector")
    source, target = allocate(len(data)), allocate(size)
    call("cuMemcpyHtoD_v2", source, data, ctypes.c_size_t(len(data)))
    values = [source, target, *(ctypes.c_uint64(n) for n in numbers)]
    pointers = (ctypes.c_void_p * len(values))(*(ctypes.cast(ctypes.byref(v), ctypes.c_void_p) for v in values))
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
    for kernel in kernels:
        record(kernel)
    print(f"{len(kernels)} kernels recorded")


main()
