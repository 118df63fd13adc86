/* A CUDA runtime that computes nothing, for running torch's CUDA build on a machine without a GPU.
 *
 * It is loaded before the real one and answers the calls that torch makes: memory is the host's and taken when it is
 * touched, kernels do nothing, streams and events are done at once. Every layer above is torch's own: the caching
 * allocator, its counters and history, the profiler's events, the code that decides what a kernel is given. So what
 * they say of sizes is what they say on a GPU. Values are whatever memory held, and times mean nothing.
 *
 * What the environment says of the device: STANDIN_NAME, STANDIN_CAPABILITY (90 is 9.0), STANDIN_PROCESSORS,
 * STANDIN_THREADS (for each of them), STANDIN_MEMORY (bytes), STANDIN_GPUS, and STANDIN_PENDING: how often an event is
 * found unfinished.
 */
#define _GNU_SOURCE
#define __CUDA_API_VERSION_INTERNAL
#include <cuda.h>
#include <cuda_runtime_api.h>
#include <cudnn.h>
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define MOST_GPUS 8
#define PAGE ((size_t)2 << 20)    /* the granularity of cudaMalloc */
#define CONTEXT ((size_t)500 << 20) /* what a context takes here */
#define DRIVER ((size_t)600 << 20)  /* what the driver keeps here */

typedef struct Range {
    char *begin;
    size_t size;
    int device, is_mapped, is_host;
    struct Range *next;
} Range;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static Range *ranges;
static size_t used[MOST_GPUS];
static int has_context[MOST_GPUS];
static __thread int current;
static __thread cudaError_t last_error;

static long setting(const char *name, long otherwise) {
    const char *value = getenv(name);
    return value ? atol(value) : otherwise;
}

static int gpus(void) { return (int)setting("STANDIN_GPUS", 1); }
static int capability(void) { return (int)setting("STANDIN_CAPABILITY", 90); }
static size_t memory(void) { return (size_t)setting("STANDIN_MEMORY", 80L << 30); }
static size_t in_use(int device) { return DRIVER + (has_context[device] ? CONTEXT : 0) + used[device]; }
static size_t round_up(size_t size) { return ((size ? size : 1) + PAGE - 1) / PAGE * PAGE; }
static cudaError_t fail(cudaError_t error) { return last_error = error; }

/* -- ranges of memory: what is whose -- */

static char *map(size_t size) {
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    char *all = mmap(NULL, size + PAGE, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (all == MAP_FAILED) return NULL;
    char *begin = (char *)(((size_t)all + PAGE - 1) / PAGE * PAGE);
    if (begin > all) munmap(all, begin - all);
    munmap(begin + size, all + PAGE - begin);
    return begin;
}

static void add_range(char *begin, size_t size, int is_mapped, int is_host) {
    Range *one = malloc(sizeof *one);
    *one = (Range){begin, size, current, is_mapped, is_host, ranges};
    ranges = one;
}

static cudaError_t drop_range(char *begin) {
    if (!begin) return cudaSuccess;
    pthread_mutex_lock(&lock);
    Range **at = &ranges;
    while (*at && (*at)->begin != begin) at = &(*at)->next;
    Range *gone = *at;
    if (gone) {
        *at = gone->next;
        if (gone->is_mapped && !gone->is_host) used[gone->device] -= gone->size;
        if (gone->is_mapped) munmap(gone->begin, gone->size);
        free(gone);
    }
    pthread_mutex_unlock(&lock);
    return gone ? cudaSuccess : fail(cudaErrorInvalidValue);
}

static cudaError_t allocate(void **pointer, size_t size, int is_host) {
    size = round_up(size);
    pthread_mutex_lock(&lock);
    has_context[current] = 1;
    char *begin = is_host || in_use(current) + size <= memory() ? map(size) : NULL;
    if (begin) {
        if (!is_host) used[current] += size;
        add_range(begin, size, 1, is_host);
    }
    pthread_mutex_unlock(&lock);
    *pointer = begin;
    return begin ? cudaSuccess : fail(cudaErrorMemoryAllocation);
}

cudaError_t cudaMalloc(void **pointer, size_t size) { return allocate(pointer, size, 0); }
cudaError_t cudaFree(void *pointer) { return drop_range(pointer); }
cudaError_t cudaMallocAsync(void **pointer, size_t size, cudaStream_t stream) { return allocate(pointer, size, 0); }
cudaError_t cudaFreeAsync(void *pointer, cudaStream_t stream) { return drop_range(pointer); }
cudaError_t cudaHostAlloc(void **pointer, size_t size, unsigned flags) { return allocate(pointer, size, 1); }
cudaError_t cudaFreeHost(void *pointer) { return drop_range(pointer); }
cudaError_t cudaHostUnregister(void *pointer) { return drop_range(pointer); }

cudaError_t cudaHostRegister(void *pointer, size_t size, unsigned flags) {
    pthread_mutex_lock(&lock);
    add_range(pointer, size, 0, 1);
    pthread_mutex_unlock(&lock);
    return cudaSuccess;
}

cudaError_t cudaPointerGetAttributes(struct cudaPointerAttributes *found, const void *pointer) {
    memset(found, 0, sizeof *found);
    pthread_mutex_lock(&lock);
    Range *one = ranges;
    while (one && !((char *)pointer >= one->begin && (char *)pointer < one->begin + one->size)) one = one->next;
    found->device = one ? one->device : -1;
    found->type = !one ? cudaMemoryTypeUnregistered : one->is_host ? cudaMemoryTypeHost : cudaMemoryTypeDevice;
    found->devicePointer = found->hostPointer = one ? (void *)pointer : NULL;
    pthread_mutex_unlock(&lock);
    return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *available, size_t *total) {
    pthread_mutex_lock(&lock);
    has_context[current] = 1;
    *total = memory();
    *available = *total - in_use(current);
    pthread_mutex_unlock(&lock);
    return cudaSuccess;
}

cudaError_t cudaDeviceGetDefaultMemPool(cudaMemPool_t *pool, int device) {
    *pool = (cudaMemPool_t)(size_t)(1 + device);
    return cudaSuccess;
}

cudaError_t cudaMemPoolGetAttribute(cudaMemPool_t pool, enum cudaMemPoolAttr what, void *value) {
    *(unsigned long long *)value = used[(size_t)pool - 1];
    return cudaSuccess;
}

/* -- copies, which are done -- */

cudaError_t cudaMemcpy(void *to, const void *from, size_t size, enum cudaMemcpyKind kind) {
    memmove(to, from, size);
    return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t size, enum cudaMemcpyKind kind, cudaStream_t stream) {
    return cudaMemcpy(to, from, size, kind);
}

cudaError_t cudaMemcpyPeerAsync(void *to, int to_device, const void *from, int device, size_t size, cudaStream_t s) {
    return cudaMemcpy(to, from, size, cudaMemcpyDefault);
}

cudaError_t cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from, size_t pitch, size_t width, size_t height,
                              enum cudaMemcpyKind kind, cudaStream_t stream) {
    for (size_t row = 0; row < height; row++)
        memmove((char *)to + row * to_pitch, (const char *)from + row * pitch, width);
    return cudaSuccess;
}

cudaError_t cudaMemset(void *to, int value, size_t size) {
    /* memory that was never touched is zero, and is not touched for that */
    if (value || size < PAGE) memset(to, value, size);
    return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void *to, int value, size_t size, cudaStream_t stream) {
    return cudaMemset(to, value, size);
}

cudaError_t cudaGetSymbolAddress(void **pointer, const void *symbol) {
    *pointer = (void *)symbol;
    return cudaSuccess;
}

/* -- devices -- */

cudaError_t cudaGetDevice(int *device) {
    *device = current;
    return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int *count) {
    *count = gpus();
    return *count ? cudaSuccess : fail(cudaErrorNoDevice);
}

cudaError_t cudaSetDevice(int device) {
    if (device < 0 || device >= gpus()) return fail(cudaErrorInvalidDevice);
    current = device;
    has_context[device] = 1;
    return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int *version) { return *version = CUDART_VERSION, cudaSuccess; }
cudaError_t cudaRuntimeGetVersion(int *version) { return *version = CUDART_VERSION, cudaSuccess; }
cudaError_t cudaDeviceCanAccessPeer(int *can, int from, int to) { return *can = from != to, cudaSuccess; }

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *found, int device) {
    const char *name = getenv("STANDIN_NAME");
    memset(found, 0, sizeof *found);
    snprintf(found->name, sizeof found->name, "%s", name ? name : "GPU that computes nothing");
    found->uuid.bytes[15] = (char)device;
    found->pciBusID = 1 + device;
    found->totalGlobalMem = memory();
    found->major = capability() / 10;
    found->minor = capability() % 10;
    found->multiProcessorCount = (int)setting("STANDIN_PROCESSORS", 132);
    found->maxThreadsPerMultiProcessor = (int)setting("STANDIN_THREADS", 2048);
    found->maxBlocksPerMultiProcessor = found->warpSize = 32;
    found->maxThreadsPerBlock = found->maxThreadsDim[0] = found->maxThreadsDim[1] = 1024;
    found->maxThreadsDim[2] = 64;
    found->maxGridSize[0] = 2147483647;
    found->maxGridSize[1] = found->maxGridSize[2] = 65535;
    found->regsPerBlock = found->regsPerMultiprocessor = 65536;
    found->sharedMemPerBlock = 48 << 10;
    found->sharedMemPerBlockOptin = 227 << 10;
    found->sharedMemPerMultiprocessor = 228 << 10;
    found->reservedSharedMemPerBlock = 1 << 10;
    found->l2CacheSize = 50 << 20;
    found->textureAlignment = 512;
    found->unifiedAddressing = found->concurrentKernels = found->managedMemory = found->cooperativeLaunch = 1;
    return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attribute, int device) {
    struct cudaDeviceProp facts;
    cudaGetDeviceProperties(&facts, device);
    switch (attribute) {
        case cudaDevAttrMaxThreadsPerBlock: *value = facts.maxThreadsPerBlock; break;
        case cudaDevAttrMaxBlockDimX: *value = facts.maxThreadsDim[0]; break;
        case cudaDevAttrMaxGridDimX: *value = facts.maxGridSize[0]; break;
        case cudaDevAttrMaxSharedMemoryPerBlock: *value = (int)facts.sharedMemPerBlock; break;
        case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = (int)facts.sharedMemPerBlockOptin; break;
        case cudaDevAttrMaxSharedMemoryPerMultiprocessor: *value = (int)facts.sharedMemPerMultiprocessor; break;
        case cudaDevAttrReservedSharedMemoryPerBlock: *value = (int)facts.reservedSharedMemPerBlock; break;
        case cudaDevAttrWarpSize: *value = facts.warpSize; break;
        case cudaDevAttrMultiProcessorCount: *value = facts.multiProcessorCount; break;
        case cudaDevAttrMaxThreadsPerMultiProcessor: *value = facts.maxThreadsPerMultiProcessor; break;
        case cudaDevAttrMaxBlocksPerMultiprocessor: *value = facts.maxBlocksPerMultiProcessor; break;
        case cudaDevAttrComputeCapabilityMajor: *value = facts.major; break;
        case cudaDevAttrComputeCapabilityMinor: *value = facts.minor; break;
        case cudaDevAttrMaxRegistersPerBlock: *value = facts.regsPerBlock; break;
        case cudaDevAttrMaxRegistersPerMultiprocessor: *value = facts.regsPerMultiprocessor; break;
        case cudaDevAttrL2CacheSize: *value = facts.l2CacheSize; break;
        case cudaDevAttrCooperativeLaunch: *value = facts.cooperativeLaunch; break;
        case cudaDevAttrMemoryPoolsSupported: *value = 1; break;
        default: *value = 0;
    }
    return cudaSuccess;
}

cudaError_t cudaDeviceGetPCIBusId(char *text, int length, int device) {
    snprintf(text, length, "0000:%02x:00.0", 1 + device);
    return cudaSuccess;
}

cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest) {
    *least = 0;
    *greatest = -5;
    return cudaSuccess;
}

/* -- streams, events and graphs -- */

static size_t names = 0x1000;
static unsigned long long captures;
static __thread unsigned long long capture;
static __thread cudaStream_t captured;

static void *fresh_name(void) { return (void *)__sync_add_and_fetch(&names, 16); }

cudaError_t cudaStreamCreate(cudaStream_t *stream) { return *stream = fresh_name(), cudaSuccess; }
cudaError_t cudaStreamGetPriority(cudaStream_t stream, int *priority) { return *priority = 0, cudaSuccess; }

cudaError_t cudaStreamCreateWithPriority(cudaStream_t *stream, unsigned flags, int priority) {
    return cudaStreamCreate(stream);
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, enum cudaStreamCaptureStatus *status) {
    *status = capture && stream == captured ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
    return cudaSuccess;
}

cudaError_t cudaStreamGetCaptureInfo(cudaStream_t stream, enum cudaStreamCaptureStatus *status, unsigned long long *id,
                                     cudaGraph_t *graph, const cudaGraphNode_t **nodes, const cudaGraphEdgeData **edges,
                                     size_t *count) {
    if (id) *id = capture;
    if (graph) *graph = (cudaGraph_t)0x10;
    if (nodes) *nodes = NULL;
    if (edges) *edges = NULL;
    if (count) *count = 0;
    return cudaStreamIsCapturing(stream, status);
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode mode) {
    capture = __sync_add_and_fetch(&captures, 1);
    captured = stream;
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph) {
    capture = 0;
    return *graph = fresh_name(), cudaSuccess;
}

cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t *made, cudaGraph_t graph, unsigned long long flags) {
    return *made = fresh_name(), cudaSuccess;
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t *nodes, size_t *count) {
    if (nodes) nodes[0] = (cudaGraphNode_t)0x10; /* one that does nothing: torch warns of graphs that are empty */
    return *count = 1, cudaSuccess;
}

cudaError_t cudaGraphNodeGetDependencies(cudaGraphNode_t node, cudaGraphNode_t *nodes, cudaGraphEdgeData *edges,
                                         size_t *count) {
    return *count = 0, cudaSuccess;
}

cudaError_t cudaThreadExchangeStreamCaptureMode(enum cudaStreamCaptureMode *mode) {
    return *mode = cudaStreamCaptureModeGlobal, cudaSuccess;
}

/* an event is the number of times that it will still be found unfinished */

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags) {
    return *event = calloc(1, sizeof(int)), cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t *event) { return cudaEventCreateWithFlags(event, 0); }
cudaError_t cudaEventSynchronize(cudaEvent_t event) { return *(int *)event = 0, cudaSuccess; }
cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t begin, cudaEvent_t end) { return *ms = 0, cudaSuccess; }

cudaError_t cudaEventDestroy(cudaEvent_t event) {
    free(event);
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
    return *(int *)event = (int)setting("STANDIN_PENDING", 0), cudaSuccess;
}

cudaError_t cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t stream, unsigned flags) {
    return cudaEventRecord(event, stream);
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
    if (*(int *)event <= 0) return cudaSuccess;
    --*(int *)event;
    return fail(cudaErrorNotReady);
}

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void *data) {
    function(data);
    return cudaSuccess;
}

cudaError_t cudaStreamAddCallback(cudaStream_t stream, cudaStreamCallback_t function, void *data, unsigned flags) {
    function(stream, cudaSuccess, data);
    return cudaSuccess;
}

/* -- errors -- */

cudaError_t cudaPeekAtLastError(void) { return last_error; }

cudaError_t cudaGetLastError(void) {
    cudaError_t was = last_error;
    last_error = cudaSuccess;
    return was;
}

const char *cudaGetErrorString(cudaError_t error) {
    switch (error) {
        case cudaErrorMemoryAllocation: return "out of memory";
        case cudaErrorNoDevice: return "no CUDA-capable device is detected";
        case cudaErrorInvalidDevice: return "invalid device ordinal";
        case cudaErrorNotReady: return "device not ready";
        default: return "an error of the stand-in";
    }
}

const char *cudaGetErrorName(cudaError_t error) { return cudaGetErrorString(error); }

/* -- kernels, which do nothing -- */

static void *binary;
static __thread dim3 grid, block;

void **__cudaRegisterFatBinary(void *what) { return &binary; }
char __cudaInitModule(void **handle) { return 1; }

cudaError_t __cudaGetKernel(cudaKernel_t *kernel, const void *entry) {
    return *kernel = (cudaKernel_t)entry, cudaSuccess;
}

unsigned __cudaPushCallConfiguration(dim3 new_grid, dim3 new_block, size_t shared, void *stream) {
    grid = new_grid;
    block = new_block;
    return 0;
}

cudaError_t __cudaPopCallConfiguration(dim3 *old_grid, dim3 *old_block, size_t *shared, void *stream) {
    *old_grid = grid;
    *old_block = block;
    *shared = 0;
    *(void **)stream = NULL;
    return cudaSuccess;
}

/* The architecture that a kernel of PyTorch's wheels was built for: the newest of theirs that the device can run. */
static int built_for(void) {
    static const int architectures[] = {75, 80, 86, 90, 100, 120};
    int found = architectures[0];
    for (size_t i = 0; i < sizeof architectures / sizeof *architectures; i++)
        if (architectures[i] <= capability()) found = architectures[i];
    return found;
}

cudaError_t cudaFuncGetAttributes(struct cudaFuncAttributes *found, const void *function) {
    memset(found, 0, sizeof *found);
    found->maxThreadsPerBlock = 1024;
    found->numRegs = 32;
    found->ptxVersion = found->binaryVersion = built_for();
    found->maxDynamicSharedSizeBytes = 227 << 10;
    return cudaSuccess;
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *blocks, const void *function, int threads,
                                                                   size_t shared, unsigned flags) {
    int fitting = (int)setting("STANDIN_THREADS", 2048) / (threads > 0 ? threads : 1);
    *blocks = fitting > 32 ? 32 : fitting;
    return cudaSuccess;
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, const void *function, int threads, size_t s) {
    return cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(blocks, function, threads, s, 0);
}

/* -- the driver's calls: contexts, and virtual memory for expandable segments -- */

typedef struct {
    size_t size;
    int device;
} Physical;

CUresult cuMemGetAllocationGranularity(size_t *size, const CUmemAllocationProp *facts,
                                       CUmemAllocationGranularity_flags option) {
    return *size = PAGE, CUDA_SUCCESS;
}

CUresult cuMemAddressReserve(CUdeviceptr *pointer, size_t size, size_t alignment, CUdeviceptr wanted,
                             unsigned long long flags) {
    char *begin = map(size);
    pthread_mutex_lock(&lock);
    if (begin) add_range(begin, size, 0, 0);
    pthread_mutex_unlock(&lock);
    *pointer = (CUdeviceptr)begin;
    return begin ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

CUresult cuMemAddressFree(CUdeviceptr pointer, size_t size) {
    drop_range((char *)pointer);
    munmap((void *)pointer, size);
    return CUDA_SUCCESS;
}

CUresult cuMemCreate(CUmemGenericAllocationHandle *handle, size_t size, const CUmemAllocationProp *facts,
                     unsigned long long flags) {
    int device = facts->location.id;
    pthread_mutex_lock(&lock);
    int fits = in_use(device) + size <= memory();
    if (fits) used[device] += size;
    pthread_mutex_unlock(&lock);
    if (!fits) return CUDA_ERROR_OUT_OF_MEMORY;
    Physical *one = malloc(sizeof *one);
    *one = (Physical){size, device};
    return *handle = (CUmemGenericAllocationHandle)one, CUDA_SUCCESS;
}

CUresult cuMemRelease(CUmemGenericAllocationHandle handle) {
    Physical *one = (Physical *)handle;
    pthread_mutex_lock(&lock);
    used[one->device] -= one->size;
    pthread_mutex_unlock(&lock);
    free(one);
    return CUDA_SUCCESS;
}

CUresult cuMemMap(CUdeviceptr pointer, size_t size, size_t offset, CUmemGenericAllocationHandle handle,
                  unsigned long long flags) {
    return CUDA_SUCCESS;
}

CUresult cuMemUnmap(CUdeviceptr pointer, size_t size) { return CUDA_SUCCESS; }
CUresult cuMemSetAccess(CUdeviceptr p, size_t size, const CUmemAccessDesc *how, size_t n) { return CUDA_SUCCESS; }
CUresult cuCtxSetCurrent(CUcontext context) { return CUDA_SUCCESS; }
CUresult cuDeviceGet(CUdevice *device, int ordinal) { return *device = ordinal, CUDA_SUCCESS; }

CUresult cuCtxGetCurrent(CUcontext *context) {
    *context = has_context[current] ? (CUcontext)(size_t)(1 + current) : NULL;
    return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxGetState(CUdevice device, unsigned *flags, int *active) {
    *flags = 0;
    *active = has_context[device];
    return CUDA_SUCCESS;
}

CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute attribute, CUdevice device) {
    return (CUresult)cudaDeviceGetAttribute(value, (enum cudaDeviceAttr)attribute, device);
}

CUresult cuGetErrorString(CUresult error, const char **text) {
    *text = error == CUDA_ERROR_OUT_OF_MEMORY ? "out of memory" : "an error of the stand-in";
    return CUDA_SUCCESS;
}

CUresult cuPointerGetAttribute(void *value, CUpointer_attribute attribute, CUdeviceptr pointer) {
    *(unsigned long long *)value = 1;
    return CUDA_SUCCESS;
}

static CUresult not_supported(void) { return CUDA_ERROR_NOT_SUPPORTED; }

cudaError_t cudaGetDriverEntryPointByVersion(const char *symbol, void **function, unsigned version,
                                             unsigned long long flags, enum cudaDriverEntryPointQueryResult *status) {
    Dl_info self;
    dladdr((void *)cudaMalloc, &self);
    void *library = dlopen(self.dli_fname, RTLD_NOLOAD | RTLD_NOW);
    void *found = library ? dlsym(library, symbol) : NULL;
    *function = found ? found : (void *)not_supported;
    if (status) *status = cudaDriverEntryPointSuccess;
    return cudaSuccess;
}

/* -- NVML: a machine on which this process is alone -- */

enum { NVML_SUCCESS = 0, NVML_INVALID_ARGUMENT = 2, NVML_NOT_SUPPORTED = 3, NVML_INSUFFICIENT_SIZE = 7 };

typedef struct {
    unsigned long long total, available, used;
} Memory;

typedef struct {
    unsigned version;
    unsigned long long total, reserved, available, used;
} MemoryWithDriver;

typedef struct {
    unsigned pid;
    unsigned long long used;
    unsigned gpu_instance, compute_instance;
} Process;

static int number_of(void *device) { return (int)(size_t)device - 1; }

int nvmlInitWithFlags(unsigned flags) { return NVML_SUCCESS; }
int nvmlInit_v2(void) { return NVML_SUCCESS; }
int nvmlShutdown(void) { return NVML_SUCCESS; }
const char *nvmlErrorString(int error) { return "an error of the stand-in"; }
int nvmlSystemGetCudaDriverVersion_v2(int *version) { return *version = CUDART_VERSION, NVML_SUCCESS; }
int nvmlDeviceGetCount_v2(unsigned *count) { return *count = (unsigned)gpus(), NVML_SUCCESS; }
int nvmlDeviceIsMigDeviceHandle(void *device, unsigned *is) { return *is = 0, NVML_SUCCESS; }
int nvmlDeviceGetMigMode(void *device, unsigned *now, unsigned *later) { return *now = *later = 0, NVML_SUCCESS; }
int nvmlDeviceGetNvLinkRemoteDeviceType(void) { return NVML_NOT_SUPPORTED; }
int nvmlDeviceGetNvLinkRemotePciInfo_v2(void) { return NVML_NOT_SUPPORTED; }
int nvmlDeviceGetGpuFabricInfoV(void *device, void *found) { return NVML_SUCCESS; } /* all zero: there is none */

int nvmlSystemGetDriverVersion(char *text, unsigned length) {
    snprintf(text, length, "none (stand-in)");
    return NVML_SUCCESS;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) {
    *device = (void *)(size_t)(1 + index);
    return index < (unsigned)gpus() ? NVML_SUCCESS : NVML_INVALID_ARGUMENT;
}

int nvmlDeviceGetHandleByPciBusId_v2(const char *text, void **device) {
    unsigned bus = 0;
    const char *colon = strchr(text, ':');
    if (colon) sscanf(colon + 1, "%x", &bus);
    return nvmlDeviceGetHandleByIndex_v2(bus - 1, device);
}

int nvmlDeviceGetHandleByUUID(const char *text, void **device) {
    size_t length = strlen(text);
    return nvmlDeviceGetHandleByIndex_v2((unsigned)strtoul(text + (length > 2 ? length - 2 : 0), NULL, 16), device);
}

int nvmlDeviceGetMemoryInfo(void *device, Memory *found) {
    found->total = memory();
    found->used = in_use(number_of(device));
    found->available = found->total - found->used;
    return NVML_SUCCESS;
}

int nvmlDeviceGetMemoryInfo_v2(void *device, MemoryWithDriver *found) {
    found->total = memory();
    found->reserved = DRIVER;
    found->used = in_use(number_of(device)) - DRIVER;
    found->available = found->total - found->reserved - found->used;
    return NVML_SUCCESS;
}

int nvmlDeviceGetComputeRunningProcesses_v3(void *device, unsigned *count, Process *processes) {
    unsigned there = has_context[number_of(device)] ? 1 : 0, room = *count;
    *count = there;
    if (there && (room < there || !processes)) return NVML_INSUFFICIENT_SIZE;
    if (there) processes[0] = (Process){(unsigned)getpid(), in_use(number_of(device)) - DRIVER, ~0u, ~0u};
    return NVML_SUCCESS;
}

int nvmlDeviceGetComputeRunningProcesses(void *device, unsigned *count, Process *processes) {
    return nvmlDeviceGetComputeRunningProcesses_v3(device, count, processes);
}

int nvmlDeviceGetGraphicsRunningProcesses_v3(void *device, unsigned *count, Process *processes) {
    return *count = 0, NVML_SUCCESS;
}

/* -- cuBLAS: handles of their own, since workspaces go by them, and one algorithm that needs no workspace -- */

static int make(void **made) { return *made = calloc(1, 64), 0; }

static int discard(void *gone) {
    free(gone);
    return 0;
}

int cublasCreate_v2(void **handle) { return make(handle); }
int cublasDestroy_v2(void *handle) { return discard(handle); }
int cublasGetPointerMode_v2(void *handle, int *mode) { return *mode = 0; }
int cublasGetMathMode(void *handle, int *mode) { return *mode = 0; }
size_t cublasLtGetVersion(void) { return 130100; }
int cublasLtMatmulDescCreate(void **made, int compute, int scale) { return make(made); }
int cublasLtMatmulDescDestroy(void *gone) { return discard(gone); }
int cublasLtMatmulPreferenceCreate(void **made) { return make(made); }
int cublasLtMatmulPreferenceDestroy(void *gone) { return discard(gone); }
int cublasLtMatrixLayoutDestroy(void *gone) { return discard(gone); }

int cublasLtMatrixLayoutCreate(void **made, int type, unsigned long long rows, unsigned long long columns, long ld) {
    return make(made);
}

int cublasLtMatmulAlgoGetHeuristic(void *handle, void *product, void *a, void *b, void *c, void *d, void *preference,
                                   int asked, void *results, int *returned) {
    memset(results, 0, 96); /* cublasLtMatmulHeuristicResult_t */
    *returned = 1;
    return 0;
}

/* -- cuDNN, whose convolutions and batch norms take nothing for themselves: one engine, found for whatever is asked -- */

cudnnStatus_t cudnnCreate(cudnnHandle_t *handle) { return make((void **)handle); }
cudnnStatus_t cudnnDestroy(cudnnHandle_t handle) { return discard(handle); }
cudnnStatus_t cudnnSetStream(cudnnHandle_t handle, cudaStream_t stream) { return 0; }

cudnnStatus_t cudnnBackendCreateDescriptor(cudnnBackendDescriptorType_t type, cudnnBackendDescriptor_t *made) {
    return make((void **)made);
}

cudnnStatus_t cudnnBackendDestroyDescriptor(cudnnBackendDescriptor_t gone) { return discard(gone); }
cudnnStatus_t cudnnBackendFinalize(cudnnBackendDescriptor_t descriptor) { return 0; }

cudnnStatus_t cudnnBackendSetAttribute(cudnnBackendDescriptor_t descriptor, cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t type, int64_t count, const void *values) {
    return 0;
}

cudnnStatus_t cudnnBackendGetAttribute(cudnnBackendDescriptor_t const descriptor, cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t type, int64_t asked, int64_t *count, void *values) {
    int is_number = type == CUDNN_TYPE_INT64; /* an index or a size: 0 */
    if (is_number && values) *(int64_t *)values = 0;
    if (count) *count = is_number || name == CUDNN_ATTR_ENGINEHEUR_RESULTS || name == CUDNN_ATTR_ENGINECFG_ENGINE;
    return 0;
}

cudnnStatus_t cudnnBackendExecute(cudnnHandle_t handle, cudnnBackendDescriptor_t plan, cudnnBackendDescriptor_t pack) {
    return 0;
}

cudnnStatus_t cudnnGetBatchNormalizationForwardTrainingExWorkspaceSize(
    cudnnHandle_t handle, cudnnBatchNormMode_t mode, cudnnBatchNormOps_t operation, const cudnnTensorDescriptor_t x,
    const cudnnTensorDescriptor_t z, const cudnnTensorDescriptor_t y, const cudnnTensorDescriptor_t weight,
    const cudnnActivationDescriptor_t activation, size_t *size) {
    return *size = 0;
}

cudnnStatus_t cudnnGetBatchNormalizationTrainingExReserveSpaceSize(cudnnHandle_t handle, cudnnBatchNormMode_t mode,
                                                                   cudnnBatchNormOps_t operation,
                                                                   const cudnnActivationDescriptor_t activation,
                                                                   const cudnnTensorDescriptor_t x, size_t *size) {
    return *size = 0;
}

cudnnStatus_t cudnnGetBatchNormalizationBackwardExWorkspaceSize(
    cudnnHandle_t handle, cudnnBatchNormMode_t mode, cudnnBatchNormOps_t operation, const cudnnTensorDescriptor_t x,
    const cudnnTensorDescriptor_t y, const cudnnTensorDescriptor_t dy, const cudnnTensorDescriptor_t dz,
    const cudnnTensorDescriptor_t dx, const cudnnTensorDescriptor_t weight,
    const cudnnActivationDescriptor_t activation, size_t *size) {
    return *size = 0;
}

/* torch's own question whether cuDNN may be used for recurrent layers and samplers of grids: it may not */
int _ZN2at6native19cudnn_is_acceptableERKNS_10TensorBaseE(void *tensor) { return 0; }
