#include "codec/words.h"

#include "check.h"

#include <stdlib.h>

/* A heap block of exactly n bytes, so that a sanitizer sees any read beside it. */
static uint8_t *
block(size_t n, unsigned seed)
{
    uint8_t *p = malloc(n > 0 ? n : 1);
    CHECK(p != NULL);
    for (size_t i = 0; i < n; i++) {
        seed = seed * 1103515245u + 12345u;
        p[i] = (uint8_t)(seed >> 16) & 0x7f;
    }
    return p;
}

static void
numbers_are_big_endian_and_round_trip(void)
{
    uint8_t p[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    CHECK_EQUAL(bp_get16(p), 0x0102);
    CHECK_EQUAL(bp_get32(p), 0x01020304);
    CHECK(bp_get64(p) == 0x0102030405060708u);
    CHECK(bp_get_little(p, 8) == 0x0807060504030201u);
    CHECK_EQUAL(bp_get_little(p, 3), 0x030201);
    CHECK_EQUAL(bp_get_little(p, 0), 0);
    bp_put64(p, 0xfffefdfcfbfaf9f8u);
    CHECK(bp_get64(p) == 0xfffefdfcfbfaf9f8u);
    bp_put64_little(p, 0x0807060504030201u);
    CHECK(p[0] == 1 && p[7] == 8);
    bp_put32(p, 0x80000000u);
    CHECK(bp_get32(p) == 0x80000000u);
    bp_put16(p, 0xff01);
    CHECK_EQUAL(bp_get16(p), 0xff01);
    bp_put_double(p, -1.5);
    CHECK(p[0] == 0xbf && p[1] == 0xf8 && bp_get_double(p) == -1.5);
}

static void
a_width_is_the_bytes_a_number_needs(void)
{
    CHECK_EQUAL(bp_width(0), 0);
    for (unsigned bit = 0; bit < 64; bit++) {
        CHECK_EQUAL(bp_width((uint64_t)1 << bit), bit / 8 + 1);
    }
    CHECK_EQUAL(bp_width(UINT64_MAX), 8);
}

static void
one_high_bit_anywhere_is_no_ascii(void)
{
    for (size_t n = 0; n <= 40; n++) {
        uint8_t *p = block(n, (unsigned)n);
        CHECK(bp_is_ascii(p, n));
        for (size_t i = 0; i < n; i++) {
            p[i] |= 0x80;
            CHECK(!bp_is_ascii(p, n));
            p[i] &= 0x7f;
        }
        free(p);
    }
}

static void
short_runs_are_copied_and_compared_in_full(void)
{
    for (size_t n = 0; n <= BP_SHORT_MAX; n++) {
        uint8_t *p = block(n, 7);
        uint8_t *copy = block(n, 9);
        bp_short_copy(copy, p, n);
        CHECK(memcmp(copy, p, n) == 0);
        CHECK(bp_short_equal(copy, p, n));
        CHECK(bp_short_hash(copy, n) == bp_short_hash(p, n));
        for (size_t i = 0; i < n; i++) {
            copy[i] ^= 1;
            CHECK(!bp_short_equal(copy, p, n));
            copy[i] ^= 1;
        }
        free(copy);
        free(p);
    }
}

static void
short_hashes_spread_numbered_names_over_the_high_bits(void)
{
    char name[16];
    unsigned char seen[1024] = {0};
    unsigned used = 0;
    for (int i = 0; i < 1024; i++) {
        int n = snprintf(name, sizeof name, "key-%d", i);
        size_t slot = (size_t)(bp_short_hash((const uint8_t *)name, (size_t)n) >> 54);
        used += seen[slot] == 0;
        seen[slot] = 1;
    }
    CHECK(used > 550); /* a random function would use 647 */
}

int
main(void)
{
    RUN(numbers_are_big_endian_and_round_trip);
    RUN(a_width_is_the_bytes_a_number_needs);
    RUN(one_high_bit_anywhere_is_no_ascii);
    RUN(short_runs_are_copied_and_compared_in_full);
    RUN(short_hashes_spread_numbered_names_over_the_high_bits);
    return 0;
}
