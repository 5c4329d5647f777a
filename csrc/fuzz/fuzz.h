/* What the fuzz targets share. Each gives the kernels copies of exactly the size they are told,
 * so that AddressSanitizer sees the first byte beyond. */
#ifndef PYSCEP_FUZZ_H
#define PYSCEP_FUZZ_H

#include "../codec.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REQUIRE(condition)                                                     \
    do {                                                                       \
        if (!(condition)) {                                                    \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);    \
            abort();                                                           \
        }                                                                      \
    } while (0)

/* Of no bytes it is a valid pointer, too. */
static inline uint8_t *copy_of(const uint8_t *data, size_t size)
{
    uint8_t *copy = calloc(1, size ? size : 1);
    REQUIRE(copy != NULL);
    if (size)
        memcpy(copy, data, size);
    return copy;
}

static inline void *room_for(size_t size)
{
    void *room = malloc(size ? size : 1);
    REQUIRE(room != NULL);
    return room;
}

/* The fault must be a known one, and the offset within the input. */
static inline void require_fault(int64_t result, size_t size)
{
    int64_t fault = -result >> PYSCEP_OFFSET_BITS;
    int64_t offset = -result & (((int64_t)1 << PYSCEP_OFFSET_BITS) - 1);
    REQUIRE(fault >= PYSCEP_EMPTY && fault <= PYSCEP_STRAY_END);
    REQUIRE(offset >= 0 && (uint64_t)offset <= size);
}

#endif
