/* Runs a fuzz target on each file that is named, and on COUNT mutants of each, without a fuzzer: for
 * valgrind, and for machines that are emulated.
 *
 * usage: target [-COUNT] FILE...
 */
#include "../fuzz/fuzz.h"

enum { MOST = 1 << 20 };

static uint64_t state = 0x9e3779b97f4a7c15;

static size_t below(size_t bound)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (size_t)(state >> 16) % bound;
}

/* One to three changes of a byte, and now and then only a part of it all. */
static size_t mutate(uint8_t *data, size_t size)
{
    static const uint8_t usual[] = "%%%%%=+/-_ \nAz059BFf\x30\x02\x80\x81\xff";
    for (size_t changes = 1 + below(3); changes > 0 && size > 0; changes--) {
        size_t at = below(size);
        data[at] = below(3) ? usual[below(sizeof usual - 1)] : (uint8_t)below(256);
        if (below(8) == 0)
            size = at;
    }
    return size;
}

int main(int count, char **names)
{
    uint8_t *data = room_for(MOST), *mutant = room_for(MOST);
    long mutants = 0;
    int first = 1;
    if (count > 1 && names[1][0] == '-') {
        mutants = strtol(names[1] + 1, NULL, 10);
        first = 2;
    }
    for (int i = first; i < count; i++) {
        FILE *file = fopen(names[i], "rb");
        REQUIRE(file != NULL);
        size_t size = fread(data, 1, MOST, file);
        fclose(file);
        LLVMFuzzerTestOneInput(data, size);
        for (long number = 0; number < mutants; number++) {
            memcpy(mutant, data, size);
            size_t left = mutate(mutant, size);
            LLVMFuzzerTestOneInput(mutant, left);
        }
    }
    free(mutant);
    free(data);
    printf("%ld inputs\n", (long)(count - first) * (mutants + 1));
    return 0;
}
