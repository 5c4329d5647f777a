/* Serial numbers in the revokedCertificates of a CRL of any length. */
#include "codec.h"

#include <string.h>

/* A run of fewer entries that are alike doesn't pay. Then some are read one by one before the next
 * try, each time more: a CRL of entries of many kinds costs hardly more than without tries. */
enum { SHORT_RUN = 16, FIRST_PAUSE = 4, LONGEST_PAUSE = 256 };

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

/* Four bytes, to be compared with others that were read the same way. */
static inline uint32_t four_bytes(const uint8_t *from)
{
    uint32_t bytes;
    memcpy(&bytes, from, sizeof bytes);
    return bytes;
}

/* Pass over entries whose first four bytes are `head`, those of the sound entry before `start`:
 * if both its lengths are among them, what was found right there is right of all of them. They
 * are read four at a time, none waiting for the length of the one before.
 * Stops at an entry that is not like that, or that has `wanted` at `place`. */
static size_t pass_alike(const uint8_t *data, size_t start, size_t end, size_t stride,
                         uint32_t head, size_t place, uint32_t wanted)
{
    for (; (end - start) / 4 >= stride; start += 4 * stride) {
        const uint8_t *first = data + start, *second = first + stride;
        const uint8_t *third = second + stride, *fourth = third + stride;
        uint32_t odd = (four_bytes(first) ^ head) | (four_bytes(second) ^ head) |
                       (four_bytes(third) ^ head) | (four_bytes(fourth) ^ head);
        int is_first = four_bytes(first + place) == wanted;
        int is_second = four_bytes(second + place) == wanted;
        int is_third = four_bytes(third + place) == wanted;
        int is_fourth = four_bytes(fourth + place) == wanted;
        if (odd | (uint32_t)(is_first | is_second | is_third | is_fourth))
            break;
    }
    while (end - start >= stride && four_bytes(data + start) == head &&
           four_bytes(data + start + place) != wanted)
        start += stride;
    return start;
}

/* Where an entry ends, and its serial number. */
struct entry {
    size_t end, number, number_end;
};

/* Read the entry that starts before `end`, whatever its form. Returns 0, or a fault. */
static int read_entry(const uint8_t *data, size_t start, size_t end, struct entry *entry)
{
    size_t content;
    if (data[start] != 0x30)
        return PYSCEP_BAD_TAG;
    int fault = header(data, end, start, &content, &entry->end);
    if (fault)
        return fault;
    if (content == entry->end || data[content] != 0x02)
        return PYSCEP_BAD_TAG;
    return header(data, entry->end, content, &entry->number, &entry->number_end);
}

int64_t pyscep_find_serial(const uint8_t *data, size_t start, size_t end, const uint8_t *serial,
                           size_t serial_size)
{
    size_t pause = 0, next_pause = FIRST_PAUSE;
    /* What the last byte must be; of a number without bytes, its length's. */
    const uint8_t last = serial_size ? serial[serial_size - 1] : 0;
    while (start < end) {
        const uint8_t *entry = data + start;
        size_t left = end - start;
        if (left < 4 || entry[0] != 0x30 || entry[1] >= 0x80 || entry[2] != 0x02 ||
            entry[3] + 2 > entry[1] || left - 2 < entry[1]) {
            /* Not of the usual form: a long length, or a fault. */
            struct entry other;
            int fault = read_entry(data, start, end, &other);
            if (fault)
                return PYSCEP_FAIL(fault, start);
            if (other.number_end - other.number == serial_size &&
                memcmp(data + other.number, serial, serial_size) == 0)
                return (int64_t)start;
            start = other.end;
            continue;
        }
        size_t stride = 2 + (size_t)entry[1], size = entry[3];
        /* Random serial numbers differ in their last byte: that saves nearly every call. */
        int has_size = size == serial_size, has_end = entry[3 + size] == last;
        if (has_size & has_end && memcmp(entry + 4, serial, size) == 0)
            return (int64_t)start;
        start += stride;
        if (pause > 0) {
            pause--;
            continue;
        }
        /* Where the sizes differ no number is the wanted one: none starts with ~head. */
        uint32_t head = four_bytes(entry), wanted = ~head;
        size_t place = 0;
        if (size == serial_size) {
            /* The last four bytes of header and number. */
            uint8_t usual[8];
            memcpy(usual, entry, 4);
            memcpy(usual + 4, serial, size < 4 ? size : 4);
            wanted = four_bytes(size < 4 ? usual + size : serial + size - 4);
            place = size;
        }
        size_t after = pass_alike(data, start, end, stride, head, place, wanted);
        if (after - start < SHORT_RUN * stride) {
            pause = next_pause;
            next_pause = next_pause < LONGEST_PAUSE ? 2 * next_pause : next_pause;
        } else {
            next_pause = FIRST_PAUSE;
        }
        start = after;
    }
    return (int64_t)end;
}
