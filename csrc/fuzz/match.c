/* Shapes and attributes, on any bytes: places lie within the data, programs end.
 * The first byte of the input chooses the program; the shapes of the package are among them. */
#include "fuzz.h"

#define OPEN(tag) PYSCEP_OP_OPEN, tag
#define TAKE(tag, slot) PYSCEP_OP_TAKE, tag, slot
#define TAKE_OPEN(tag, slot) PYSCEP_OP_TAKE_OPEN, tag, slot
#define TAKE_FEW(tag, slot, most) PYSCEP_OP_TAKE_FEW, tag, slot, most
#define TAKE_OPTIONAL(tag, slot) PYSCEP_OP_IF, tag, 3, TAKE(tag, slot)

enum { SLOTS = 16, PLACES = 64 };

static const uint8_t request[] = {
    OPEN(0x30), TAKE_OPEN(0x30, 0), PYSCEP_OP_PASS, TAKE(0x30, 1), TAKE(0x30, 2),
    TAKE_OPTIONAL(0xa0, 3), PYSCEP_OP_CLOSE, TAKE(0x30, 4), TAKE(0x03, 5), PYSCEP_OP_CLOSE};
static const uint8_t signed_data[] = {
    OPEN(0x30), PYSCEP_OP_PASS, OPEN(0xa0), TAKE_OPEN(0x30, 0), TAKE(0x02, 1), TAKE(0x31, 2),
    OPEN(0x30), PYSCEP_OP_TAKE_ANY, 3, PYSCEP_OP_LEAVE, PYSCEP_OP_IF, 0xa0, 4, TAKE_FEW(0xa0, 4, 3),
    TAKE_OPTIONAL(0xa1, 5), OPEN(0x31), PYSCEP_OP_TAKE_ANY, 6, PYSCEP_OP_CLOSE,
    PYSCEP_OP_CLOSE, PYSCEP_OP_CLOSE, PYSCEP_OP_CLOSE};
static const uint8_t version[] = {OPEN(0x30), PYSCEP_OP_SAME, 3, 0x02, 0x01, 0x00,
                                  PYSCEP_OP_TAKE_ANY, 7, PYSCEP_OP_LEAVE};
static const uint8_t deep[] = {OPEN(0x30), OPEN(0x30), OPEN(0x30), OPEN(0x30), OPEN(0x30),
                               OPEN(0x30), OPEN(0x30), OPEN(0x30), OPEN(0x30), OPEN(0x30),
                               OPEN(0x30), OPEN(0x30), OPEN(0x30), OPEN(0x30), OPEN(0x30),
                               TAKE_OPEN(0x30, 15), TAKE_OPEN(0x30, 14), PYSCEP_OP_CLOSE};

static const struct {
    const uint8_t *program;
    size_t size;
} programs[] = {{request, sizeof request},
                {signed_data, sizeof signed_data},
                {version, sizeof version},
                {deep, sizeof deep}};

static void require_place(const uint32_t *place, size_t start, size_t end)
{
    REQUIRE(place[0] >= start && place[0] + 2 <= place[1] && place[1] <= place[2] &&
            place[2] <= end);
}

static void match(const uint8_t *data, size_t size, const uint8_t *program, size_t program_size)
{
    uint32_t *slots = room_for(3 * SLOTS * sizeof *slots);
    uint8_t *copy = copy_of(program, program_size);
    uint32_t *again = room_for(3 * SLOTS * sizeof *again);
    int matched = pyscep_match(data, size, copy, program_size, slots, SLOTS);
    if (matched)
        for (size_t slot = 0; slot < SLOTS; slot++)
            if (slots[3 * slot + 2] != 0)
                require_place(slots + 3 * slot, 0, size);
    /* Reading is checking, then matching. */
    int64_t checked = pyscep_index(data, size, NULL, 200, 25, 24, 8);
    struct pyscep_shape *shape = room_for(sizeof *shape + program_size);
    *shape = (struct pyscep_shape){SLOTS, 200, 24, (uint32_t)program_size};
    memcpy(shape->program, program, program_size);
    int64_t read = pyscep_read(data, size, 8, shape, again);
    REQUIRE(read == (checked < 0 ? checked : matched));
    if (read > 0)
        REQUIRE(memcmp(slots, again, 3 * SLOTS * sizeof *slots) == 0);
    free(shape);
    free(again);
    free(copy);
    free(slots);
}

static void list_attributes(const uint8_t *data, size_t start, size_t end)
{
    uint32_t *places = room_for(5 * PLACES * sizeof *places);
    int64_t count = pyscep_attributes(data, start, end, places, PLACES);
    REQUIRE(count >= -1 && count <= PLACES);
    for (int64_t i = 0; i < count; i++) {
        const uint32_t *place = places + 5 * i;
        REQUIRE(place[0] >= start && place[0] < place[1] && place[1] <= place[2]);
        require_place(place + 2, start, end);
    }
    free(places);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    uint32_t chosen = *data++ % (sizeof programs / sizeof *programs);
    uint8_t *copy = copy_of(data, --size);
    match(copy, size, programs[chosen].program, programs[chosen].size);
    list_attributes(copy, 0, size);
    uint32_t *rows = room_for(4 * 256 * sizeof *rows);
    int64_t count = pyscep_index(copy, size, rows, 256, 25, 24, 0);
    for (int64_t i = 0; i < count; i++)
        list_attributes(copy, rows[4 * i + 1], rows[4 * i + 2]);
    free(rows);
    free(copy);
    return 0;
}
