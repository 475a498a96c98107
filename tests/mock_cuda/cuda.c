// A CUDA driver without a card: what it is comes from the environment, and device memory is the host's.

#include <stdlib.h>
#include <string.h>

static int number(const char *name, int otherwise) {
    const char *text = getenv(name);
    return text ? atoi(text) : otherwise;
}

int cuInit(unsigned flags) { return number("MOCK_INIT", 0); }
int cuDriverGetVersion(int *version) { return *version = number("MOCK_VERSION", 13000), 0; }
int cuDeviceGetCount(int *count) { return *count = number("MOCK_CARDS", 1), 0; }
int cuDeviceGet(int *device, int ordinal) { return *device = ordinal, 0; }
int cuDeviceGetName(char *name, int size, int device) { return strncpy(name, "Mock", size), 0; }
int cuDeviceTotalMem_v2(size_t *bytes, int device) { return *bytes = 1 << 30, 0; }
// 75 and 76 are the capability, 16 the multiprocessors.
int cuDeviceGetAttribute(int *value, int which, int device) {
    return *value = which == 75 ? number("MOCK_MAJOR", 9) : which == 76 ? 0 : 8, 0;
}
int cuDevicePrimaryCtxRetain(void **context, int device) { return *context = context, 0; }
int cuDevicePrimaryCtxRelease_v2(int device) { return 0; }
int cuCtxSetCurrent(void *context) { return 0; }
int cuStreamCreate(void **stream, unsigned flags) { return *stream = stream, 0; }
int cuStreamSynchronize(void *stream) { return 0; }
int cuStreamDestroy_v2(void *stream) { return 0; }
int cuMemGetInfo_v2(size_t *free, size_t *total) { return *free = *total = 1 << 30, 0; }
int cuMemAlloc_v2(unsigned long long *address, size_t bytes) {
    if (getenv("MOCK_FULL")) return 2;
    void *memory = NULL;
    int failed = posix_memalign(&memory, 256, bytes);
    *address = (unsigned long long)memory;
    return failed ? 2 : 0;
}
int cuMemFree_v2(unsigned long long address) { return free((void *)address), 0; }
int cuMemcpyHtoDAsync_v2(unsigned long long to, const void *from, size_t bytes, void *stream) {
    return memcpy((void *)to, from, bytes), 0;
}
int cuMemcpyDtoHAsync_v2(void *to, unsigned long long from, size_t bytes, void *stream) {
    return memcpy(to, (void *)from, bytes), 0;
}
int cuMemcpyDtoDAsync_v2(unsigned long long to, unsigned long long from, size_t bytes, void *stream) {
    return memcpy((void *)to, (void *)from, bytes), 0;
}
int cuMemsetD8Async(unsigned long long to, unsigned char value, size_t bytes, void *stream) {
    return memset((void *)to, value, bytes), 0;
}
// A mock runs no kernels.
int cuModuleLoadData(void **module, const void *image) { return 209; }
int cuGetErrorString(int code, const char **text) {
    switch (code) {
        case 2: *text = "out of memory"; break;
        case 34: *text = "CUDA driver is a stub library"; break;
        case 100: *text = "no CUDA-capable device is detected"; break;
        case 209: *text = "no kernel image is available for execution on the device"; break;
        case 803: *text = "system has unsupported display driver / cuda driver combination"; break;
        default: *text = "unknown error";
    }
    return 0;
}
