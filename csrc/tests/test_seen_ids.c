#include "codec/seen_ids.h"

#include "check.h"

#include <string.h>

static const uint64_t KEY[2] = {UINT64_C(0x0706050403020100), UINT64_C(0x0f0e0d0c0b0a0908)};

static const uint8_t *
id_of(uint64_t number)
{
    static uint8_t id[BP_SEEN_ID_BYTES];
    memset(id, 0, sizeof(id));
    memcpy(id, &number, sizeof(number));
    return id;
}

static void
an_id_is_new_once_in_its_time(void)
{
    bp_seen_ids_t t;
    bp_seen_init(&t, 10, 100, KEY);
    CHECK_EQUAL(bp_seen_add(&t, id_of(1), 0), 1);
    CHECK_EQUAL(bp_seen_add(&t, id_of(1), 99), 0);
    CHECK(bp_seen_has(&t, id_of(1), 99));
    CHECK(!bp_seen_has(&t, id_of(1), 100));
    CHECK_EQUAL(bp_seen_add(&t, id_of(1), 100), 1);
    bp_seen_clear(&t);
}

static void
an_empty_table_knows_nothing_and_owns_nothing(void)
{
    bp_seen_ids_t t;
    bp_seen_init(&t, 10, 100, KEY);
    CHECK(!bp_seen_has(&t, id_of(0), 0));
    CHECK_EQUAL(bp_seen_expire(&t, 1000, UINT32_MAX), 0);
    CHECK_EQUAL(bp_seen_bytes(&t), 0);
    bp_seen_clear(&t);
    bp_seen_clear(&t);
    CHECK_EQUAL(bp_seen_add(&t, id_of(0), 0), 1);
    bp_seen_clear(&t);
}

static void
the_oldest_is_given_up_when_the_table_is_full(void)
{
    bp_seen_ids_t t;
    bp_seen_init(&t, 1000, 100, KEY);
    for (uint64_t n = 0; n < 100000; n++) {
        CHECK_EQUAL(bp_seen_add(&t, id_of(n), 0), 1);
    }
    CHECK_EQUAL(t.count, 1000);
    CHECK_EQUAL(t.evicted, 99000);
    for (uint64_t n = 98500; n < 100000; n++) {
        CHECK_EQUAL(bp_seen_has(&t, id_of(n), 0), n >= 99000);
    }
    bp_seen_clear(&t);
}

static void
ids_are_found_while_the_table_grows_turns_and_shrinks(void)
{
    bp_seen_ids_t t;
    bp_seen_init(&t, BP_SEEN_COUNT_TOP, 1000, KEY);
    for (uint64_t round = 0; round < 20; round++) {
        int64_t now_ms = (int64_t)round * 400;
        uint64_t lives = round % 2 ? 300 : 20000;
        for (uint64_t n = 0; n < lives; n++) {
            CHECK_EQUAL(bp_seen_add(&t, id_of(round << 32 | n), now_ms), 1);
        }
        for (uint64_t n = 0; n < lives; n++) {
            CHECK(bp_seen_has(&t, id_of(round << 32 | n), now_ms + 999));
        }
    }
    CHECK(bp_seen_expire(&t, 1 << 20, UINT32_MAX) > 0);
    CHECK_EQUAL(t.count, 0);
    CHECK_EQUAL(bp_seen_bytes(&t), 16 * 32);
    bp_seen_clear(&t);
}

static void
expiry_does_no_more_than_it_is_told(void)
{
    bp_seen_ids_t t;
    bp_seen_init(&t, 1000, 100, KEY);
    for (uint64_t n = 0; n < 100; n++) {
        (void)bp_seen_add(&t, id_of(n), (int64_t)n);
    }
    CHECK_EQUAL(bp_seen_expire(&t, 149, 10), 10);
    CHECK_EQUAL(bp_seen_expire(&t, 149, UINT32_MAX), 40);
    CHECK_EQUAL(bp_seen_expire(&t, 149, UINT32_MAX), 0);
    CHECK_EQUAL(t.count, 50);
    bp_seen_clear(&t);
}

int
main(void)
{
    RUN(an_id_is_new_once_in_its_time);
    RUN(an_empty_table_knows_nothing_and_owns_nothing);
    RUN(the_oldest_is_given_up_when_the_table_is_full);
    RUN(ids_are_found_while_the_table_grows_turns_and_shrinks);
    RUN(expiry_does_no_more_than_it_is_told);
    return 0;
}
