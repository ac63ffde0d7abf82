/*
 * XXH64: a fast 64-bit hash that many languages have. It is no secret and keeps none:
 * whoever chooses the bytes can choose the hash.
 *
 * From: Yann Collet, "xxHash fast digest algorithm", format description 0.1.1.
 */
#ifndef BP_CODEC_XXH64_H
#define BP_CODEC_XXH64_H

#include "codec/words.h"

#include <stddef.h>
#include <stdint.h>

#define BP_XXH64_P1 0x9E3779B185EBCA87u
#define BP_XXH64_P2 0xC2B2AE3D27D4EB4Fu
#define BP_XXH64_P3 0x165667B19E3779F9u
#define BP_XXH64_P4 0x85EBCA77C2B2AE63u
#define BP_XXH64_P5 0x27D4EB2F165667C5u
#define BP_XXH64_STRIPE 32u

static inline uint64_t
bp_xxh64_rotate(uint64_t v, unsigned bits)
{
    return (v << bits) | (v >> (64u - bits));
}

static inline uint64_t
bp_xxh64_round(uint64_t lane, uint64_t word)
{
    return bp_xxh64_rotate(lane + word * BP_XXH64_P2, 31) * BP_XXH64_P1;
}

static inline uint64_t
bp_xxh64_merge(uint64_t hash, uint64_t lane)
{
    return (hash ^ bp_xxh64_round(0, lane)) * BP_XXH64_P1 + BP_XXH64_P4;
}

/* The four lanes over all whole stripes of p, joined. Requires n >= BP_XXH64_STRIPE. */
static inline uint64_t
bp_xxh64_stripes(const uint8_t *p, size_t n)
{
    uint64_t a = BP_XXH64_P1 + BP_XXH64_P2;
    uint64_t b = BP_XXH64_P2;
    uint64_t c = 0;
    uint64_t d = 0u - BP_XXH64_P1;
    for (; n >= BP_XXH64_STRIPE; n -= BP_XXH64_STRIPE, p += BP_XXH64_STRIPE) {
        a = bp_xxh64_round(a, bp_get_little(p, 8));
        b = bp_xxh64_round(b, bp_get_little(p + 8, 8));
        c = bp_xxh64_round(c, bp_get_little(p + 16, 8));
        d = bp_xxh64_round(d, bp_get_little(p + 24, 8));
    }
    uint64_t hash = bp_xxh64_rotate(a, 1) + bp_xxh64_rotate(b, 7) + bp_xxh64_rotate(c, 12) +
                    bp_xxh64_rotate(d, 18);
    hash = bp_xxh64_merge(hash, a);
    hash = bp_xxh64_merge(hash, b);
    hash = bp_xxh64_merge(hash, c);
    return bp_xxh64_merge(hash, d);
}

/*
 * bp_xxh64 - hash n bytes with seed 0.
 *
 * Requires  p points to n readable bytes, of any alignment; it may be NULL if n is 0.
 * Returns   the hash, the same on every machine.
 * Owns      nothing; allocates nothing. Safe without the GIL.
 */
static inline uint64_t
bp_xxh64(const uint8_t *p, size_t n)
{
    uint64_t hash = BP_XXH64_P5;
    size_t left = n;
    if (n >= BP_XXH64_STRIPE) {
        hash = bp_xxh64_stripes(p, n);
        left = n % BP_XXH64_STRIPE;
        p += n - left;
    }
    hash += (uint64_t)n;
    for (; left >= 8; left -= 8, p += 8) {
        hash ^= bp_xxh64_round(0, bp_get_little(p, 8));
        hash = bp_xxh64_rotate(hash, 27) * BP_XXH64_P1 + BP_XXH64_P4;
    }
    if (left >= 4) {
        hash ^= bp_get_little(p, 4) * BP_XXH64_P1;
        hash = bp_xxh64_rotate(hash, 23) * BP_XXH64_P2 + BP_XXH64_P3;
        left -= 4;
        p += 4;
    }
    for (; left > 0; left--, p++) {
        hash ^= *p * BP_XXH64_P5;
        hash = bp_xxh64_rotate(hash, 11) * BP_XXH64_P1;
    }
    hash = (hash ^ (hash >> 33)) * BP_XXH64_P2;
    hash = (hash ^ (hash >> 29)) * BP_XXH64_P3;
    return hash ^ (hash >> 32);
}

#endif
