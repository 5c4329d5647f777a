/* GET query text with AVX2: 32 bytes a step, chosen at run time where the machine has it.
 *
 * The base64 arithmetic is the published one of Mula and Lemire, "Faster Base64 Encoding and
 * Decoding using AVX2 Instructions" (2018).
 */
#include "codec.h"

#ifdef PYSCEP_HAVE_AVX2

#include <immintrin.h>
#include <string.h>

#define AVX2 __attribute__((target("avx2,bmi,popcnt")))

AVX2 static inline __m256i load(const uint8_t *from)
{
    return _mm256_loadu_si256((const __m256i *)(const void *)from);
}

AVX2 static inline void store(uint8_t *to, __m256i value)
{
    _mm256_storeu_si256((__m256i *)(void *)to, value);
}

/* Copy 64 bytes of which only the first ones count. */
AVX2 static inline void copy_block(uint8_t *to, const uint8_t *from)
{
    __m256i first = load(from), second = load(from + 32);
    store(to, first);
    store(to + 32, second);
}

/* Not in place: whole blocks are stored even where only their start counts. An escape may begin
 * with the last byte of a block, and 64 bytes are read behind it: 130 in all. */
AVX2 static int64_t unescape_avx2(const uint8_t *text, size_t size, uint8_t *out, size_t *decoded)
{
    const __m256i percent = _mm256_set1_epi8('%');
    size_t in = 0, to = 0;
    *decoded = 0;
    while (size - in >= 130) {
        __m256i first = load(text + in), second = load(text + in + 32);
        uint64_t mask = (uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(first, percent));
        mask |= (uint64_t)(uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(second, percent)) << 32;
        store(out + to, first);
        store(out + to + 32, second);
        if (__builtin_popcountll(mask) > 8) {
            /* Dense: up to the end of the last escape that starts here. */
            size_t last = 63u - (size_t)__builtin_clzll(mask), length = last > 61 ? last + 3 : 64;
            int64_t written = pyscep_unescape(text + in, length, out + to);
            if (written < 0)
                return -1;
            in += length;
            to += (size_t)written;
            continue;
        }
        size_t end = in + 64;
        while (mask != 0) {
            size_t escape = end - 64 + (size_t)__builtin_ctzll(mask);
            mask &= mask - 1;
            uint8_t high = pyscep_hex_value[text[escape + 1]];
            uint8_t low = pyscep_hex_value[text[escape + 2]];
            if ((high | low) > 15)
                return -1;
            to += escape - in;
            out[to++] = (uint8_t)(high << 4 | low);
            in = escape + 3;
            copy_block(out + to, text + in);
        }
        to += in < end ? end - in : 0;
        in = in < end ? end : in;
    }
    int64_t rest = pyscep_unescape(text + in, size - in, out + to);
    return rest < 0 ? rest : rest + (int64_t)to;
}

AVX2 static size_t base64_avx2(const uint8_t *text, size_t size, uint8_t *out, size_t *written)
{
    const __m256i low_classes = _mm256_setr_epi8(
        0x15, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x13, 0x1a, 0x1b, 0x1b,
        0x1b, 0x1a, 0x15, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x13, 0x1a,
        0x1b, 0x1b, 0x1b, 0x1a);
    const __m256i high_classes = _mm256_setr_epi8(
        0x10, 0x10, 0x01, 0x02, 0x04, 0x08, 0x04, 0x08, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10,
        0x10, 0x10, 0x10, 0x10, 0x01, 0x02, 0x04, 0x08, 0x04, 0x08, 0x10, 0x10, 0x10, 0x10,
        0x10, 0x10, 0x10, 0x10);
    const __m256i shifts = _mm256_setr_epi8(0, 16, 19, 4, -65, -65, -71, -71, 0, 0, 0, 0, 0, 0,
                                            0, 0, 0, 16, 19, 4, -65, -65, -71, -71, 0, 0, 0, 0,
                                            0, 0, 0, 0);
    const __m256i slash = _mm256_set1_epi8(0x2f);
    const __m256i pack = _mm256_setr_epi8(2, 1, 0, 6, 5, 4, 10, 9, 8, 14, 13, 12, -1, -1, -1, -1,
                                          2, 1, 0, 6, 5, 4, 10, 9, 8, 14, 13, 12, -1, -1, -1,
                                          -1);
    const __m256i join = _mm256_setr_epi32(0, 1, 2, 4, 5, 6, -1, -1);
    size_t in = 0, to = 0;
    while (size - in >= 32) {
        __m256i block = load(text + in);
        __m256i high = _mm256_and_si256(_mm256_srli_epi32(block, 4), slash);
        __m256i low = _mm256_and_si256(block, slash);
        if (!_mm256_testz_si256(_mm256_shuffle_epi8(low_classes, low),
                                _mm256_shuffle_epi8(high_classes, high)))
            break;
        __m256i is_slash = _mm256_cmpeq_epi8(block, slash);
        __m256i values = _mm256_add_epi8(
            block, _mm256_shuffle_epi8(shifts, _mm256_add_epi8(is_slash, high)));
        __m256i pairs = _mm256_maddubs_epi16(values, _mm256_set1_epi32(0x01400140));
        __m256i groups = _mm256_madd_epi16(pairs, _mm256_set1_epi32(0x00011000));
        __m256i bytes = _mm256_permutevar8x32_epi32(_mm256_shuffle_epi8(groups, pack), join);
        store(out + to, bytes);
        in += 32;
        to += 24;
    }
    size_t rest;
    in += pyscep_scalar_kernels.base64(text + in, size - in, out + to, &rest);
    *written = to + rest;
    return in;
}

AVX2 static size_t encode_avx2(const uint8_t *data, size_t size, uint8_t *out, size_t *written)
{
    const __m256i spread = _mm256_setr_epi8(5, 4, 6, 5, 8, 7, 9, 8, 11, 10, 12, 11, 14, 13, 15,
                                            14, 1, 0, 2, 1, 4, 3, 5, 4, 7, 6, 8, 7, 10, 9, 11,
                                            10);
    const __m256i offsets = _mm256_setr_epi8(65, 71, -4, -4, -4, -4, -4, -4, -4, -4, -4, -4, -19,
                                             -16, 0, 0, 65, 71, -4, -4, -4, -4, -4, -4, -4, -4,
                                             -4, -4, -19, -16, 0, 0);
    uint8_t characters[64] = {0};
    size_t in = 0, to = 0;
    /* A load starts four bytes early, and 28 bytes from `in` are read. */
    while (in > 0 ? size - in >= 28 : size >= 32) {
        __m256i block;
        if (in == 0) {
            uint8_t first[32];
            memset(first, 0, 4);
            memcpy(first + 4, data, 28);
            block = load(first);
        } else {
            block = load(data + in - 4);
        }
        block = _mm256_shuffle_epi8(block, spread);
        __m256i upper = _mm256_mulhi_epu16(_mm256_and_si256(block, _mm256_set1_epi32(0x0fc0fc00)),
                                           _mm256_set1_epi32(0x04000040));
        __m256i lower = _mm256_mullo_epi16(_mm256_and_si256(block, _mm256_set1_epi32(0x003f03f0)),
                                           _mm256_set1_epi32(0x01000010));
        __m256i values = _mm256_or_si256(upper, lower);
        __m256i classes = _mm256_subs_epu8(values, _mm256_set1_epi8(51));
        classes = _mm256_sub_epi8(classes, _mm256_cmpgt_epi8(values, _mm256_set1_epi8(25)));
        __m256i text = _mm256_add_epi8(values, _mm256_shuffle_epi8(offsets, classes));
        uint32_t mask = (uint32_t)_mm256_movemask_epi8(
            _mm256_cmpgt_epi8(values, _mm256_set1_epi8(61)));
        if (mask == 0) {
            store(out + to, text);
            to += 32;
        } else {
            store(characters, text);
            size_t from = 0;
            while (mask != 0) {
                size_t next = (size_t)__builtin_ctz(mask);
                mask &= mask - 1;
                store(out + to, load(characters + from));
                to += next - from;
                out[to] = '%';
                out[to + 1] = '2';
                out[to + 2] = characters[next] == '+' ? 'B' : 'F';
                to += 3;
                from = next + 1;
            }
            store(out + to, load(characters + from));
            to += 32 - from;
        }
        in += 24;
    }
    *written = to;
    return in;
}

const struct pyscep_kernels pyscep_avx2_kernels = {unescape_avx2, base64_avx2, encode_avx2};

#else

/* ISO C wants something in every file. */
typedef int pyscep_no_avx2;

#endif
