/* cuBLAS and cuBLASLt without a device: products are counted and not computed. */
#include <stdlib.h>

long stub_products;

static int made(void **handle) {
    *handle = calloc(1, 64);
    return *handle ? 0 : 3; /* CUBLAS_STATUS_ALLOC_FAILED */
}
int cublasCreate_v2(void **handle) { return made(handle); }
int cublasLtCreate(void **handle) { return made(handle); }
int cublasGetMathMode(void *handle, int *mode) { return (void)handle, *mode = 0; }
const char *cublasGetStatusName(int status) { return (void)status, "a status of cuBLAS"; }
const char *cublasGetStatusString(int status) { return (void)status, "a status of cuBLAS"; }

static int product(void) {
    __atomic_add_fetch(&stub_products, 1, __ATOMIC_RELAXED);
    return 0;
}
int cublasGemmEx() { return product(); }
int cublasGemmStridedBatchedEx() { return product(); }
int cublasGemmBatchedEx() { return product(); }
int cublasSgemm_v2() { return product(); }
int cublasSgemmStridedBatched() { return product(); }
int cublasLtMatmul() { return product(); }
