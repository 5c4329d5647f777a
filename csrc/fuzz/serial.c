/* The serial numbers of a CRL. The first byte is the size of the number that is looked for, which
 * comes next; then the entries. */
#include "fuzz.h"

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
    if (found < 0) {
        require_fault(found, size);
    } else if ((size_t)found < size) {
        /* Found: the entry is a SEQUENCE, and looking from it on finds it again. */
        REQUIRE(entries[found] == 0x30);
        REQUIRE(pyscep_find_serial(entries, (size_t)found, size, serial, wanted) == found);
    } else {
        REQUIRE((size_t)found == size);
    }
    free(serial);
    free(entries);
    return 0;
}
