/* How connections end: by silence, by request, by a peer that forgot them. */
#include <string.h>

#include "check.h"
#include "engine_pair.h"

static pair_t pair;
static uint64_t client;
static uint64_t server;

static void
start_with(bp_config_t config)
{
    pair_init(&pair, 1);
    pair_add(&pair, 0, &config);
    pair_add(&pair, 1, &config);
    client = pair_connect(&pair, 0, 1);
    server = pair_accepted(&pair, 1);
    pair_run(&pair, 200 * PAIR_MS);
}

static void
start(void)
{
    start_with(pair_config());
}

static bp_engine_t *
engine(int side)
{
    return pair.sides[side].engine;
}

static pair_connection_t *
ended(int side, uint64_t handle, uint16_t why)
{
    pair_connection_t *connection = pair_connection(&pair, side, handle);
    CHECK(connection->closed);
    CHECK_EQUAL(connection->why, why);
    bp_engine_stats_t stats;
    bp_engine_stats(engine(side), &stats);
    CHECK_EQUAL(stats.connections, 0);
    CHECK_EQUAL(stats.streams, 0);
    return connection;
}

static bool
drop_all(pair_t *p, int side, const uint8_t *bytes, size_t length, void *context)
{
    (void)p;
    (void)side;
    (void)bytes;
    (void)length;
    (void)context;
    return false;
}

static void
five_seconds_of_silence_end_a_connection_on_both_sides(void)
{
    start();
    uint64_t start_us = pair.now_us;
    pair_run(&pair, 4500 * PAIR_MS);
    CHECK(!pair_connection(&pair, 0, client)->closed);
    CHECK(!pair_connection(&pair, 1, server)->closed);
    pair_run(&pair, 600 * PAIR_MS);
    CHECK(ended(0, client, BP_CLOSED_IDLE)->closed_us <= start_us + 5 * PAIR_SECOND);
    CHECK(ended(1, server, BP_CLOSED_IDLE)->closed_us <= start_us + 5 * PAIR_SECOND);
    pair_free(&pair);
}

static void
keep_alive_holds_a_silent_link_until_the_network_goes(void)
{
    bp_config_t config = pair_config();
    config.keep_alive_us = 1667 * PAIR_MS;
    start_with(config);
    uint64_t sent = pair.sides[0].datagrams;
    pair_run(&pair, 60 * PAIR_SECOND);
    CHECK(!pair_connection(&pair, 0, client)->closed);
    CHECK(!pair_connection(&pair, 1, server)->closed);
    CHECK(pair.sides[0].datagrams - sent < 200);
    pair.tap = drop_all;
    pair_run(&pair, 5100 * PAIR_MS);
    ended(0, client, BP_CLOSED_IDLE);
    ended(1, server, BP_CLOSED_IDLE);
    pair_free(&pair);
}

static void
a_dial_nobody_answers_ends_at_the_handshake_timeout(void)
{
    bp_config_t config = pair_config();
    pair_init(&pair, 1);
    pair_add(&pair, 0, &config);
    client = pair_dial(&pair, 0, 1);
    pair_run(&pair, 9900 * PAIR_MS);
    CHECK(!pair_connection(&pair, 0, client)->closed);
    pair_run(&pair, 200 * PAIR_MS);
    ended(0, client, BP_CLOSED_HANDSHAKE);
    pair_free(&pair);
}

static void
a_half_open_handshake_ends_at_the_timeout_without_an_event(void)
{
    bp_config_t config = pair_config();
    pair_init(&pair, 1);
    pair_add(&pair, 0, &config);
    pair_add(&pair, 1, &config);
    client = pair_dial(&pair, 0, 1);
    pair_run(&pair, PAIR_MS);
    pair.tap = drop_all;
    pair_run(&pair, 9 * PAIR_MS);
    bp_engine_stats_t stats;
    bp_engine_stats(engine(1), &stats);
    CHECK_EQUAL(stats.half_open, 1);
    pair_run(&pair, 11 * PAIR_SECOND);
    ended(0, client, BP_CLOSED_HANDSHAKE);
    bp_engine_stats(engine(1), &stats);
    CHECK_EQUAL(stats.half_open, 0);
    CHECK_EQUAL(pair.sides[1].events, 0);
    pair_free(&pair);
}

static void
an_application_close_tells_the_peer_its_code(void)
{
    for (int side = 0; side < 2; side++) {
        start();
        uint64_t own = side == 0 ? client : server;
        uint64_t other = side == 0 ? server : client;
        uint64_t stream = pair_open(&pair, side, own, 0);
        CHECK(bp_stream_write(engine(side), stream, (const uint8_t *)"x", 1, 0) > 0);
        pair_run(&pair, 100 * PAIR_MS);
        char reason[400];
        memset(reason, 'r', sizeof(reason) - 1);
        reason[sizeof(reason) - 1] = '\0';
        CHECK_EQUAL(bp_connection_close(engine(side), own, 0x1234, reason), BP_OK);
        CHECK_EQUAL(bp_connection_close(engine(side), own, 0x99, reason), BP_E_STATE);
        pair_run(&pair, PAIR_SECOND);
        pair_connection_t *here = ended(side, own, BP_CLOSED_LOCAL);
        CHECK_EQUAL(here->application, 0x1234);
        CHECK_EQUAL(here->local, 0);
        pair_connection_t *there = ended(1 - side, other, BP_CLOSED_APPLICATION);
        CHECK_EQUAL(there->application, 0x1234);
        CHECK_EQUAL(bp_stream_queued(engine(side), stream), BP_E_GONE);
        CHECK_EQUAL(bp_connection_close(engine(side), own, 1, NULL), BP_E_GONE);
        pair_free(&pair);
    }
}

static void
a_dial_can_be_called_off(void)
{
    bp_config_t config = pair_config();
    for (int abort = 0; abort < 2; abort++) {
        pair_init(&pair, 1);
        pair_add(&pair, 0, &config);
        pair_add(&pair, 1, &config);
        client = pair_dial(&pair, 0, 1);
        if (abort) {
            CHECK_EQUAL(bp_connection_abort(engine(0), client), BP_OK);
            pair_read_events(&pair, 0);
        } else {
            pair_run(&pair, PAIR_MS);
            CHECK_EQUAL(bp_connection_close(engine(0), client, 7, "never mind"), BP_OK);
            pair_run(&pair, PAIR_SECOND);
        }
        ended(0, client, BP_CLOSED_LOCAL);
        pair_run(&pair, 11 * PAIR_SECOND);
        CHECK_EQUAL(pair_accepted(&pair, 1), 0);
        pair_free(&pair);
    }
}

static void
an_abort_is_over_at_once_and_the_peer_hears_when_it_speaks(void)
{
    for (int side = 0; side < 2; side++) {
        start();
        uint64_t own = side == 0 ? client : server;
        uint64_t other = side == 0 ? server : client;
        CHECK_EQUAL(bp_connection_abort(engine(side), own), BP_OK);
        CHECK_EQUAL(bp_connection_abort(engine(side), own), BP_E_GONE);
        pair_read_events(&pair, side);
        ended(side, own, BP_CLOSED_LOCAL);
        pair_run(&pair, 100 * PAIR_MS);
        CHECK(!pair_connection(&pair, 1 - side, other)->closed);
        CHECK_EQUAL(bp_connection_ping(engine(1 - side), other), BP_OK);
        pair_run(&pair, 100 * PAIR_MS);
        ended(1 - side, other, BP_CLOSED_RESET);
        pair_free(&pair);
    }
}

static void
restart(int side, const uint8_t *seed)
{
    bp_config_t config = pair_config();
    config.reset_seed = seed;
    config.idle_timeout_ms = 5000;
    pair_remove(&pair, side);
    pair_add(&pair, side, &config);
}

static void
a_restarted_peer_with_its_seed_is_noticed_by_the_next_packet(void)
{
    for (int run = 0; run < 4; run++) {
        int side = run % 2;
        int left = 1 - side;
        bp_config_t config = pair_config();
        config.multipath = run >= 2;
        start_with(config);
        uint64_t own = left == 0 ? client : server;
        restart(side, pair_config().reset_seed);
        pair_run(&pair, PAIR_SECOND);
        CHECK(!pair_connection(&pair, left, own)->closed);
        /* The tiniest packet there is. */
        CHECK_EQUAL(bp_connection_ping(engine(left), own), BP_OK);
        pair_run(&pair, 15 * PAIR_MS);
        ended(left, own, BP_CLOSED_RESET);
        CHECK_EQUAL(pair.sides[side].events, 0);
        pair_free(&pair);
    }
}

static void
a_restarted_peer_with_another_seed_is_noticed_by_its_silence(void)
{
    static const uint8_t other[BP_RESET_SEED_BYTES] = {9};
    start();
    restart(1, other);
    CHECK_EQUAL(bp_connection_ping(engine(0), client), BP_OK);
    pair_run(&pair, 4 * PAIR_SECOND);
    CHECK(!pair_connection(&pair, 0, client)->closed);
    pair_run(&pair, 2 * PAIR_SECOND);
    ended(0, client, BP_CLOSED_IDLE);
    pair_free(&pair);
}

/* Resets are rationed by the library; a restarted node has many peers to tell at once. */
static void
every_connection_to_a_restarted_peer_is_noticed_within_a_second(void)
{
    enum { CONNECTIONS = 50 };
    uint64_t handles[CONNECTIONS];
    start();
    for (int i = 0; i < CONNECTIONS; i++) {
        handles[i] = pair_connect(&pair, 0, 1);
    }
    restart(1, pair_config().reset_seed);
    for (int i = 0; i < CONNECTIONS; i++) {
        /* Some have just spoken of their own accord, and know already. */
        int status = bp_connection_ping(engine(0), handles[i]);
        CHECK(status == BP_OK || status == BP_E_GONE);
        pair_run(&pair, 5 * PAIR_MS);
    }
    pair_run(&pair, 750 * PAIR_MS);
    for (int i = 0; i < CONNECTIONS; i++) {
        CHECK(pair_connection(&pair, 0, handles[i])->closed);
        CHECK_EQUAL(pair_connection(&pair, 0, handles[i])->why, BP_CLOSED_RESET);
    }
    pair_free(&pair);
}

static void
slots_of_ended_connections_serve_new_ones(void)
{
    bp_config_t config = pair_config();
    config.connections_max = 4;
    config.half_open_max = 2;
    start_with(config);
    CHECK_EQUAL(bp_connection_close(engine(0), client, 1, NULL), BP_OK);
    for (int i = 0; i < 50; i++) {
        uint64_t handle = pair_connect(&pair, i % 2, 1 - i % 2);
        uint64_t stream = pair_open(&pair, i % 2, handle, 0);
        CHECK(bp_stream_write(engine(i % 2), stream, (const uint8_t *)"hi", 2, 0) > 0);
        pair_run(&pair, 100 * PAIR_MS);
        CHECK_EQUAL(bp_connection_close(engine(i % 2), handle, 1, "done"), BP_OK);
        pair_run(&pair, PAIR_SECOND);
        CHECK(pair_connection(&pair, i % 2, handle)->closed);
        CHECK_EQUAL(bp_stream_queued(engine(i % 2), stream), BP_E_GONE);
    }
    for (int side = 0; side < 2; side++) {
        bp_engine_stats_t stats;
        bp_engine_stats(engine(side), &stats);
        CHECK_EQUAL(stats.connections, 0);
        CHECK_EQUAL(stats.half_open, 0);
        CHECK_EQUAL(stats.streams, 0);
    }
    pair_free(&pair);
}

static void
more_ends_than_a_batch_was_made_for_are_all_told(void)
{
    enum { CONNECTIONS = 40 };
    bp_config_t config = pair_config();
    config.events_max = 1;
    uint64_t handles[CONNECTIONS];
    start_with(config);
    for (int i = 0; i < CONNECTIONS; i++) {
        handles[i] = pair_connect(&pair, 0, 1);
    }
    for (int i = 0; i < CONNECTIONS; i++) {
        CHECK_EQUAL(bp_connection_abort(engine(0), handles[i]), BP_OK);
    }
    pair_read_events(&pair, 0);
    for (int i = 0; i < CONNECTIONS; i++) {
        CHECK(pair_connection(&pair, 0, handles[i])->closed);
    }
    pair_free(&pair);
}

int
main(void)
{
    RUN(five_seconds_of_silence_end_a_connection_on_both_sides);
    RUN(keep_alive_holds_a_silent_link_until_the_network_goes);
    RUN(a_dial_nobody_answers_ends_at_the_handshake_timeout);
    RUN(a_half_open_handshake_ends_at_the_timeout_without_an_event);
    RUN(an_application_close_tells_the_peer_its_code);
    RUN(a_dial_can_be_called_off);
    RUN(an_abort_is_over_at_once_and_the_peer_hears_when_it_speaks);
    RUN(a_restarted_peer_with_its_seed_is_noticed_by_the_next_packet);
    RUN(a_restarted_peer_with_another_seed_is_noticed_by_its_silence);
    RUN(every_connection_to_a_restarted_peer_is_noticed_within_a_second);
    RUN(slots_of_ended_connections_serve_new_ones);
    RUN(more_ends_than_a_batch_was_made_for_are_all_told);
    return 0;
}
