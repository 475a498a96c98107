// A CUDA driver without a card: what it is comes from the environment, and device memory is the host's.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// What was handed out and not taken back.
static int live;

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
int cuCtxSetCurrent(void *context) { return 0; }
int cuStreamCreate(void **created, unsigned flags) { return *created = created, live++, 0; }
int cuMemGetInfo_v2(size_t *free, size_t *total) { return *free = *total = 1 << 30, 0; }

// What is asked of the stream waits until somebody waits for it: who reads or writes too early sees the wrong bytes.
typedef struct { char *to; const char *from; char *own; size_t bytes; int value; void *event; } Call;
typedef struct { Call *calls; int count; } List;
static List stream, graph, *asked = &stream;
static void ask(Call call) {
    asked->calls = realloc(asked->calls, (asked->count + 1) * sizeof(Call));
    asked->calls[asked->count++] = call;
}
// Does the first `count` calls of the stream.
static void happen(int count) {
    static int time;
    for (int i = 0; i < count; i++) {
        Call *call = &stream.calls[i];
        if (call->event) *(int *)call->event = time;
        else time++;
        if (call->from) memcpy(call->to, call->from, call->bytes);
        else if (call->to) memset(call->to, call->value, call->bytes);
        free(call->own);
    }
    memmove(stream.calls, stream.calls + count, (stream.count -= count) * sizeof(Call));
}

// Page-locked memory, of which a copy takes what is there when it happens.
typedef struct Pinned { char *start; size_t bytes; struct Pinned *next; } Pinned;
static Pinned *pinned;
static int is_pinned(const void *at) {
    for (Pinned *p = pinned; p; p = p->next)
        if ((char *)at >= p->start && (char *)at < p->start + p->bytes) return 1;
    return 0;
}
int cuMemHostAlloc(void **memory, size_t bytes, unsigned flags) {
    Pinned *p = malloc(sizeof(Pinned));
    *p = (Pinned){*memory = malloc(bytes), bytes, pinned};
    return pinned = p, live++, 0;
}
int cuMemFreeHost(void *memory) { return live--, 0; }

int cuMemAlloc_v2(unsigned long long *address, size_t bytes) {
    if (getenv("MOCK_FULL")) return 2;
    void *memory = NULL;
    int failed = posix_memalign(&memory, 256, bytes);
    *address = (unsigned long long)memory;
    return live++, failed ? 2 : 0;
}
int cuMemFree_v2(unsigned long long address) { return happen(stream.count), live--, free((void *)address), 0; }
int cuMemcpyHtoDAsync_v2(unsigned long long to, const void *from, size_t bytes, void *_) {
    char *own = NULL;
    if (!is_pinned(from)) from = memcpy(own = malloc(bytes), from, bytes);
    return ask((Call){(char *)to, from, own, bytes}), 0;
}
int cuMemcpyDtoHAsync_v2(void *to, unsigned long long from, size_t bytes, void *_) {
    ask((Call){to, (char *)from, NULL, bytes});
    if (!is_pinned(to)) happen(stream.count);
    return 0;
}
int cuMemcpyDtoDAsync_v2(unsigned long long to, unsigned long long from, size_t bytes, void *_) {
    return ask((Call){(char *)to, (char *)from, NULL, bytes}), 0;
}
int cuMemsetD8Async(unsigned long long to, unsigned char value, size_t bytes, void *_) {
    return ask((Call){(char *)to, NULL, NULL, bytes, value}), 0;
}
int cuStreamSynchronize(void *_) { return happen(stream.count), 0; }
int cuStreamDestroy_v2(void *_) { return live--, 0; }

int cuEventCreate(void **event, unsigned flags) { return *event = calloc(1, sizeof(int)), live++, 0; }
int cuEventDestroy_v2(void *event) { return free(event), live--, 0; }
int cuEventRecord(void *event, void *_) { return ask((Call){.event = event}), 0; }
int cuEventSynchronize(void *event) {
    int passed = stream.count;
    while (passed && stream.calls[passed - 1].event != event) passed--;
    return happen(passed), 0;
}

// The mock's clock counts the calls that have happened: a second each.
int cuEventElapsedTime_v2(float *milliseconds, void *from, void *to) {
    return *milliseconds = 1e3f * (*(int *)to - *(int *)from), 0;
}

int cuStreamBeginCapture_v2(void *_, int mode) { return asked = &graph, 0; }
int cuStreamEndCapture(void *_, void **captured) { return asked = &stream, *captured = &graph, live++, 0; }
int cuGraphInstantiateWithFlags(void **exec, void *captured, unsigned long long flags) {
    return *exec = captured, live++, 0;
}
int cuGraphLaunch(void *exec, void *_) {
    for (int i = 0; i < graph.count; i++) ask(graph.calls[i]);
    return 0;
}
int cuGraphExecDestroy(void *exec) { return live--, 0; }
int cuGraphDestroy(void *captured) { return live--, 0; }
int cuDevicePrimaryCtxRelease_v2(int device) {
    if (live) fprintf(stderr, "mock: %d handles are left\n", live);
    return 0;
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
