/* Shapes: find the parts of a message of the usual form in one pass. */
#include "codec.h"

#include <string.h>

enum { MAX_OPEN = 16 };

struct value {
    size_t start, content, end;
};

/* Read the header of the value at `start`; 0 if it has an indefinite length or none fits.
 * The index has checked all lengths before. */
static int read_value(const uint8_t *data, size_t limit, size_t start, struct value *value)
{
    if (limit - start < 2)
        return 0;
    size_t position = start + 2, length = data[start + 1];
    if (length >= 0x80) {
        size_t count = length & 0x7f;
        if (count == 0 || count > 4 || count > limit - position)
            return 0;
        for (length = 0; count > 0; count--)
            length = length << 8 | data[position++];
    }
    if (length > limit - position)
        return 0;
    value->start = start;
    value->content = position;
    value->end = position + length;
    return 1;
}

static void note(uint32_t *slots, size_t slot, const struct value *value)
{
    slots[3 * slot] = (uint32_t)value->start;
    slots[3 * slot + 1] = (uint32_t)value->content;
    slots[3 * slot + 2] = (uint32_t)value->end;
}

/* Whether a value holds at most `most` others, all of definite length. */
static int holds_few(const uint8_t *data, const struct value *container, uint8_t most)
{
    struct value value = {0, 0, container->content};
    while (value.end < container->end)
        if (most-- == 0 || !read_value(data, container->end, value.end, &value))
            return 0;
    return 1;
}

/* One Attribute with a single value: its OID and the value. */
static int read_attribute(const uint8_t *data, size_t limit, size_t start, struct value *oid,
                          struct value *single, size_t *next)
{
    struct value attribute, values;
    if (!read_value(data, limit, start, &attribute) || data[start] != 0x30)
        return 0;
    if (!read_value(data, attribute.end, attribute.content, oid) || data[oid->start] != 0x06)
        return 0;
    if (!read_value(data, attribute.end, oid->end, &values) || data[values.start] != 0x31 ||
        values.end != attribute.end)
        return 0;
    if (!read_value(data, values.end, values.content, single) || single->end != values.end)
        return 0;
    *next = attribute.end;
    return 1;
}

int64_t pyscep_attributes(const uint8_t *data, size_t start, size_t end, uint32_t *places,
                          size_t place_count)
{
    size_t count = 0;
    while (start < end) {
        struct value oid, single;
        if (count == place_count || !read_attribute(data, end, start, &oid, &single, &start))
            return -1;
        uint32_t *place = places + 5 * count++;
        place[0] = (uint32_t)oid.start;
        place[1] = (uint32_t)oid.end;
        place[2] = (uint32_t)single.start;
        place[3] = (uint32_t)single.content;
        place[4] = (uint32_t)single.end;
    }
    return (int64_t)count;
}

int pyscep_match(const uint8_t *data, size_t size, const uint8_t *program, size_t program_size,
                 uint32_t *slots, size_t slot_count)
{
    size_t limits[MAX_OPEN], position = 0, limit = size, depth = 0;
    const uint8_t *end = program + program_size;
    struct value value;
    memset(slots, 0, 3 * slot_count * sizeof *slots);
    while (program < end) {
        switch (*program) {
        case PYSCEP_OP_OPEN:
            if (position >= limit || data[position] != program[1] || depth == MAX_OPEN ||
                !read_value(data, limit, position, &value))
                return 0;
            limits[depth++] = limit;
            limit = value.end;
            position = value.content;
            program += 2;
            break;
        case PYSCEP_OP_CLOSE:
            if (position != limit)
                return 0;
            limit = limits[--depth];
            program += 1;
            break;
        case PYSCEP_OP_LEAVE:
            position = limit;
            limit = limits[--depth];
            program += 1;
            break;
        case PYSCEP_OP_TAKE_OPEN:
            if (position >= limit || data[position] != program[1] || depth == MAX_OPEN ||
                !read_value(data, limit, position, &value))
                return 0;
            note(slots, program[2], &value);
            limits[depth++] = limit;
            limit = value.end;
            position = value.content;
            program += 3;
            break;
        case PYSCEP_OP_TAKE:
            if (position >= limit || data[position] != program[1] ||
                !read_value(data, limit, position, &value))
                return 0;
            note(slots, program[2], &value);
            position = value.end;
            program += 3;
            break;
        case PYSCEP_OP_TAKE_FEW:
            if (position >= limit || data[position] != program[1] ||
                !read_value(data, limit, position, &value) ||
                !holds_few(data, &value, program[3]))
                return 0;
            note(slots, program[2], &value);
            position = value.end;
            program += 4;
            break;
        case PYSCEP_OP_TAKE_ANY:
            if (!read_value(data, limit, position, &value))
                return 0;
            note(slots, program[1], &value);
            position = value.end;
            program += 2;
            break;
        case PYSCEP_OP_PASS:
            if (!read_value(data, limit, position, &value))
                return 0;
            position = value.end;
            program += 1;
            break;
        case PYSCEP_OP_SAME:
            if (limit - position < program[1] ||
                memcmp(data + position, program + 2, program[1]) != 0)
                return 0;
            position += program[1];
            program += 2u + program[1];
            break;
        case PYSCEP_OP_IF:
            program += position < limit && data[position] == program[1] ? 3u : 3u + program[2];
            break;
        default:
            return 0;
        }
    }
    return position == size;
}

int64_t pyscep_read(const uint8_t *data, size_t size, size_t max_trailing,
                    const struct pyscep_shape *shape, uint32_t *slots)
{
    size_t max_nodes = shape->max_nodes;
    uint32_t max_depth = shape->max_depth;
    if (!pyscep_is_plain(data, size, max_nodes, max_depth, max_trailing)) {
        int64_t count =
            pyscep_index(data, size, NULL, max_nodes, max_depth + 1, max_depth, max_trailing);
        if (count < 0)
            return count;
    }
    return pyscep_match(data, size, shape->program, shape->program_size, slots,
                        shape->slot_count);
}
