/* Runs a fuzz target once on each file that is named, without a fuzzer: for valgrind. */
#include "../fuzz/fuzz.h"

int main(int count, char **names)
{
    enum { MOST = 1 << 20 };
    uint8_t *data = room_for(MOST);
    for (int i = 1; i < count; i++) {
        FILE *file = fopen(names[i], "rb");
        REQUIRE(file != NULL);
        size_t size = fread(data, 1, MOST, file);
        fclose(file);
        LLVMFuzzerTestOneInput(data, size);
    }
    free(data);
    printf("%d inputs\n", count - 1);
    return 0;
}
