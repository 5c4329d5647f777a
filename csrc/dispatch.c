#include "codec.h"

/* Written once at import, before any other call, under Python's import lock. */
static const struct pyscep_kernels *chosen = &pyscep_scalar_kernels;

int pyscep_kernel_available(int kernel)
{
    if (kernel == PYSCEP_SCALAR)
        return 1;
#ifdef PYSCEP_HAVE_AVX2
    if (kernel == PYSCEP_AVX2) {
        __builtin_cpu_init();
        return __builtin_cpu_supports("avx2") != 0;
    }
#endif
    return 0;
}

int pyscep_use_kernel(int kernel)
{
    if (!pyscep_kernel_available(kernel))
        return -1;
    chosen = &pyscep_scalar_kernels;
#ifdef PYSCEP_HAVE_AVX2
    if (kernel == PYSCEP_AVX2)
        chosen = &pyscep_avx2_kernels;
#endif
    return 0;
}

const struct pyscep_kernels *pyscep_chosen_kernels(void)
{
    return chosen;
}
