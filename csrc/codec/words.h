/*
 * Words and short runs of bytes: big-endian numbers, ASCII, copy, equality, hash.
 *
 * A short run is read as at most four overlapping words, so that nothing outside it is
 * touched and no library call is made. All are safe without the GIL, own nothing and
 * accept any alignment.
 */
#ifndef BP_CODEC_WORDS_H
#define BP_CODEC_WORDS_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* The greatest run that the bp_short_ functions accept. */
#define BP_SHORT_MAX 32u

static inline uint16_t
bp_get16(const uint8_t *p)
{
    return (uint16_t)((unsigned)p[0] << 8 | p[1]);
}

static inline uint32_t
bp_get32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | (uint32_t)p[3];
}

static inline uint64_t
bp_get64(const uint8_t *p)
{
    return (uint64_t)bp_get32(p) << 32 | bp_get32(p + 4);
}

static inline void
bp_put16(uint8_t *p, uint16_t v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}

static inline void
bp_put32(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)(v >> 24);
    p[1] = (uint8_t)(v >> 16);
    p[2] = (uint8_t)(v >> 8);
    p[3] = (uint8_t)v;
}

static inline void
bp_put64(uint8_t *p, uint64_t v)
{
    bp_put32(p, (uint32_t)(v >> 32));
    bp_put32(p + 4, (uint32_t)v);
}

/* Eight bytes, least significant first. */
static inline void
bp_put64_little(uint8_t *p, uint64_t v)
{
    for (unsigned i = 0; i < 8; i++) {
        p[i] = (uint8_t)(v >> (8 * i));
    }
}

/* The first n <= 8 bytes as a number, least significant first. */
static inline uint64_t
bp_get_little(const uint8_t *p, size_t n)
{
    uint64_t v = 0;
    for (size_t i = n; i > 0; i--) {
        v = v << 8 | p[i - 1];
    }
    return v;
}

static inline double
bp_get_double(const uint8_t *p)
{
    uint64_t bits = bp_get64(p);
    double v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

static inline void
bp_put_double(uint8_t *p, double v)
{
    uint64_t bits;
    memcpy(&bits, &v, sizeof bits);
    bp_put64(p, bits);
}

/* Number of bytes that v needs, 0 for 0. */
static inline unsigned
bp_width(uint64_t v)
{
    return v == 0 ? 0 : (unsigned)(71 - __builtin_clzll(v)) / 8;
}

/* Eight bytes in the machine's own order: for copying, comparing and hashing only. */
static inline uint64_t
bp_word(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline uint32_t
bp_half(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

/* Any n < 8 bytes as one word that holds each of them, at places given by n. */
static inline uint64_t
bp_partial_word(const uint8_t *p, size_t n)
{
    if (n >= 4) {
        return (uint64_t)bp_half(p) << 32 | bp_half(p + n - 4);
    }
    if (n == 0) {
        return 0;
    }
    return (uint64_t)p[0] << 16 | (uint64_t)p[n / 2] << 8 | p[n - 1];
}

static inline int
bp_is_ascii(const uint8_t *p, size_t n)
{
    const uint64_t high = 0x8080808080808080u;
    if (n < 8) {
        return (bp_partial_word(p, n) & high) == 0;
    }
    uint64_t seen = bp_word(p + n - 8);
    for (size_t i = 0; i + 8 < n; i += 8) {
        seen |= bp_word(p + i);
    }
    return (seen & high) == 0;
}

/*
 * bp_short_copy - copy n <= BP_SHORT_MAX bytes that do not overlap.
 */
static inline void
bp_short_copy(uint8_t *to, const uint8_t *from, size_t n)
{
    if (n >= 8) {
        size_t last = n - 8;
        for (size_t i = 0; i < last; i += 8) {
            memcpy(to + i, from + i, 8);
        }
        memcpy(to + last, from + last, 8);
    } else if (n >= 4) {
        memcpy(to, from, 4);
        memcpy(to + n - 4, from + n - 4, 4);
    } else if (n > 0) {
        to[0] = from[0];
        to[n / 2] = from[n / 2];
        to[n - 1] = from[n - 1];
    }
}

/*
 * bp_short_equal - whether two runs of n <= BP_SHORT_MAX bytes are equal.
 */
static inline int
bp_short_equal(const uint8_t *a, const uint8_t *b, size_t n)
{
    if (n < 8) {
        return bp_partial_word(a, n) == bp_partial_word(b, n);
    }
    uint64_t differ = bp_word(a + n - 8) ^ bp_word(b + n - 8);
    for (size_t i = 0; i + 8 < n; i += 8) {
        differ |= bp_word(a + i) ^ bp_word(b + i);
    }
    return differ == 0;
}

/*
 * bp_short_hash - spread a run of n <= BP_SHORT_MAX bytes over the high bits.
 *
 * Looks at the first and the last eight bytes only, and is no secret: for tables of fixed
 * size whose entries are compared in full.
 */
static inline uint64_t
bp_short_hash(const uint8_t *p, size_t n)
{
    uint64_t first = n < 8 ? bp_partial_word(p, n) : bp_word(p);
    uint64_t last = n < 8 ? n : bp_word(p + n - 8) + n;
    uint64_t h = first * 0x9e3779b97f4a7c15u ^ last * 0xc2b2ae3d27d4eb4fu;
    return (h ^ h >> 29) * 0xff51afd7ed558ccdu;
}

#endif
