/* A CUDA runtime without a device: memory and copies are real, kernels do nothing.

   Counters are read by the tests. LOOKWHEN_STUB_DEVICE_BYTES is what the device has of memory, and
   LOOKWHEN_STUB_DEVICES=0 takes the device away. */
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "driver_types.h"

long stub_launches, stub_to_device, stub_to_host, stub_within, stub_waits, stub_out_of_memory;

/* Allocations know their size, so that what is used can be told. */
typedef struct {
    size_t bytes;
    char padding[256 - sizeof(size_t)];
} Header;

static size_t used;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static size_t total(void) {
    const char *set = getenv("LOOKWHEN_STUB_DEVICE_BYTES");
    return set ? strtoull(set, NULL, 10) : 150754820096ull; /* as an H200 says */
}

static int devices(void) {
    const char *set = getenv("LOOKWHEN_STUB_DEVICES");
    return set ? atoi(set) : 1;
}

int cudaGetDeviceCount(int *count) {
    *count = devices();
    return *count ? cudaSuccess : cudaErrorNoDevice;
}
int cudaGetDevice(int *device) {
    *device = 0;
    return devices() ? cudaSuccess : cudaErrorNoDevice;
}
int cudaSetDevice(int device) {
    return device < devices() ? cudaSuccess : cudaErrorInvalidDevice;
}
int cudaGetDeviceProperties(struct cudaDeviceProp *found, int device) {
    if (device >= devices()) return cudaErrorInvalidDevice;
    memset(found, 0, sizeof *found);
    strcpy(found->name, "stub of an H200");
    found->totalGlobalMem = total();
    found->major = 9;
    found->warpSize = 32;
    found->multiProcessorCount = 132;
    found->maxThreadsPerBlock = 1024;
    found->maxThreadsPerMultiProcessor = 2048;
    found->maxBlocksPerMultiProcessor = 32;
    found->maxThreadsDim[0] = found->maxThreadsDim[1] = 1024;
    found->maxThreadsDim[2] = 64;
    found->maxGridSize[0] = 2147483647;
    found->maxGridSize[1] = found->maxGridSize[2] = 65535;
    found->regsPerBlock = found->regsPerMultiprocessor = 65536;
    found->sharedMemPerBlock = 49152;
    found->sharedMemPerBlockOptin = 232448;
    found->sharedMemPerMultiprocessor = 233472;
    found->totalConstMem = 65536;
    found->l2CacheSize = 62914560;
    found->memoryPoolsSupported = found->unifiedAddressing = found->cooperativeLaunch = 1;
    return cudaSuccess;
}
int cudaDeviceGetAttribute(int *value, int attribute, int device) {
    struct cudaDeviceProp found;
    int failed = cudaGetDeviceProperties(&found, device);
    if (failed) return failed;
    switch (attribute) {
    case cudaDevAttrComputeCapabilityMajor: *value = found.major; break;
    case cudaDevAttrComputeCapabilityMinor: *value = found.minor; break;
    case cudaDevAttrMultiProcessorCount: *value = found.multiProcessorCount; break;
    case cudaDevAttrMaxSharedMemoryPerBlock: *value = (int)found.sharedMemPerBlock; break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = (int)found.sharedMemPerBlockOptin; break;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
        *value = (int)found.sharedMemPerMultiprocessor;
        break;
    case cudaDevAttrWarpSize: *value = found.warpSize; break;
    case cudaDevAttrMaxThreadsPerBlock: *value = found.maxThreadsPerBlock; break;
    case cudaDevAttrMaxThreadsPerMultiProcessor: *value = found.maxThreadsPerMultiProcessor; break;
    default: *value = 0;
    }
    return cudaSuccess;
}
int cudaDriverGetVersion(int *version) { return *version = 13000, cudaSuccess; }
int cudaRuntimeGetVersion(int *version) { return *version = 13000, cudaSuccess; }

const char *cudaGetErrorName(int error) {
    return error == cudaErrorMemoryAllocation ? "cudaErrorMemoryAllocation"
           : error == cudaErrorNoDevice       ? "cudaErrorNoDevice"
           : error == cudaErrorInvalidDevice  ? "cudaErrorInvalidDevice"
                                              : "cudaErrorUnknown";
}
const char *cudaGetErrorString(int error) {
    return error == cudaErrorMemoryAllocation ? "out of memory"
           : error == cudaErrorNoDevice       ? "no CUDA-capable device is detected"
           : error == cudaErrorInvalidDevice  ? "invalid device ordinal"
                                              : "unknown error";
}

int cudaMalloc(void **place, size_t bytes) {
    pthread_mutex_lock(&lock);
    int fits = used + bytes <= total();
    if (fits) used += bytes;
    else stub_out_of_memory++;
    pthread_mutex_unlock(&lock);
    Header *made = fits ? calloc(1, sizeof(Header) + bytes) : NULL;
    if (!made) return cudaErrorMemoryAllocation;
    made->bytes = bytes;
    *place = made + 1;
    return cudaSuccess;
}
int cudaFree(void *place) {
    if (place) {
        Header *made = (Header *)place - 1;
        pthread_mutex_lock(&lock);
        used -= made->bytes;
        pthread_mutex_unlock(&lock);
        free(made);
    }
    return cudaSuccess;
}
int cudaMemGetInfo(size_t *left, size_t *all) {
    *all = total();
    *left = *all - used;
    return cudaSuccess;
}
int cudaMallocHost(void **place, size_t bytes) {
    *place = calloc(1, bytes);
    return *place ? cudaSuccess : cudaErrorMemoryAllocation;
}
int cudaHostAlloc(void **place, size_t bytes, unsigned flags) {
    (void)flags;
    return cudaMallocHost(place, bytes);
}
int cudaFreeHost(void *place) { return free(place), cudaSuccess; }
int cudaPointerGetAttributes(struct cudaPointerAttributes *found, const void *place) {
    (void)place;
    memset(found, 0, sizeof *found);
    found->type = cudaMemoryTypeHost;
    return cudaSuccess;
}

static void count(int kind) {
    long *which = kind == cudaMemcpyHostToDevice   ? &stub_to_device
                  : kind == cudaMemcpyDeviceToHost ? &stub_to_host
                                                   : &stub_within;
    __atomic_add_fetch(which, 1, __ATOMIC_RELAXED);
}
int cudaMemcpy(void *to, const void *from, size_t bytes, int kind) {
    count(kind);
    memcpy(to, from, bytes);
    return cudaSuccess;
}
int cudaMemcpyAsync(void *to, const void *from, size_t bytes, int kind, void *stream) {
    (void)stream;
    return cudaMemcpy(to, from, bytes, kind);
}
int cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width,
                      size_t height, int kind, void *stream) {
    (void)stream;
    count(kind);
    for (size_t row = 0; row < height; row++)
        memcpy((char *)to + row * to_pitch, (const char *)from + row * from_pitch, width);
    return cudaSuccess;
}
int cudaMemset(void *place, int value, size_t bytes) {
    return memset(place, value, bytes), cudaSuccess;
}
int cudaMemsetAsync(void *place, int value, size_t bytes, void *stream) {
    (void)stream;
    return cudaMemset(place, value, bytes);
}

static int handle(void **made) {
    *made = calloc(1, 64);
    return *made ? cudaSuccess : cudaErrorMemoryAllocation;
}
int cudaStreamCreate(void **stream) { return handle(stream); }
int cudaStreamCreateWithFlags(void **stream, unsigned flags) { return (void)flags, handle(stream); }
int cudaStreamDestroy(void *stream) { return free(stream), cudaSuccess; }
int cudaStreamIsCapturing(void *stream, int *status) { return (void)stream, *status = 0, cudaSuccess; }
int cudaEventCreate(void **event) { return handle(event); }
int cudaEventCreateWithFlags(void **event, unsigned flags) { return (void)flags, handle(event); }
int cudaEventDestroy(void *event) { return free(event), cudaSuccess; }
int cudaEventElapsedTime(float *milliseconds, void *from, void *to) {
    (void)from, (void)to;
    return *milliseconds = 1, cudaSuccess;
}
int cudaStreamSynchronize(void *stream) {
    (void)stream;
    __atomic_add_fetch(&stub_waits, 1, __ATOMIC_RELAXED);
    return cudaSuccess;
}
int cudaDeviceSynchronize(void) { return cudaStreamSynchronize(NULL); }

/* Arguments do not matter: nothing runs. */
static int launch(void) {
    __atomic_add_fetch(&stub_launches, 1, __ATOMIC_RELAXED);
    return cudaSuccess;
}
int cudaLaunchKernel() { return launch(); }
int __cudaLaunchKernel() { return launch(); }
int cudaLaunchKernelExC() { return launch(); }
int cudaLaunchCooperativeKernel() { return launch(); }
int cudaFuncGetAttributes(struct cudaFuncAttributes *found, const void *function) {
    (void)function;
    memset(found, 0, sizeof *found);
    found->maxThreadsPerBlock = 1024;
    found->numRegs = 32;
    found->binaryVersion = found->ptxVersion = 90;
    return cudaSuccess;
}
int cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *blocks, const void *function,
                                                           int threads, size_t bytes,
                                                           unsigned flags) {
    (void)function, (void)threads, (void)bytes, (void)flags;
    return *blocks = 1, cudaSuccess;
}

/* What nvcc makes of <<<...>>> and of a file's kernels. */
static void *file;
void **__cudaRegisterFatBinary(void *content) { return (void)content, &file; }
int __cudaGetKernel(void **kernel, const void *function) {
    return *kernel = (void *)function, cudaSuccess;
}
int __cudaPopCallConfiguration(void *grid, void *block, size_t *bytes, void **stream) {
    (void)grid, (void)block;
    *bytes = 0;
    *stream = NULL;
    return cudaSuccess;
}
