/* The serial numbers of a CRL, against one entry after the other. The first byte is the size of the
 * number that is looked for, which comes next; then the entries. */
#include "fuzz.h"

/* Content and end of a value, or a fault. */
static int value(const uint8_t *data, size_t limit, size_t start, size_t *content, size_t *end)
{
    size_t count = 0, length = 0;
    if (limit - start < 2)
        return PYSCEP_TRUNCATED;
    if (data[start + 1] >= 0x80) {
        count = data[start + 1] & 0x7fu;
        if (count == 0 || count > 4)
            return PYSCEP_LENGTH_OCTETS;
        if (count > limit - start - 2)
            return PYSCEP_TRUNCATED;
        for (size_t i = 0; i < count; i++)
            length = length << 8 | data[start + 2 + i];
    } else {
        length = data[start + 1];
    }
    *content = start + 2 + count;
    *end = *content + length;
    return length > limit - *content ? PYSCEP_OVERRUN : 0;
}

static int64_t find_plainly(const uint8_t *data, size_t size, const uint8_t *serial, size_t wanted)
{
    size_t start = 0, content, end, number, number_end;
    for (; start < size; start = end) {
        if (data[start] != 0x30)
            return PYSCEP_FAIL(PYSCEP_BAD_TAG, start);
        int fault = value(data, size, start, &content, &end);
        if (fault)
            return PYSCEP_FAIL(fault, start);
        if (content == end || data[content] != 0x02)
            return PYSCEP_FAIL(PYSCEP_BAD_TAG, start);
        fault = value(data, end, content, &number, &number_end);
        if (fault)
            return PYSCEP_FAIL(fault, start);
        if (number_end - number == wanted && memcmp(data + number, serial, wanted) == 0)
            break;
    }
    return (int64_t)start;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    size_t wanted = *data++ % 24;
    size--;
    wanted = wanted < size ? wanted : size;
    uint8_t *serial = copy_of(data, wanted), *entries = copy_of(data + wanted, size - wanted);
    size -= wanted;
    int64_t found = pyscep_find_serial(entries, 0, size, serial, wanted);
    if (found < 0)
        require_fault(found, size);
    REQUIRE(found == find_plainly(entries, size, serial, wanted));
    free(serial);
    free(entries);
    return 0;
}
