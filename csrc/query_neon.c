/* GET query text with NEON, which every AArch64 machine has: 64 characters of base64 a step, and 16
 * bytes where escapes are looked for. */
#include "codec.h"

#ifdef PYSCEP_HAVE_NEON

#include <arm_neon.h>

/* Four bits for each of sixteen bytes: all of them where `matches` has 255. */
static inline uint64_t nibble_mask(uint8x16_t matches)
{
    return vget_lane_u64(vreinterpret_u64_u8(vshrn_n_u16(vreinterpretq_u16_u8(matches), 4)), 0);
}

static inline size_t first_match(uint64_t mask)
{
    return (size_t)__builtin_ctzll(mask) / 4;
}

/* Not in place: whole blocks are stored even where only their start counts. An escape may begin
 * with the last byte of a block, and 16 bytes are read behind it: 34 in all. */
static int64_t unescape_neon(const uint8_t *text, size_t size, uint8_t *out, size_t *decoded)
{
    const uint8x16_t percent = vdupq_n_u8('%');
    size_t in = 0, to = 0;
    *decoded = 0;
    while (size - in >= 34) {
        uint8x16_t block = vld1q_u8(text + in);
        uint64_t mask = nibble_mask(vceqq_u8(block, percent));
        size_t start = in, end = in + 16;
        vst1q_u8(out + to, block);
        while (mask != 0) {
            size_t place = first_match(mask), escape = start + place;
            mask &= ~((uint64_t)15 << (4 * place));
            uint8_t high = pyscep_hex_value[text[escape + 1]];
            uint8_t low = pyscep_hex_value[text[escape + 2]];
            if ((high | low) > 15)
                return -1;
            to += escape - in;
            out[to++] = (uint8_t)(high << 4 | low);
            in = escape + 3;
            vst1q_u8(out + to, vld1q_u8(text + in));
        }
        to += in < end ? end - in : 0;
        in = in < end ? end : in;
    }
    int64_t rest = pyscep_unescape(text + in, size - in, out + to);
    return rest < 0 ? rest : rest + (int64_t)to;
}

/* Values of sixteen characters; above 63 for what has none. */
static inline uint8x16_t values_of(uint8x16_t text, uint8x16x4_t lower, uint8x16x4_t upper)
{
    uint8x16_t values = vqtbl4q_u8(lower, text);
    values = vqtbx4q_u8(values, upper, veorq_u8(text, vdupq_n_u8(64)));
    /* Characters above 127 are in no table; their own upper bit marks them. */
    return vorrq_u8(values, vandq_u8(text, vdupq_n_u8(128)));
}

static size_t base64_neon(const uint8_t *text, size_t size, uint8_t *out, size_t *written)
{
    const uint8x16x4_t lower = vld1q_u8_x4(pyscep_base64_class);
    const uint8x16x4_t upper = vld1q_u8_x4(pyscep_base64_class + 64);
    size_t in = 0, to = 0;
    while (size - in >= 64) {
        uint8x16x4_t block = vld4q_u8(text + in);
        uint8x16_t a = values_of(block.val[0], lower, upper);
        uint8x16_t b = values_of(block.val[1], lower, upper);
        uint8x16_t c = values_of(block.val[2], lower, upper);
        uint8x16_t d = values_of(block.val[3], lower, upper);
        if (vmaxvq_u8(vorrq_u8(vorrq_u8(a, b), vorrq_u8(c, d))) > 63)
            break;
        uint8x16x3_t bytes;
        bytes.val[0] = vorrq_u8(vshlq_n_u8(a, 2), vshrq_n_u8(b, 4));
        bytes.val[1] = vorrq_u8(vshlq_n_u8(b, 4), vshrq_n_u8(c, 2));
        bytes.val[2] = vorrq_u8(vshlq_n_u8(c, 6), d);
        vst3q_u8(out + to, bytes);
        in += 64;
        to += 48;
    }
    size_t rest;
    in += pyscep_scalar_kernels.base64(text + in, size - in, out + to, &rest);
    *written = to + rest;
    return in;
}

static size_t encode_neon(const uint8_t *data, size_t size, uint8_t *out, size_t *written)
{
    static const uint8_t alphabet[64] = {
        'A', 'B', 'C', 'D', 'E', 'F', 'G', 'H', 'I', 'J', 'K', 'L', 'M', 'N', 'O', 'P',
        'Q', 'R', 'S', 'T', 'U', 'V', 'W', 'X', 'Y', 'Z', 'a', 'b', 'c', 'd', 'e', 'f',
        'g', 'h', 'i', 'j', 'k', 'l', 'm', 'n', 'o', 'p', 'q', 'r', 's', 't', 'u', 'v',
        'w', 'x', 'y', 'z', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', '+', '/'};
    const uint8x16x4_t characters = vld1q_u8_x4(alphabet);
    const uint8x16_t six = vdupq_n_u8(63);
    uint8_t text[80] = {0}; /* sixteen more are read than there are */
    size_t in = 0, to = 0;
    while (size - in >= 48) {
        uint8x16x3_t bytes = vld3q_u8(data + in);
        uint8x16x4_t values;
        values.val[0] = vshrq_n_u8(bytes.val[0], 2);
        values.val[1] = vandq_u8(
            vorrq_u8(vshlq_n_u8(bytes.val[0], 4), vshrq_n_u8(bytes.val[1], 4)), six);
        values.val[2] = vandq_u8(
            vorrq_u8(vshlq_n_u8(bytes.val[1], 2), vshrq_n_u8(bytes.val[2], 6)), six);
        values.val[3] = vandq_u8(bytes.val[2], six);
        for (int i = 0; i < 4; i++)
            values.val[i] = vqtbl4q_u8(characters, values.val[i]);
        vst4q_u8(text, values);
        for (size_t from = 0; from < 64; from += 16) {
            uint8x16_t block = vld1q_u8(text + from);
            uint64_t mask = nibble_mask(
                vorrq_u8(vceqq_u8(block, vdupq_n_u8('+')), vceqq_u8(block, vdupq_n_u8('/'))));
            size_t done = from;
            vst1q_u8(out + to, block);
            while (mask != 0) {
                size_t place = first_match(mask), escape = from + place;
                mask &= ~((uint64_t)15 << (4 * place));
                to += escape - done;
                out[to] = '%';
                out[to + 1] = '2';
                out[to + 2] = text[escape] == '+' ? 'B' : 'F';
                to += 3;
                done = escape + 1;
                vst1q_u8(out + to, vld1q_u8(text + done));
            }
            to += from + 16 - done;
        }
        in += 48;
    }
    *written = to;
    return in;
}

const struct pyscep_kernels pyscep_neon_kernels = {unescape_neon, base64_neon, encode_neon};

#else

/* ISO C wants something in every file. */
typedef int pyscep_no_neon;

#endif
