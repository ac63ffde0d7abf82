/* ICMP errors: forged ones end nothing, two genuine ones with silence between end a connection. */
#include <string.h>

#include "check.h"
#include "engine_pair.h"

#define QUOTE_BYTES 28u /* what a router quotes of the payload, often more */

/* The last datagram a side sent, as a router would quote it. */
typedef struct {
    uint8_t bytes[PAIR_DATAGRAM_BYTES];
    size_t length;
    bool cut; /* nothing arrives any more */
} wire_t;

static pair_t pair;
static wire_t wires[2];
static uint64_t client;
static uint64_t server;

static bool
keep_last(pair_t *p, int side, const uint8_t *bytes, size_t length, void *context)
{
    (void)p;
    (void)context;
    memcpy(wires[side].bytes, bytes, length);
    wires[side].length = length;
    return !wires[side].cut;
}

static bp_engine_t *
engine(int side)
{
    return pair.sides[side].engine;
}

static void
start(void)
{
    bp_config_t config = pair_config();
    memset(wires, 0, sizeof(wires));
    pair_init(&pair, 1);
    pair.tap = keep_last;
    pair_add(&pair, 0, &config);
    pair_add(&pair, 1, &config);
    client = pair_connect(&pair, 0, 1);
    server = pair_accepted(&pair, 1);
    pair_run(&pair, PAIR_SECOND);
}

/* The side asks something of a dead network. */
static void
speak_to_the_void(int side)
{
    wires[side].cut = true;
    CHECK_EQUAL(bp_connection_ping(engine(side), side == 0 ? client : server), BP_OK);
    pair_run(&pair, PAIR_MS);
    CHECK(wires[side].length > 0);
}

static void
icmp(int side, const uint8_t *quote, size_t length)
{
    CHECK_EQUAL(bp_sim_unreachable(engine(side), &pair.sides[1 - side].address, quote, length),
                BP_OK);
    pair_read_events(&pair, side);
}

static void
genuine_icmp(int side)
{
    icmp(side, wires[side].bytes, QUOTE_BYTES);
}

static uint64_t
believed(int side)
{
    bp_engine_stats_t stats;
    bp_engine_stats(engine(side), &stats);
    return stats.icmp_believed;
}

static bool
is_closed(int side)
{
    return pair_connection(&pair, side, side == 0 ? client : server)->closed;
}

static void
ten_thousand_forged_errors_end_nothing(void)
{
    start();
    uint64_t state = 7;
    uint64_t sent = pair.sides[0].datagrams;
    for (int i = 0; i < 10000; i++) {
        uint8_t quote[64];
        for (size_t j = 0; j < sizeof(quote); j++) {
            quote[j] = (uint8_t)pair_random(&state);
        }
        icmp(0, quote, pair_random(&state) % (sizeof(quote) + 1));
        icmp(1, quote, 9);
    }
    /* Nearly right is wrong: one bit off, cut short, at another place. */
    for (unsigned int bit = 0; bit < 64; bit++) {
        uint8_t quote[QUOTE_BYTES];
        memcpy(quote, wires[0].bytes, sizeof(quote));
        quote[1 + bit / 8] ^= (uint8_t)(1u << bit % 8);
        icmp(0, quote, sizeof(quote));
        icmp(0, wires[0].bytes, bit / 8 + 1);
        icmp(0, wires[0].bytes + 1, QUOTE_BYTES);
    }
    CHECK_EQUAL(believed(0), 0);
    CHECK_EQUAL(believed(1), 0);
    pair_run(&pair, 100 * PAIR_MS);
    CHECK(!is_closed(0) && !is_closed(1));
    CHECK_EQUAL(pair.sides[0].datagrams, sent);
    pair_free(&pair);
}

static void
an_error_about_another_address_is_not_believed(void)
{
    start();
    speak_to_the_void(0);
    bp_address_t other = pair.sides[1].address;
    other.port++;
    CHECK_EQUAL(bp_sim_unreachable(engine(0), &other, wires[0].bytes, wires[0].length), BP_OK);
    CHECK_EQUAL(believed(0), 0);
    pair_free(&pair);
}

static void
one_genuine_error_only_asks_the_peer(void)
{
    start();
    genuine_icmp(0);
    CHECK_EQUAL(believed(0), 1);
    uint64_t sent = pair.sides[0].datagrams;
    pair_run(&pair, PAIR_SECOND);
    CHECK(pair.sides[0].datagrams > sent);
    CHECK(!is_closed(0) && !is_closed(1));
    pair_free(&pair);
}

static void
a_second_one_within_a_tenth_of_a_second_ends_a_silent_connection(void)
{
    for (int side = 0; side < 2; side++) {
        start();
        speak_to_the_void(side);
        genuine_icmp(side);
        pair_run(&pair, 90 * PAIR_MS);
        CHECK(!is_closed(side));
        genuine_icmp(side);
        CHECK(is_closed(side));
        pair_connection_t *ended = pair_connection(&pair, side, side == 0 ? client : server);
        CHECK_EQUAL(ended->why, BP_CLOSED_UNREACHABLE);
        genuine_icmp(side);
        pair_run(&pair, PAIR_SECOND);
        pair_free(&pair);
    }
}

static void
both_errors_at_one_instant_are_enough(void)
{
    start();
    speak_to_the_void(0);
    pair_run(&pair, 10 * PAIR_MS);
    genuine_icmp(0);
    genuine_icmp(0);
    CHECK(is_closed(0));
    pair_free(&pair);
}

static bool
has_heard(pair_t *p, void *context)
{
    const uint64_t *before = context;
    bp_engine_stats_t stats;
    bp_engine_stats(p->sides[0].engine, &stats);
    return stats.datagrams_in > *before;
}

static void
the_instant_of_the_last_arrival_is_not_counted_as_after_it(void)
{
    start();
    CHECK_EQUAL(bp_connection_ping(engine(0), client), BP_OK);
    bp_engine_stats_t stats;
    bp_engine_stats(engine(0), &stats);
    CHECK(pair_until(&pair, PAIR_SECOND, has_heard, &stats.datagrams_in));
    wires[0].cut = true;
    genuine_icmp(0);
    CHECK(!is_closed(0));
    genuine_icmp(0);
    CHECK(is_closed(0));
    pair_free(&pair);
}

static void
anything_received_in_between_saves_the_connection(void)
{
    start();
    genuine_icmp(0);
    pair_run(&pair, 50 * PAIR_MS); /* the PING is answered */
    genuine_icmp(0);
    CHECK(!is_closed(0));
    pair_run(&pair, 50 * PAIR_MS);
    genuine_icmp(0);
    CHECK(!is_closed(0));
    CHECK_EQUAL(believed(0), 3);
    pair_free(&pair);
}

static void
an_error_later_than_that_starts_over(void)
{
    start();
    speak_to_the_void(0);
    genuine_icmp(0);
    for (int i = 0; i < 5; i++) {
        pair_run(&pair, 101 * PAIR_MS);
        genuine_icmp(0);
        CHECK(!is_closed(0));
    }
    pair_run(&pair, 99 * PAIR_MS);
    genuine_icmp(0);
    CHECK(is_closed(0));
    pair_free(&pair);
}

static void
a_dial_to_a_dead_port_ends_after_its_second_initial(void)
{
    bp_config_t config = pair_config();
    memset(wires, 0, sizeof(wires));
    pair_init(&pair, 1);
    pair.tap = keep_last;
    pair_add(&pair, 0, &config);
    client = pair_dial(&pair, 0, 1);
    pair_run(&pair, PAIR_MS);
    for (int i = 0; i < 1000; i++) {
        uint8_t quote[32];
        memcpy(quote, wires[0].bytes, sizeof(quote));
        quote[6 + i % 8] ^= (uint8_t)(1 + i % 255);
        icmp(0, quote, sizeof(quote));
    }
    CHECK_EQUAL(believed(0), 0);
    icmp(0, wires[0].bytes, 32);
    CHECK_EQUAL(believed(0), 1);
    CHECK(!is_closed(0));
    uint64_t sent = pair.sides[0].datagrams;
    for (int ms = 0; ms < 3000 && pair.sides[0].datagrams == sent; ms++) {
        pair_run(&pair, PAIR_MS);
    }
    CHECK(pair.sides[0].datagrams > sent);
    icmp(0, wires[0].bytes, 32);
    CHECK(is_closed(0));
    CHECK_EQUAL(pair_connection(&pair, 0, client)->why, BP_CLOSED_UNREACHABLE);
    pair_free(&pair);
}

static void
only_the_named_connection_of_many_to_one_address_is_meant(void)
{
    uint64_t others[10];
    start();
    for (int i = 0; i < 10; i++) {
        others[i] = pair_connect(&pair, 0, 1);
    }
    pair_run(&pair, 100 * PAIR_MS);
    speak_to_the_void(0);
    genuine_icmp(0);
    genuine_icmp(0);
    CHECK(is_closed(0));
    wires[0].cut = false;
    pair_run(&pair, 100 * PAIR_MS);
    for (int i = 0; i < 10; i++) {
        CHECK(!pair_connection(&pair, 0, others[i])->closed);
    }
    pair_free(&pair);
}

int
main(void)
{
    RUN(ten_thousand_forged_errors_end_nothing);
    RUN(an_error_about_another_address_is_not_believed);
    RUN(one_genuine_error_only_asks_the_peer);
    RUN(a_second_one_within_a_tenth_of_a_second_ends_a_silent_connection);
    RUN(both_errors_at_one_instant_are_enough);
    RUN(the_instant_of_the_last_arrival_is_not_counted_as_after_it);
    RUN(anything_received_in_between_saves_the_connection);
    RUN(an_error_later_than_that_starts_over);
    RUN(a_dial_to_a_dead_port_ends_after_its_second_initial);
    RUN(only_the_named_connection_of_many_to_one_address_is_meant);
    return 0;
}
