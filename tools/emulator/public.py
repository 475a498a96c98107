"""Runs public CUDA kernels, which nobody here wrote, in the emulator: compiles every .cu file of a folder that compiles
alone, loads every kernel, and checks those that public.txt has a launch for. Needs python3, nvcc (see tools/nvcc) and cargo.

    git clone https://github.com/karpathy/llm.c
    python3 tools/emulator/public.py llm.c/dev/cuda

Launches of one group are versions of one kernel: their outputs must agree with the first one's.
"""

import collections
import math
import os
import pathlib
import subprocess
import sys
import tempfile

here = pathlib.Path(__file__).resolve().parent
# Of the libraries that these files call on the host, only the names: device code needs none of them.
CUBLAS = """#pragma once
#include <stdint.h>
#include <cuda_runtime.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#define FUNCTION(name) template <class... A> int name(A...) { return 0; }
typedef void* cublasHandle_t;
typedef int cublasStatus_t, cublasMath_t, cublasComputeType_t, cublasOperation_t;
enum { CUBLAS_STATUS_SUCCESS, CUBLAS_OP_N, CUBLAS_OP_T, CUBLAS_COMPUTE_32F, CUBLAS_COMPUTE_32F_FAST_TF32, CUBLAS_COMPUTE_16F,
       CUBLAS_TF32_TENSOR_OP_MATH, CUBLAS_DEFAULT_MATH, CUBLAS_GEMM_DEFAULT };
FUNCTION(cublasCreate) FUNCTION(cublasDestroy) FUNCTION(cublasSetMathMode) FUNCTION(cublasSgemm) FUNCTION(cublasSgemv)
FUNCTION(cublasSgemmStridedBatched) FUNCTION(cublasGemmStridedBatchedEx)
typedef void *cublasLtHandle_t, *cublasLtMatmulDesc_t, *cublasLtMatrixLayout_t, *cublasLtMatmulPreference_t;
typedef int cublasLtEpilogue_t;
struct cublasLtMatmulHeuristicResult_t { int algo; };
enum { CUBLASLT_EPILOGUE_DEFAULT, CUBLASLT_EPILOGUE_BIAS, CUBLASLT_EPILOGUE_GELU, CUBLASLT_EPILOGUE_GELU_BIAS,
       CUBLASLT_MATMUL_DESC_TRANSA, CUBLASLT_MATMUL_DESC_TRANSB, CUBLASLT_MATMUL_DESC_EPILOGUE,
       CUBLASLT_MATMUL_DESC_BIAS_POINTER, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES };
FUNCTION(cublasLtCreate) FUNCTION(cublasLtDestroy) FUNCTION(cublasLtMatmul) FUNCTION(cublasLtMatmulAlgoGetHeuristic)
FUNCTION(cublasLtMatmulDescCreate) FUNCTION(cublasLtMatmulDescDestroy) FUNCTION(cublasLtMatmulDescSetAttribute)
FUNCTION(cublasLtMatrixLayoutCreate) FUNCTION(cublasLtMatrixLayoutDestroy) FUNCTION(cublasLtMatmulPreferenceCreate)
FUNCTION(cublasLtMatmulPreferenceDestroy) FUNCTION(cublasLtMatmulPreferenceSetAttribute)
#undef FUNCTION
"""


def run(*command):
    result = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    return result.returncode, result.stdout, result.stderr.strip()


def compile_all(sources, folder):
    """PTX of each file, or the compiler's first complaint."""
    (folder / "cublas_v2.h").write_text(CUBLAS)
    (folder / "cublasLt.h").write_text('#include "cublas_v2.h"\n')
    home = os.environ.get("CUDA_HOME") or run(here.parent / "nvcc")[1].strip()
    for source in sources:
        ptx = folder / f"{source.stem}.ptx"
        code, _, errors = run(
            f"{home}/bin/nvcc", "-std=c++17", "-O3", "-lineinfo", "-ptx", "-arch=compute_90a", f"-I{folder}", source, "-o", ptx
        )
        yield source.stem, ptx, "" if code == 0 else (errors.splitlines() or ["nvcc failed"])[0]


def launches():
    """By file: group, kernel, further parts of its mangled name, and the emulator's options."""
    table = collections.defaultdict(list)
    for line in (here / "public.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            file, group, kernel, grid, block, shared, *arguments = line.split()
            options = ["--grid", grid, "--block", block, "--shared", shared]
            options += [part for argument in arguments for part in ("--arg", argument)]
            table[file].append((group, kernel.split("|"), options))
    return table


def agree(first, other):
    """Whether numbers differ by no more than two roundings to bf16 and sums in another order."""
    if len(first) != len(other):
        return False
    near = (lambda a, b: a == b or abs(a - b) <= 2**-6 * max(abs(a), abs(b)) + 1e-2)
    return all(near(a, b) or math.isnan(a) and math.isnan(b) for a, b in zip(first, other))


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sources = sorted(pathlib.Path(sys.argv[1]).glob("*.cu"))
    code, _, errors = run("cargo", "build", "--quiet", "--release", "-p", "emulator", "--manifest-path", here / "Cargo.toml")
    if code:
        sys.exit(errors)
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR") or here.parent.parent / "target")
    emulator, table = target / "release" / "emulator", launches()
    totals = collections.Counter()
    with tempfile.TemporaryDirectory() as folder:
        for file, ptx, complaint in compile_all(sources, pathlib.Path(folder)):
            if complaint:
                totals["files that do not compile alone"] += 1
                print(f"{file}: does not compile alone: {complaint}")
                continue
            code, listing, errors = run(emulator, "list", ptx)
            if code:
                sys.exit(f"{file}: {errors}")
            kernels = dict(line.split(": ", 1) for line in listing.splitlines())
            refused = {name: why for name, why in kernels.items() if why.startswith("refused")}
            totals["kernels load"] += len(kernels) - len(refused)
            totals["kernels are refused"] += len(refused)
            print(f"{file}: {len(kernels) - len(refused)} of {len(kernels)} kernels load")
            for name, why in refused.items():
                print(f"    {name}: {why}")
            first = {}
            for group, parts, options in table[file]:
                found = [name for name in kernels if f"{len(parts[0])}{parts[0]}" in name and all(p in name for p in parts[1:])]
                if len(found) != 1:
                    print(f"    {'|'.join(parts)}: {len(found)} kernels have this name")
                    totals["launches without their kernel"] += 1
                    continue
                code, _, errors = run(emulator, "check", ptx, "--kernel", found[0], *options)
                outcome, verdict = "kernels run", "runs"
                if code:
                    outcome, verdict = "kernels fault", errors
                else:
                    _, printed, _ = run(emulator, "run", ptx, "--kernel", found[0], *options)
                    numbers = [float(word) for word in printed.split()]
                    if not agree(first.setdefault(group, numbers), numbers):
                        outcome, verdict = "kernels disagree", f"disagrees with the first of {group}"
                totals[outcome] += 1
                print(f"    {'|'.join(parts)}: {verdict}")
    print(", ".join(f"{count} {what}" for what, count in totals.items()))


main()
