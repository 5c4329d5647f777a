/* The bounded index over DER and BER: every value, in the order of appearance. */
#include "codec.h"

enum kind { REFUSE, LEAF, DESCEND, OID, INTEGER, SHAPED };

enum { MAX_OID_BYTES = 64, MAX_ARC_BYTES = 19, MAX_INTEGER_BYTES = 2049 };

/* By identifier octet; the same table as in pyscep/codec/_pure.py. */
static enum kind kind_of(uint8_t tag)
{
    uint8_t number = tag & 0x1f;
    int constructed = tag & 0x20;
    if (number == 0x1f)
        return REFUSE;
    if (tag >= 0x40)
        return constructed ? DESCEND : LEAF;
    if (constructed)
        return number == 0x03 || number == 0x04 || number == 0x0c || number >= 0x10 ? DESCEND
                                                                                   : REFUSE;
    switch (number) {
    case 0x02:
        return INTEGER;
    case 0x06:
        return OID;
    case 0x01:
    case 0x03:
    case 0x05:
        return SHAPED;
    case 0x04:
    case 0x0a:
    case 0x0c:
        return LEAF;
    default:
        return number >= 0x12 ? LEAF : REFUSE;
    }
}

static int check_primitive(const uint8_t *content, size_t size, enum kind kind, uint8_t tag)
{
    if (kind == INTEGER)
        return size > 0 && size <= MAX_INTEGER_BYTES ? 0 : PYSCEP_BAD_INTEGER;
    if (kind == OID) {
        if (size == 0 || size > MAX_OID_BYTES || content[size - 1] & 0x80)
            return PYSCEP_BAD_OID;
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
            enum kind kind = kind_of(tag);
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
