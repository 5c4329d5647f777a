/* DER to query text: every kernel writes the same, and decoding gives the bytes back. */
#include "fuzz.h"

static size_t encode(int kernel, const uint8_t *data, size_t size, uint8_t **out)
{
    uint8_t *copy = copy_of(data, size);
    size_t room = pyscep_encoded_bound(size) + PYSCEP_SLACK;
    *out = room_for(room);
    REQUIRE(pyscep_use_kernel(kernel) == 0);
    int64_t length = pyscep_encode_message(copy, size, *out, room);
    REQUIRE(length >= 0 && (size_t)length <= pyscep_encoded_bound(size));
    free(copy);
    return (size_t)length;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *expected, *got;
    size_t length = encode(PYSCEP_SCALAR, data, size, &expected);
    for (int kernel = PYSCEP_SCALAR; kernel < PYSCEP_KERNELS; kernel++) {
        if (!pyscep_kernel_available(kernel))
            continue;
        REQUIRE(encode(kernel, data, size, &got) == length);
        REQUIRE(memcmp(got, expected, length) == 0);
        free(got);
        if (size == 0)
            continue;
        uint8_t *text = copy_of(expected, length), *back = room_for(length + PYSCEP_SLACK);
        REQUIRE(pyscep_decode_message(text, length, back, length + PYSCEP_SLACK) ==
                (int64_t)size);
        REQUIRE(memcmp(back, data, size) == 0);
        free(text);
        free(back);
    }
    free(expected);
    return 0;
}
