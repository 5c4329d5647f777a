/* GET query text with AVX-512 (VBMI and VBMI2): 64 bytes a step, and no branch for an escape. */
#include "codec.h"

#ifdef PYSCEP_HAVE_AVX2

#include <immintrin.h>

#define AVX512 __attribute__((target("avx512f,avx512bw,avx512vbmi,avx512vbmi2,bmi2,popcnt")))

AVX512 static inline __m512i load(const uint8_t *from)
{
    return _mm512_loadu_si512((const void *)from);
}

AVX512 static inline void store(uint8_t *to, __m512i value)
{
    _mm512_storeu_si512((void *)to, value);
}

/* Not in place: whole blocks are stored even where only their start counts. */
AVX512 static int64_t unescape_avx512(const uint8_t *text, size_t size, uint8_t *out,
                                      size_t *decoded)
{
    const __m512i percent = _mm512_set1_epi8('%');
    const __m512i hex_low = load(pyscep_hex_value), hex_high = load(pyscep_hex_value + 64);
    uint64_t digits = 0, malformed = 0; /* digits: those of an escape that began a block earlier */
    size_t in = 0, to = 0;
    *decoded = 0;
    /* An escape may begin with the last byte of a block. */
    while (size - in >= 66) {
        __m512i block = load(text + in), first = load(text + in + 1), second = load(text + in + 2);
        uint64_t escapes = _mm512_cmpeq_epi8_mask(block, percent);
        __m512i high = _mm512_permutex2var_epi8(hex_low, first, hex_high);
        __m512i low = _mm512_permutex2var_epi8(hex_low, second, hex_high);
        /* The tables hold 255 for what is no digit; they know nothing of bytes above 127. */
        __m512i wrong = _mm512_or_si512(_mm512_or_si512(first, second), _mm512_or_si512(high, low));
        malformed |= escapes & _mm512_movepi8_mask(wrong);
        __m512i upper = _mm512_and_si512(_mm512_slli_epi16(high, 4), _mm512_set1_epi8(-16));
        __m512i values = _mm512_or_si512(upper, low);
        uint64_t kept = ~(digits | escapes << 1 | escapes << 2);
        block = _mm512_mask_mov_epi8(block, escapes, values);
        store(out + to, _mm512_maskz_compress_epi8(kept, block));
        to += (size_t)__builtin_popcountll(kept);
        in += 64;
        digits = escapes >> 62 | escapes >> 63;
    }
    if (malformed)
        return -1;
    in += (size_t)__builtin_popcountll(digits);
    int64_t rest = pyscep_unescape(text + in, size - in, out + to);
    return rest < 0 ? rest : rest + (int64_t)to;
}

/* Values of characters from `first` on, and 128 for those that have none. */
AVX512 static inline __m512i value_table(size_t first)
{
    __m512i classes = load(pyscep_base64_class + first);
    __mmask64 none = _mm512_cmpge_epu8_mask(classes, _mm512_set1_epi8(PYSCEP_SKIP));
    return _mm512_mask_mov_epi8(classes, none, _mm512_set1_epi8(-128));
}

AVX512 static size_t base64_avx512(const uint8_t *text, size_t size, uint8_t *out,
                                   size_t *written)
{
    static const uint8_t order[64] = {
        2,  1,  0,  6,  5,  4,  10, 9,  8,  14, 13, 12, 18, 17, 16, 22, 21, 20, 26, 25, 24, 30,
        29, 28, 34, 33, 32, 38, 37, 36, 42, 41, 40, 46, 45, 44, 50, 49, 48, 54, 53, 52, 58, 57,
        56, 62, 61, 60, 0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0};
    const __m512i lower = value_table(0), upper = value_table(64), pack = load(order);
    size_t in = 0, to = 0;
    while (size - in >= 64) {
        __m512i block = load(text + in);
        __m512i values = _mm512_permutex2var_epi8(lower, block, upper);
        if (_mm512_movepi8_mask(_mm512_or_si512(values, block)) != 0)
            break;
        __m512i pairs = _mm512_maddubs_epi16(values, _mm512_set1_epi32(0x01400140));
        __m512i groups = _mm512_madd_epi16(pairs, _mm512_set1_epi32(0x00011000));
        store(out + to, _mm512_permutexvar_epi8(pack, groups));
        in += 64;
        to += 48;
    }
    size_t rest;
    in += pyscep_scalar_kernels.base64(text + in, size - in, out + to, &rest);
    *written = to + rest;
    return in;
}

/* Twenty characters as three bytes each: the character, and the two that follow "%" if it is
 * escaped. `letters` holds the last one of each escape; the bytes that don't count are squeezed out. */
AVX512 static inline size_t put_twenty(uint8_t *out, __m512i text, __m512i letters, __m512i triples,
                                        uint64_t escapes)
{
    const uint64_t firsts = 0x249249249249249;
    uint64_t escaped = _pdep_u64(escapes & 0xfffff, firsts);
    uint64_t kept = firsts | escaped << 1 | escaped << 2;
    __m512i bytes = _mm512_permutex2var_epi8(text, triples, letters);
    bytes = _mm512_mask_mov_epi8(bytes, firsts << 1, _mm512_set1_epi8('2'));
    store(out, _mm512_maskz_compress_epi8(kept, bytes));
    return (size_t)__builtin_popcountll(kept);
}

AVX512 static size_t encode_avx512(const uint8_t *data, size_t size, uint8_t *out, size_t *written)
{
    static const uint8_t alphabet[64] = {
        'A', 'B', 'C', 'D', 'E', 'F', 'G', 'H', 'I', 'J', 'K', 'L', 'M', 'N', 'O', 'P',
        'Q', 'R', 'S', 'T', 'U', 'V', 'W', 'X', 'Y', 'Z', 'a', 'b', 'c', 'd', 'e', 'f',
        'g', 'h', 'i', 'j', 'k', 'l', 'm', 'n', 'o', 'p', 'q', 'r', 's', 't', 'u', 'v',
        'w', 'x', 'y', 'z', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', '%', '%'};
    /* Where the bytes of four characters come from, for sixteen groups of three, of which fifteen count. */
    static const uint8_t spread[64] = {
        1,  0,  2,  1,  4,  3,  5,  4,  7,  6,  8,  7,  10, 9,  11, 10, 13, 12, 14, 13, 16, 15,
        17, 16, 19, 18, 20, 19, 22, 21, 23, 22, 25, 24, 26, 25, 28, 27, 29, 28, 31, 30, 32, 31,
        34, 33, 35, 34, 37, 36, 38, 37, 40, 39, 41, 40, 43, 42, 44, 43, 46, 45, 47, 46};
    /* A character, nothing, and its letter (from the second table) for each of twenty. */
    static const uint8_t threes[64] = {
        0,  0,  64, 1,  1,  65, 2,  2,  66, 3,  3,  67, 4,  4,  68, 5,  5,  69, 6,  6,  70, 7,
        7,  71, 8,  8,  72, 9,  9,  73, 10, 10, 74, 11, 11, 75, 12, 12, 76, 13, 13, 77, 14, 14,
        78, 15, 15, 79, 16, 16, 80, 17, 17, 81, 18, 18, 82, 19, 19, 83, 0,  0,  0,  0};
    const __m512i characters = load(alphabet), order = load(spread);
    const __m512i shifts = _mm512_set1_epi64(0x3036242a1016040a); /* six bits for each character */
    const __m512i twenty = _mm512_set1_epi8(20), first = load(threes);
    const __m512i second = _mm512_add_epi8(first, twenty);
    const __m512i third = _mm512_add_epi8(second, twenty);
    size_t in = 0, to = 0;
    /* 64 bytes are read, of which 45 count. */
    while (size - in >= 64) {
        __m512i bytes = _mm512_permutexvar_epi8(order, load(data + in));
        __m512i values = _mm512_and_si512(_mm512_multishift_epi64_epi8(shifts, bytes),
                                          _mm512_set1_epi8(63));
        __m512i text = _mm512_permutexvar_epi8(values, characters);
        uint64_t escapes = _mm512_cmpge_epu8_mask(values, _mm512_set1_epi8(62));
        uint64_t slashes = _mm512_cmpeq_epi8_mask(values, _mm512_set1_epi8(63));
        __m512i letters = _mm512_mask_mov_epi8(_mm512_set1_epi8('B'), slashes,
                                               _mm512_set1_epi8('F'));
        to += put_twenty(out + to, text, letters, first, escapes);
        to += put_twenty(out + to, text, letters, second, escapes >> 20);
        to += put_twenty(out + to, text, letters, third, escapes >> 40);
        in += 45;
    }
    *written = to;
    return in;
}

const struct pyscep_kernels pyscep_avx512_kernels = {unescape_avx512, base64_avx512,
                                                     encode_avx512};

#else

/* ISO C wants something in every file. */
typedef int pyscep_no_avx512;

#endif
