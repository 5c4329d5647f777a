/* The bounded index: rows lie within each other, and checking agrees with listing.
 * The first byte of the input chooses the bounds. */
#include "fuzz.h"

enum { ROWS = 512 };

/* Whether the rows of a table are what the encoding says. */
static void require_rows(const uint8_t *data, size_t size, const uint32_t *rows, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const uint32_t *row = rows + 4 * i;
        int indefinite = data[row[0] + 1] == 0x80;
        REQUIRE(row[0] + 2 <= row[1] && row[1] <= row[2] && row[2] <= size);
        REQUIRE(row[3] > i && row[3] <= count);
        REQUIRE(!indefinite || (data[row[2]] == 0 && data[row[2] + 1] == 0));
        for (size_t inside = i + 1; inside < row[3]; inside = rows[4 * inside + 3]) {
            const uint32_t *part = rows + 4 * inside;
            REQUIRE(part[0] >= row[1] && part[2] <= row[2] && part[3] <= row[3]);
        }
        if (row[3] < count)
            REQUIRE(rows[4 * row[3]] >= row[2]);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    uint32_t bounds = *data++;
    uint8_t *copy = copy_of(data, --size);
    uint32_t max_depth = bounds & 1 ? 24 : bounds & 2 ? PYSCEP_MAX_DEPTH : 2;
    uint32_t leaf_depth = bounds & 4 ? max_depth + 1 : 2;
    size_t trailing = bounds & 8 ? 8 : 0, row_count = bounds & 16 ? ROWS : 7;
    uint32_t *rows = room_for(4 * row_count * sizeof *rows);
    int64_t count = pyscep_index(copy, size, rows, row_count, leaf_depth, max_depth, trailing);
    REQUIRE(pyscep_index(copy, size, NULL, row_count, leaf_depth, max_depth, trailing) == count);
    if (pyscep_is_plain(copy, size, row_count, max_depth, trailing))
        REQUIRE(pyscep_index(copy, size, NULL, row_count, max_depth + 1, max_depth, trailing) > 0);
    if (count < 0) {
        require_fault(count, size);
    } else {
        REQUIRE(count > 0 && (size_t)count <= row_count);
        require_rows(copy, size, rows, (size_t)count);
        REQUIRE(size - rows[2] <= trailing + 2);
        /* Within the bounds of a message there is no need for more of them. */
        REQUIRE(pyscep_index(copy, size, rows, (size_t)count, leaf_depth, max_depth, trailing) ==
                count);
    }
    free(rows);
    free(copy);
    return 0;
}
