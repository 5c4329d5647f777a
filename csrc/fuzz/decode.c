/* Query text to DER: every kernel gives the same bytes or the same fault. */
#include "fuzz.h"

static int64_t decode(int kernel, const uint8_t *data, size_t size, uint8_t **buffer)
{
    uint8_t *text = copy_of(data, size);
    *buffer = room_for(size + PYSCEP_SLACK);
    REQUIRE(pyscep_use_kernel(kernel) == 0);
    int64_t result = pyscep_decode_message(text, size, *buffer, size + PYSCEP_SLACK);
    free(text);
    return result;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *expected, *got;
    int64_t length = decode(PYSCEP_SCALAR, data, size, &expected);
    if (length < 0)
        require_fault(length, size);
    else
        REQUIRE((size_t)length <= size * 3 / 4);
    for (int kernel = PYSCEP_SCALAR + 1; kernel < PYSCEP_KERNELS; kernel++) {
        if (!pyscep_kernel_available(kernel))
            continue;
        REQUIRE(decode(kernel, data, size, &got) == length);
        REQUIRE(length < 0 || memcmp(got, expected, (size_t)length) == 0);
        free(got);
    }
    free(expected);
    return 0;
}
