/* The codec kernels of pyscep: bytes in, bytes and offsets out.
 *
 * No allocation, no recursion, no static mutable state but the choice of kernels made once at
 * import, no Python. Every pointer comes with its length. Results are lengths or counts; a
 * negative result is a fault (see pyscep/codec/_reasons.py) and the offset of the byte that is
 * wrong, packed by PYSCEP_FAIL.
 */
#ifndef PYSCEP_CODEC_H
#define PYSCEP_CODEC_H

#include <stddef.h>
#include <stdint.h>

/* Built-in functions of the compiler; PYSCEP_PORTABLE does without, as other compilers do. */
#if (defined(__GNUC__) || defined(__clang__)) && !defined(PYSCEP_PORTABLE)
#define PYSCEP_BUILTINS 1
#endif

enum pyscep_fault {
    PYSCEP_EMPTY = 1,
    PYSCEP_BAD_ESCAPE = 2,
    PYSCEP_NOT_BASE64 = 3,
    PYSCEP_AFTER_PADDING = 4,
    PYSCEP_BASE64_CUT = 5,
    PYSCEP_TRUNCATED = 6,
    PYSCEP_LENGTH_OCTETS = 7,
    PYSCEP_OVERRUN = 8,
    PYSCEP_LONG_TAG = 9,
    PYSCEP_BAD_TAG = 10,
    PYSCEP_PRIMITIVE_INDEFINITE = 11,
    PYSCEP_TOO_DEEP = 12,
    PYSCEP_TOO_MANY_NODES = 13,
    PYSCEP_BAD_OID = 14,
    PYSCEP_BAD_INTEGER = 15,
    PYSCEP_BAD_PRIMITIVE = 16,
    PYSCEP_TRAILING = 17,
    PYSCEP_STRAY_END = 18
};

#define PYSCEP_OFFSET_BITS 48
#define PYSCEP_FAIL(fault, offset) \
    (-(((int64_t)(fault) << PYSCEP_OFFSET_BITS) + (int64_t)(offset)))

/* Bytes that a kernel may write behind the result; buffers have this much room. */
#define PYSCEP_SLACK 64u
#define PYSCEP_MAX_DEPTH 64u

/* --- query text (query.c, and query_*.c for vector instructions) ---------------------- */

/* The raw value of a GET "message" parameter to DER.
 * buffer: text_size + PYSCEP_SLACK bytes; holds the result, and the unescaped text before. */
int64_t pyscep_decode_message(const uint8_t *text, size_t text_size, uint8_t *buffer,
                              size_t buffer_size);

/* How long the text of so many bytes can be at most: all of it escaped. */
size_t pyscep_encoded_bound(size_t size);

/* DER to percent-encoded base64; out has pyscep_encoded_bound(size) + PYSCEP_SLACK bytes. */
int64_t pyscep_encode_message(const uint8_t *data, size_t size, uint8_t *out, size_t out_size);

/* --- DER and BER (index.c) ------------------------------------------------------------ */

/* List every value of one BER encoding: four integers each, as pyscep/codec/_pure.py says.
 * rows: room for row_count values, or NULL to check only. Returns how many there are. */
int64_t pyscep_index(const uint8_t *data, size_t size, uint32_t *rows, size_t row_count,
                     uint32_t leaf_depth, uint32_t max_depth, size_t max_trailing);

/* Whether an encoding is within the bounds of pyscep_index and has definite lengths only, as
 * nearly all messages have; if not, pyscep_index has to look. It is quicker, because nothing is
 * remembered of a value but where it ends. */
int pyscep_is_plain(const uint8_t *data, size_t size, size_t most, uint32_t max_depth,
                    size_t max_trailing);

/* --- shapes (match.c) ------------------------------------------------------------------ */

/* Instructions of a shape: what a message of the usual form looks like, and which of its parts
 * are wanted. pyscep/codec/shapes.py writes them. */
enum pyscep_op {
    PYSCEP_OP_END = 0,
    PYSCEP_OP_OPEN = 1,     /* tag: enter this value */
    PYSCEP_OP_CLOSE = 2,    /* the container ends here; leave it */
    PYSCEP_OP_LEAVE = 3,    /* leave the container, whatever follows */
    PYSCEP_OP_TAKE = 4,     /* tag slot: note where this value is */
    PYSCEP_OP_TAKE_ANY = 5, /* slot: note where the next value is */
    PYSCEP_OP_PASS = 6,     /* pass over the next value */
    PYSCEP_OP_SAME = 7,     /* size bytes: exactly these come next */
    PYSCEP_OP_IF = 8,       /* tag size: without that tag, skip `size` bytes of the program */
    PYSCEP_OP_TAKE_OPEN = 9, /* tag slot: note where this value is, and enter it */
    PYSCEP_OP_TAKE_FEW = 10 /* tag slot most: note where this value is, if it holds at most that
                               many others, all of definite length */
};

/* Match an encoding that pyscep_index has checked against a shape.
 * slots: three integers for each: start, content, end; zeros where it is absent.
 * Returns 1, or 0 if it has another shape or an indefinite length where the shape looks. */
int pyscep_match(const uint8_t *data, size_t size, const uint8_t *program, size_t program_size,
                 uint32_t *slots, size_t slot_count);

/* A shape to read with. To hand over its parts one by one takes longer than a small message. */
struct pyscep_shape {
    size_t slot_count;
    size_t max_nodes;
    uint32_t max_depth;
    uint32_t program_size;
    uint8_t program[];
};

/* Check an encoding as pyscep_index does, then match it: one call for each layer of a message.
 * Returns as pyscep_match, or a fault of the index. */
int64_t pyscep_read(const uint8_t *data, size_t size, size_t max_trailing,
                    const struct pyscep_shape *shape, uint32_t *slots);

/* List the Attributes between two offsets of a checked encoding, if each has a single value of
 * definite length. Five integers for each: OID start and end; value start, content and end.
 * Returns how many there are, or -1. */
int64_t pyscep_attributes(const uint8_t *data, size_t start, size_t end, uint32_t *places,
                          size_t place_count);

/* --- CRL (crl.c) ------------------------------------------------------------------------ */

/* Look a serial number up in revokedCertificates, whose content is data[start..end].
 * serial: the content octets of the INTEGER. Returns the offset of the entry, or end if it is
 * not there. */
int64_t pyscep_find_serial(const uint8_t *data, size_t start, size_t end, const uint8_t *serial,
                           size_t serial_size);

/* --- choice of kernels (dispatch.c) ----------------------------------------------------- */

enum pyscep_kernel {
    PYSCEP_SCALAR = 0,
    PYSCEP_AVX2 = 1,
    PYSCEP_AVX512 = 2,
    PYSCEP_NEON = 3,
    PYSCEP_KERNELS = 4 /* how many there are, some of them on other machines */
};

/* Whether this machine can run a kernel. */
int pyscep_kernel_available(int kernel);

/* Choose a kernel, once, before any other call; 0, or -1 if it can't run here. */
int pyscep_use_kernel(int kernel);

/* --- between the files ------------------------------------------------------------------- */

/* Undo percent escapes once. Returns the size of the result, or -1 for a malformed escape.
 * The first *decoded bytes of the result are decoded already. */
typedef int64_t (*pyscep_unescape_fn)(const uint8_t *text, size_t size, uint8_t *out,
                                      size_t *decoded);
/* The plain way, in place or not. */
int64_t pyscep_unescape(const uint8_t *text, size_t size, uint8_t *out);

/* Decode whole groups of clean base64 as far as possible, in place or not.
 * Returns how many characters were consumed (a multiple of 4); *written bytes went out. */
typedef size_t (*pyscep_base64_fn)(const uint8_t *text, size_t size, uint8_t *out,
                                   size_t *written);

/* Encode whole groups of three bytes with escapes, as many as fit. Returns bytes consumed. */
typedef size_t (*pyscep_encode_fn)(const uint8_t *data, size_t size, uint8_t *out,
                                   size_t *written);

struct pyscep_kernels {
    pyscep_unescape_fn unescape;
    pyscep_base64_fn base64;
    pyscep_encode_fn encode;
};

extern const struct pyscep_kernels pyscep_scalar_kernels;
#if defined(__x86_64__) && defined(PYSCEP_BUILTINS)
#define PYSCEP_HAVE_AVX2 1
extern const struct pyscep_kernels pyscep_avx2_kernels;
extern const struct pyscep_kernels pyscep_avx512_kernels;
#endif
#if defined(__aarch64__) && defined(__ARM_NEON) && !defined(__ARM_BIG_ENDIAN) && \
    defined(PYSCEP_BUILTINS)
#define PYSCEP_HAVE_NEON 1
extern const struct pyscep_kernels pyscep_neon_kernels;
#endif
const struct pyscep_kernels *pyscep_chosen_kernels(void);

/* Value of a base64 character 0..63, or a class above. */
enum { PYSCEP_SKIP = 64, PYSCEP_PAD = 65, PYSCEP_PERCENT = 66, PYSCEP_INVALID = 67 };
extern const uint8_t pyscep_base64_class[256];
/* The same value shifted to its place among four characters, or one bit of the upper four. */
extern const uint32_t pyscep_base64_bits[4][256];
/* Value of a hexadecimal digit, or 255. */
extern const uint8_t pyscep_hex_value[256];

#endif
