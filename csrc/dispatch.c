#include "codec.h"

static const struct pyscep_kernels *const kernels[PYSCEP_KERNELS] = {
    [PYSCEP_SCALAR] = &pyscep_scalar_kernels,
#ifdef PYSCEP_HAVE_AVX2
    [PYSCEP_AVX2] = &pyscep_avx2_kernels,
    [PYSCEP_AVX512] = &pyscep_avx512_kernels,
#endif
#ifdef PYSCEP_HAVE_NEON
    [PYSCEP_NEON] = &pyscep_neon_kernels,
#endif
};

/* Written once at import, before any other call, under Python's import lock. */
static const struct pyscep_kernels *chosen = &pyscep_scalar_kernels;

int pyscep_kernel_available(int kernel)
{
    if (kernel == PYSCEP_SCALAR)
        return 1;
#ifdef PYSCEP_HAVE_AVX2
    __builtin_cpu_init();
    int avx2 = (__builtin_cpu_supports("avx2") != 0) & (__builtin_cpu_supports("bmi") != 0) &
               (__builtin_cpu_supports("popcnt") != 0);
    if (kernel == PYSCEP_AVX2)
        return avx2;
    if (kernel == PYSCEP_AVX512)
        return avx2 & (__builtin_cpu_supports("bmi2") != 0) &
               (__builtin_cpu_supports("avx512f") != 0) &
               (__builtin_cpu_supports("avx512bw") != 0) &
               (__builtin_cpu_supports("avx512vbmi") != 0) &
               (__builtin_cpu_supports("avx512vbmi2") != 0);
#endif
#ifdef PYSCEP_HAVE_NEON
    if (kernel == PYSCEP_NEON)
        return 1;
#endif
    return 0;
}

int pyscep_use_kernel(int kernel)
{
    if (!pyscep_kernel_available(kernel))
        return -1;
    chosen = kernels[kernel];
    return 0;
}

const struct pyscep_kernels *pyscep_chosen_kernels(void)
{
    return chosen;
}
