/* GET query text to DER and back: scalar kernels, and what all kernels share. */
#include "codec.h"

#include <string.h>

static const uint8_t alphabet[64] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/* --- decoding ----------------------------------------------------------------------------- */

int64_t pyscep_unescape(const uint8_t *text, size_t size, uint8_t *out)
{
    size_t in = 0, written = 0;
    while (in < size) {
        uint8_t byte = text[in];
        if (byte != '%') {
            out[written++] = byte;
            in++;
            continue;
        }
        if (size - in < 3)
            return -1;
        uint8_t high = pyscep_hex_value[text[in + 1]], low = pyscep_hex_value[text[in + 2]];
        if ((high | low) > 15)
            return -1;
        out[written++] = (uint8_t)(high << 4 | low);
        in += 3;
    }
    return (int64_t)written;
}

static size_t base64_scalar(const uint8_t *text, size_t size, uint8_t *out, size_t *written)
{
    size_t in = 0, to = 0;
    while (size - in >= 4) {
        uint32_t a = pyscep_base64_class[text[in]], b = pyscep_base64_class[text[in + 1]];
        uint32_t c = pyscep_base64_class[text[in + 2]], d = pyscep_base64_class[text[in + 3]];
        if ((a | b | c | d) > 63)
            break;
        uint32_t bits = a << 18 | b << 12 | c << 6 | d;
        out[to] = (uint8_t)(bits >> 16);
        out[to + 1] = (uint8_t)(bits >> 8);
        out[to + 2] = (uint8_t)bits;
        in += 4;
        to += 3;
    }
    *written = to;
    return in;
}

/* Eight bytes, the uppermost first. Written out, compilers make one store of it. */
static inline void put_bits(uint8_t *out, uint64_t bits)
{
    out[0] = (uint8_t)(bits >> 56);
    out[1] = (uint8_t)(bits >> 48);
    out[2] = (uint8_t)(bits >> 40);
    out[3] = (uint8_t)(bits >> 32);
    out[4] = (uint8_t)(bits >> 24);
    out[5] = (uint8_t)(bits >> 16);
    out[6] = (uint8_t)(bits >> 8);
    out[7] = (uint8_t)bits;
}

/* Four characters to 24 bits; the upper four bits say which of them have no value. */
static inline uint32_t four_characters(const uint8_t *text)
{
    return pyscep_base64_bits[0][text[0]] | pyscep_base64_bits[1][text[1]] |
           pyscep_base64_bits[2][text[2]] | pyscep_base64_bits[3][text[3]];
}

/* Of a number that is not zero. */
static inline unsigned leading_zeros(uint64_t number)
{
#ifdef PYSCEP_BUILTINS
    return (unsigned)__builtin_clzll(number);
#else
    unsigned count = 0;
    for (; !(number >> 63); number <<= 1)
        count++;
    return count;
#endif
}

/* Decode what is clean or escaped once, from the start; then undo the escapes of the rest.
 * Bits that don't fill a byte wait at the upper end of `bits`, so an escape may stand anywhere. */
static int64_t unescape_decoding(const uint8_t *text, size_t size, uint8_t *out, size_t *decoded)
{
    uint64_t bits = 0;
    size_t in = 0, to = 0;
    unsigned held = 0; /* how many bits wait */
    unsigned escapes = 0; /* in a row: a text that consists of them is faster in two passes */
    while (size - in >= 10 && escapes < 8) {
        uint32_t first = four_characters(text + in), second = four_characters(text + in + 4);
        uint64_t values = (uint64_t)(first & 0xffffff) << 24 | (second & 0xffffff);
        if ((first | second) <= 0xffffff) {
            bits |= values << (16 - held);
            put_bits(out + to, bits);
            bits <<= 48;
            to += 6;
            in += 8;
            escapes = 0;
            continue;
        }
        /* How many characters come before the first that has no value. */
        uint64_t places = (uint64_t)(first >> 28) << 60 | (uint64_t)(second >> 28) << 56;
        unsigned count = leading_zeros(places);
        values >>= 48 - 6 * count;
        bits |= values << (63 - 6 * count - held) << 1;
        held += 6 * count;
        in += count;
        uint32_t value = pyscep_base64_class[text[in]];
        size_t next = in + 1;
        if (value == PYSCEP_PERCENT) {
            uint32_t high = pyscep_hex_value[text[in + 1]], low = pyscep_hex_value[text[in + 2]];
            value = (high | low) > 15 ? PYSCEP_INVALID : pyscep_base64_class[high << 4 | low];
            next = in + 3;
            escapes = count ? 1 : escapes + 1;
        }
        if (value < PYSCEP_SKIP) {
            bits |= (uint64_t)value << (58 - held);
            held += 6;
        }
        put_bits(out + to, bits);
        to += held >> 3;
        bits <<= held & ~7u;
        held &= 7;
        if (value > PYSCEP_SKIP)
            break;
        in = next;
    }
    /* A group that is not whole becomes text again: bits left over are of its last character. */
    size_t left = (8 - held) % 8 / 2, start = to - (left ? left - 1 : 0);
    uint32_t group = (uint32_t)(bits >> 40);
    for (size_t i = to; i > start; i--)
        group = group >> 8 | (uint32_t)out[i - 1] << 16;
    for (size_t i = 0; i < left; i++)
        out[start + i] = alphabet[group >> (18 - 6 * i) & 63];
    int64_t rest = pyscep_unescape(text + in, size - in, out + start + left);
    *decoded = start;
    return rest < 0 ? rest : rest + (int64_t)(start + left);
}

/* One byte of the text behind escapes, and where it stands: for messages about faults. */
struct unit {
    uint32_t byte;
    size_t offset;
};

/* The next byte with one level of escapes undone: 1, or 0 at the end, or -1 at a malformed
 * escape, whose offset is in unit->offset. */
static int next_once(const uint8_t *text, size_t size, size_t *in, struct unit *unit)
{
    if (*in >= size)
        return 0;
    unit->byte = text[*in];
    unit->offset = (*in)++;
    if (unit->byte != '%')
        return 1;
    if (size - *in < 2 || (pyscep_hex_value[text[*in]] | pyscep_hex_value[text[*in + 1]]) > 15)
        return -1;
    unit->byte = (uint32_t)pyscep_hex_value[text[*in]] << 4 | pyscep_hex_value[text[*in + 1]];
    *in += 2;
    return 1;
}

/* The same with two levels undone. */
static int next_twice(const uint8_t *text, size_t size, size_t *in, struct unit *unit)
{
    int more = next_once(text, size, in, unit);
    if (more <= 0 || unit->byte != '%')
        return more;
    struct unit high, low;
    if (next_once(text, size, in, &high) <= 0 || next_once(text, size, in, &low) <= 0)
        return -1;
    if ((pyscep_hex_value[high.byte] | pyscep_hex_value[low.byte]) > 15)
        return -1;
    unit->byte = (uint32_t)pyscep_hex_value[high.byte] << 4 | pyscep_hex_value[low.byte];
    return 1;
}

/* Find the first fault of a text that was refused; the order is that of _pure._explain. */
static int64_t explain(const uint8_t *text, size_t size)
{
    struct unit unit;
    size_t in = 0;
    int more;
    while ((more = next_once(text, size, &in, &unit)) > 0)
        ;
    if (more == 0)
        for (in = 0; (more = next_twice(text, size, &in, &unit)) > 0;)
            ;
    if (more < 0)
        return PYSCEP_FAIL(PYSCEP_BAD_ESCAPE, unit.offset);
    size_t count = 0, padding = 0;
    for (in = 0; next_twice(text, size, &in, &unit) > 0;) {
        uint8_t class = pyscep_base64_class[unit.byte];
        if (class == PYSCEP_SKIP)
            continue;
        if (class == PYSCEP_PAD) {
            padding++;
            if (count == 0)
                return PYSCEP_FAIL(PYSCEP_NOT_BASE64, unit.offset);
            if (padding > 2)
                return PYSCEP_FAIL(PYSCEP_AFTER_PADDING, unit.offset);
        } else if (class > 63) {
            return PYSCEP_FAIL(PYSCEP_NOT_BASE64, unit.offset);
        } else if (padding) {
            return PYSCEP_FAIL(PYSCEP_AFTER_PADDING, unit.offset);
        } else {
            count++;
        }
    }
    return PYSCEP_FAIL(count ? PYSCEP_BASE64_CUT : PYSCEP_EMPTY, size);
}

/* Map what stands for other characters and drop line breaks, from `in` on; in place. */
static size_t normalize(uint8_t *buffer, size_t in, size_t size)
{
    size_t to = in;
    for (; in < size; in++) {
        uint8_t byte = buffer[in], class = pyscep_base64_class[byte];
        if (class == PYSCEP_SKIP)
            continue;
        buffer[to++] = class < PYSCEP_SKIP ? alphabet[class] : byte;
    }
    return to;
}

/* The last group: two or three characters, with or without padding; or padding alone behind
 * whole groups. Returns bytes, or -1. */
static int decode_tail(const uint8_t *text, size_t size, uint8_t *out, int behind_groups)
{
    size_t count = size;
    while (count > 0 && size - count < 2 && text[count - 1] == '=')
        count--;
    if (count == 0)
        return size == 0 || behind_groups ? 0 : -1;
    if (count == 1 || count > 3)
        return -1;
    uint32_t bits = 0;
    for (size_t i = 0; i < 4; i++) {
        uint32_t value = i < count ? pyscep_base64_class[text[i]] : 0;
        if (value > 63)
            return -1;
        bits = bits << 6 | value;
    }
    out[0] = (uint8_t)(bits >> 16);
    if (count == 3)
        out[1] = (uint8_t)(bits >> 8);
    return (int)count - 1;
}

/* Base64 from `start` on, in place. Returns the size of the result, or -1. */
static int64_t decode_base64(const struct pyscep_kernels *kernels, uint8_t *buffer, size_t start,
                             size_t size)
{
    size_t in = start, to = start, written;
    in += kernels->base64(buffer + in, size - in, buffer + to, &written);
    to += written;
    if (memchr(buffer + in, '%', size - in) != NULL) {
        /* Escaped twice. */
        int64_t rest = pyscep_unescape(buffer + in, size - in, buffer + in);
        if (rest < 0)
            return -1;
        size = in + (size_t)rest;
        in += kernels->base64(buffer + in, size - in, buffer + to, &written);
        to += written;
    }
    if (size - in > 4) {
        size = normalize(buffer, in, size);
        in += kernels->base64(buffer + in, size - in, buffer + to, &written);
        to += written;
    }
    if (size - in <= 4 && in < size) {
        /* Up to four characters: line breaks among them, a short group, padding. */
        size = normalize(buffer, in, size);
        in += base64_scalar(buffer + in, size - in, buffer + to, &written);
        to += written;
    }
    if (size - in > 5)
        return -1;
    int tail = decode_tail(buffer + in, size - in, buffer + to, to > 0);
    if (tail < 0)
        return -1;
    return (int64_t)to + tail;
}

int64_t pyscep_decode_message(const uint8_t *text, size_t text_size, uint8_t *buffer,
                              size_t buffer_size)
{
    const struct pyscep_kernels *kernels = pyscep_chosen_kernels();
    if (buffer_size < text_size + PYSCEP_SLACK)
        return PYSCEP_FAIL(PYSCEP_EMPTY, 0);
    size_t decoded = 0;
    int64_t size = kernels->unescape(text, text_size, buffer, &decoded);
    if (size > 0)
        size = decode_base64(kernels, buffer, decoded, (size_t)size);
    if (size <= 0)
        return explain(text, text_size);
    return size;
}

/* --- encoding ----------------------------------------------------------------------------- */

static size_t put(uint8_t *out, uint32_t value)
{
    if (value < 62) {
        out[0] = alphabet[value];
        return 1;
    }
    out[0] = '%';
    out[1] = '2';
    out[2] = value == 62 ? 'B' : 'F';
    return 3;
}

static size_t encode_scalar(const uint8_t *data, size_t size, uint8_t *out, size_t *written)
{
    size_t in = 0, to = 0;
    while (size - in >= 3) {
        uint32_t bits = (uint32_t)data[in] << 16 | (uint32_t)data[in + 1] << 8 | data[in + 2];
        to += put(out + to, bits >> 18);
        to += put(out + to, bits >> 12 & 63);
        to += put(out + to, bits >> 6 & 63);
        to += put(out + to, bits & 63);
        in += 3;
    }
    *written = to;
    return in;
}

size_t pyscep_encoded_bound(size_t size)
{
    return (size + 2) / 3 * 12;
}

int64_t pyscep_encode_message(const uint8_t *data, size_t size, uint8_t *out, size_t out_size)
{
    if (out_size < pyscep_encoded_bound(size) + PYSCEP_SLACK)
        return PYSCEP_FAIL(PYSCEP_EMPTY, 0);
    size_t written, to;
    size_t in = pyscep_chosen_kernels()->encode(data, size, out, &to);
    in += encode_scalar(data + in, size - in, out + to, &written);
    to += written;
    if (in == size)
        return (int64_t)to;
    size_t left = size - in;
    uint32_t bits = (uint32_t)data[in] << 16 | (left == 2 ? (uint32_t)data[in + 1] << 8 : 0);
    to += put(out + to, bits >> 18);
    to += put(out + to, bits >> 12 & 63);
    if (left == 2)
        to += put(out + to, bits >> 6 & 63);
    for (size_t i = left; i < 3; i++) {
        memcpy(out + to, "%3D", 3);
        to += 3;
    }
    return (int64_t)to;
}

const struct pyscep_kernels pyscep_scalar_kernels = {unescape_decoding, base64_scalar,
                                                     encode_scalar};
