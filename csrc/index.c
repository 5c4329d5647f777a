/* The bounded index over DER and BER: every value, in the order of appearance. */
#include "codec.h"

enum kind { REFUSE, LEAF, DESCEND, OID, INTEGER, SHAPED };

enum { MAX_OID_BYTES = 64, MAX_ARC_BYTES = 19, MAX_INTEGER_BYTES = 2049 };

/* By identifier octet; the same table as in pyscep/codec/_pure.py. */
#define LEAF15 \
    LEAF, LEAF, LEAF, LEAF, LEAF, LEAF, LEAF, LEAF, LEAF, LEAF, LEAF, LEAF, LEAF, LEAF, LEAF
#define DESCEND15 \
    DESCEND, DESCEND, DESCEND, DESCEND, DESCEND, DESCEND, DESCEND, DESCEND, DESCEND, DESCEND, \
        DESCEND, DESCEND, DESCEND, DESCEND, DESCEND
#define TAGGED LEAF15, LEAF, LEAF15, REFUSE, DESCEND15, DESCEND, DESCEND15, REFUSE
static const uint8_t kinds[256] = {
    /* primitive, universal */
    REFUSE, SHAPED, INTEGER, SHAPED, LEAF, SHAPED, OID, REFUSE,
    REFUSE, REFUSE, LEAF, REFUSE, LEAF, REFUSE, REFUSE, REFUSE,
    REFUSE, REFUSE, LEAF, LEAF, LEAF, LEAF, LEAF, LEAF,
    LEAF, LEAF, LEAF, LEAF, LEAF, LEAF, LEAF, REFUSE,
    /* constructed, universal: strings may be in BER */
    REFUSE, REFUSE, REFUSE, DESCEND, DESCEND, REFUSE, REFUSE, REFUSE,
    REFUSE, REFUSE, REFUSE, REFUSE, DESCEND, REFUSE, REFUSE, REFUSE,
    DESCEND15, REFUSE,
    /* application, context-specific, private */
    TAGGED, TAGGED, TAGGED};

static int check_primitive(const uint8_t *content, size_t size, uint8_t kind, uint8_t tag)
{
    if (kind == INTEGER)
        return size > 0 && size <= MAX_INTEGER_BYTES ? 0 : PYSCEP_BAD_INTEGER;
    if (kind == OID) {
        if (size == 0 || size > MAX_OID_BYTES || content[size - 1] & 0x80)
            return PYSCEP_BAD_OID;
        if (size <= MAX_ARC_BYTES)
            return 0;
        size_t run = 0;
        for (size_t i = 0; i < size; i++) {
            if (++run > MAX_ARC_BYTES)
                return PYSCEP_BAD_OID;
            if (content[i] < 0x80)
                run = 0;
        }
        return 0;
    }
    if (tag == 0x01)
        return size == 1 ? 0 : PYSCEP_BAD_PRIMITIVE;
    if (tag == 0x05)
        return size == 0 ? 0 : PYSCEP_BAD_PRIMITIVE;
    return size > 0 && content[0] <= 7 ? 0 : PYSCEP_BAD_PRIMITIVE;
}

int pyscep_is_plain(const uint8_t *data, size_t size, size_t most, uint32_t max_depth,
                    size_t max_trailing)
{
    size_t limits[PYSCEP_MAX_DEPTH];
    size_t position = 0, limit = size, number = 0;
    uint32_t depth = 0;
    if (size > UINT32_MAX - 2 || max_depth > PYSCEP_MAX_DEPTH)
        return 0;
    do {
        if (limit - position < 2 || number == most)
            return 0;
        uint8_t tag = data[position], kind = kinds[tag];
        size_t length = data[position + 1];
        position += 2;
        if (length >= 0x80) {
            size_t count = length & 0x7f;
            if (count == 0 || count > 4 || count > limit - position)
                return 0;
            for (length = 0; count > 0; count--)
                length = length << 8 | data[position++];
        }
        if (length > limit - position)
            return 0;
        number++;
        if (kind == DESCEND && length > 0) {
            if (depth == max_depth)
                return 0;
            limits[depth++] = limit;
            limit = position + length;
            continue;
        }
        if (kind == REFUSE || (kind > DESCEND && check_primitive(data + position, length, kind, tag)))
            return 0;
        position += length;
        while (depth > 0 && position == limit)
            limit = limits[--depth];
    } while (depth > 0);
    return size - position <= max_trailing;
}

struct container {
    uint32_t row;
    uint32_t limit; /* outside it */
    int indefinite; /* whether the outer one has an indefinite length */
};

int64_t pyscep_index(const uint8_t *data, size_t size, uint32_t *rows, size_t row_count,
                     uint32_t leaf_depth, uint32_t max_depth, size_t max_trailing)
{
    struct container stack[PYSCEP_MAX_DEPTH + 1];
    size_t position = 0, limit = size, start = 0;
    size_t number = 0;
    uint32_t depth = 0;
    int indefinite = 0, fault;

    if (size == 0)
        return PYSCEP_FAIL(PYSCEP_EMPTY, 0);
    if (size > UINT32_MAX - 2 || max_depth > PYSCEP_MAX_DEPTH)
        return PYSCEP_FAIL(PYSCEP_TOO_DEEP, 0);
    do {
        start = position;
        if (limit - start < 2) {
            fault = PYSCEP_TRUNCATED;
            goto refuse;
        }
        uint8_t tag = data[start];
        size_t length = data[start + 1];
        position = start + 2;
        if (indefinite && tag == 0) {
            if (length != 0) {
                fault = PYSCEP_BAD_TAG;
                goto refuse;
            }
            depth--;
            if (rows) {
                uint32_t *row = rows + 4 * (size_t)stack[depth].row;
                row[2] = (uint32_t)start;
                row[3] = (uint32_t)number;
            }
            limit = stack[depth].limit;
            indefinite = stack[depth].indefinite;
        } else {
            uint8_t kind = kinds[tag];
            if (kind == REFUSE) {
                fault = (tag & 0x1f) == 0x1f ? PYSCEP_LONG_TAG
                        : tag                ? PYSCEP_BAD_TAG
                                             : PYSCEP_STRAY_END;
                goto refuse;
            }
            if (number == row_count) {
                fault = PYSCEP_TOO_MANY_NODES;
                goto refuse;
            }
            if (depth > max_depth) {
                fault = PYSCEP_TOO_DEEP;
                goto refuse;
            }
            uint32_t unused[4], *row = rows ? rows + 4 * number : unused;
            row[0] = (uint32_t)start;
            if (length == 0x80) {
                if (kind != DESCEND) {
                    fault = PYSCEP_PRIMITIVE_INDEFINITE;
                    goto refuse;
                }
                row[1] = (uint32_t)position;
                row[2] = row[3] = 0;
                stack[depth].row = (uint32_t)number++;
                stack[depth].limit = (uint32_t)limit;
                stack[depth++].indefinite = indefinite;
                indefinite = 1;
                continue;
            }
            if (length > 0x80) {
                size_t count = length & 0x7f;
                if (count > 4) {
                    fault = PYSCEP_LENGTH_OCTETS;
                    goto refuse;
                }
                if (count > limit - position) {
                    fault = PYSCEP_TRUNCATED;
                    goto refuse;
                }
                for (length = 0; count > 0; count--)
                    length = length << 8 | data[position++];
            }
            if (length > limit - position) {
                fault = PYSCEP_OVERRUN;
                goto refuse;
            }
            size_t end = position + length;
            row[1] = (uint32_t)position;
            row[2] = (uint32_t)end;
            if (kind == DESCEND) {
                row[3] = (uint32_t)++number;
                if (length > 0 && depth < leaf_depth) {
                    stack[depth].row = (uint32_t)number - 1;
                    stack[depth].limit = (uint32_t)limit;
                    stack[depth++].indefinite = indefinite;
                    limit = end;
                    indefinite = 0;
                    continue;
                }
            } else {
                if (kind != LEAF) {
                    fault = check_primitive(data + position, length, kind, tag);
                    if (fault)
                        goto refuse;
                }
                row[3] = (uint32_t)++number;
            }
            position = end;
        }
        while (depth > 0 && position == limit && !indefinite) {
            depth--;
            if (rows)
                rows[4 * (size_t)stack[depth].row + 3] = (uint32_t)number;
            limit = stack[depth].limit;
            indefinite = stack[depth].indefinite;
        }
    } while (depth > 0);
    if (size - position > max_trailing) {
        start = position;
        fault = PYSCEP_TRAILING;
        goto refuse;
    }
    return (int64_t)number;

refuse:
    return PYSCEP_FAIL(fault, start);
}
