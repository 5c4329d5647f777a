/* Serial numbers in the revokedCertificates of a CRL of any length. */
#include "codec.h"

#include <string.h>

/* Read one definite-length header. Returns 0 and sets *content and *end, or a fault. */
static int header(const uint8_t *data, size_t limit, size_t start, size_t *content, size_t *end)
{
    if (limit - start < 2)
        return PYSCEP_TRUNCATED;
    size_t position = start + 2, length = data[start + 1];
    if (length >= 0x80) {
        size_t count = length & 0x7f;
        if (count == 0 || count > 4)
            return PYSCEP_LENGTH_OCTETS;
        if (count > limit - position)
            return PYSCEP_TRUNCATED;
        for (length = 0; count > 0; count--)
            length = length << 8 | data[position++];
    }
    if (length > limit - position)
        return PYSCEP_OVERRUN;
    *content = position;
    *end = position + length;
    return 0;
}

int64_t pyscep_find_serial(const uint8_t *data, size_t start, size_t end, const uint8_t *serial,
                           size_t serial_size)
{
    size_t content, entry_end, number, number_end;
    while (start < end) {
        if (data[start] != 0x30)
            return PYSCEP_FAIL(PYSCEP_BAD_TAG, start);
        int fault = header(data, end, start, &content, &entry_end);
        if (fault)
            return PYSCEP_FAIL(fault, start);
        if (content == entry_end || data[content] != 0x02)
            return PYSCEP_FAIL(PYSCEP_BAD_TAG, start);
        fault = header(data, entry_end, content, &number, &number_end);
        if (fault)
            return PYSCEP_FAIL(fault, start);
        /* Random serial numbers differ in their last byte: that saves nearly every call. */
        if (number_end - number == serial_size && (serial_size == 0 ||
            data[number_end - 1] == serial[serial_size - 1]) &&
            memcmp(data + number, serial, serial_size) == 0)
            return (int64_t)start;
        start = entry_end;
    }
    return (int64_t)end;
}
