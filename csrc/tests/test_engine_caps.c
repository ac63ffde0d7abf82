/* Limits: what a peer, a crowd or a flood can make an engine hold, send or say. */
#include <stdlib.h>
#include <string.h>

#include "certificate.h"
#include "check.h"
#include "engine_pair.h"
#include "heap.h"
#include "quic/picoquic_symbols.h"

#define FIRST_PORT 10000u

static pair_t pair;
static uint64_t client;

static bp_engine_t *
engine(int side)
{
    return pair.sides[side].engine;
}

static void
start_with(bp_config_t config)
{
    pair_init(&pair, 1);
    pair_add(&pair, 0, &config);
    pair_add(&pair, 1, &config);
    client = pair_connect(&pair, 0, 1);
}

static bp_engine_stats_t
stats_of(int side)
{
    bp_engine_stats_t stats;
    bp_engine_stats(engine(side), &stats);
    return stats;
}

static void
a_configuration_out_of_range_is_refused(void)
{
    bp_engine_t *none = NULL;
    for (int i = 0; i < 13; i++) {
        bp_config_t c = pair_config();
        switch (i) {
        case 0:
            c.connections_max = 0;
            break;
        case 1:
            c.streams_max = 0;
            break;
        case 2:
            c.streams_max = UINT32_MAX; /* the slab count would wrap */
            break;
        case 3:
            c.events_max = UINT32_MAX;
            break;
        case 4:
            c.arena_bytes = 1;
            break;
        case 5:
            c.send_low = c.send_high;
            break;
        case 6:
            c.send_max = UINT32_MAX;
            break;
        case 7:
            c.stream_window = UINT64_MAX;
            break;
        case 8:
            c.stream_window_first = UINT64_MAX;
            break;
        case 9:
            c.connection_window = UINT64_MAX;
            break;
        case 10:
            c.alpn = NULL;
            break;
        case 11:
            c.congestion = "none"; /* the library would do without any */
            break;
        default:
            c.connections_max = UINT32_MAX;
            break;
        }
        int status = bp_engine_create(&c, bp_picoquic_static(), &none);
        CHECK_EQUAL(status, BP_E_ARGUMENT);
        CHECK(none == NULL);
    }
    bp_config_t c = pair_config();
    c.certificate_file = "/nonexistent/certificate.pem";
    CHECK_EQUAL(bp_engine_create(&c, bp_picoquic_static(), &none), BP_E_LIBRARY);
    CHECK(none == NULL);
}

static void
a_certificate_too_large_to_keep_ends_the_handshake(void)
{
    bp_config_t config = pair_config();
    pair_init(&pair, 1);
    pair_add(&pair, 0, &config);
    config.certificate_file = bp_test_large_certificate();
    pair_add(&pair, 1, &config);
    client = pair_dial(&pair, 0, 1);
    pair_run(&pair, 5 * PAIR_SECOND);
    CHECK(!pair_connection(&pair, 0, client)->connected);
    CHECK(pair_connection(&pair, 0, client)->closed);
    CHECK_EQUAL(pair_connection(&pair, 0, client)->local, 0x12a); /* bad_certificate */
    CHECK_EQUAL(pair_accepted(&pair, 1), 0);
    pair_free(&pair);
}

static void
a_dial_beyond_connections_max_is_refused_here(void)
{
    uint64_t handle;
    bp_config_t config = pair_config();
    config.connections_max = 3;
    config.half_open_max = 3;
    pair_init(&pair, 1);
    pair_add(&pair, 0, &config);
    for (int i = 0; i < 3; i++) {
        (void)pair_dial(&pair, 0, 1);
    }
    CHECK_EQUAL(bp_connection_open(engine(0), &pair.sides[1].address, 0, &handle), BP_E_LIMIT);
    CHECK_EQUAL(stats_of(0).connections, 3);
    pair_free(&pair);
}

static void
a_peer_beyond_connections_max_is_turned_away_and_the_others_stay(void)
{
    bp_config_t small = pair_config();
    bp_config_t large = pair_config();
    small.connections_max = 3;
    pair_init(&pair, 1);
    pair_add(&pair, 0, &large);
    pair_add(&pair, 1, &small);
    uint64_t handles[3];
    for (int i = 0; i < 3; i++) {
        handles[i] = pair_connect(&pair, 0, 1);
    }
    uint64_t extra = pair_dial(&pair, 0, 1);
    pair_run(&pair, PAIR_SECOND);
    CHECK(pair_connection(&pair, 0, extra)->closed);
    CHECK_EQUAL(pair_connection(&pair, 0, extra)->why, BP_CLOSED_TRANSPORT);
    CHECK_EQUAL(stats_of(1).connections, 3);

    CHECK_EQUAL(bp_connection_close(engine(0), handles[0], 0, NULL), BP_OK);
    pair_run(&pair, PAIR_SECOND);
    (void)pair_connect(&pair, 0, 1);
    for (int i = 1; i < 3; i++) {
        CHECK(!pair_connection(&pair, 0, handles[i])->closed);
    }
    pair_free(&pair);
}

static void
streams_max_is_exact_for_streams_opened_here(void)
{
    uint64_t handle;
    uint64_t id;
    bp_config_t config = pair_config();
    config.streams_max = 70; /* not a whole number of slabs */
    start_with(config);
    for (int i = 0; i < 70; i++) {
        (void)pair_open(&pair, 0, client, i % 2);
    }
    CHECK_EQUAL(bp_stream_open(engine(0), client, 0, &handle, &id), BP_E_LIMIT);
    CHECK_EQUAL(stats_of(0).streams, 70);
    pair_free(&pair);
}

static void
a_peer_beyond_streams_max_loses_its_connection(void)
{
    bp_config_t large = pair_config();
    bp_config_t small = pair_config();
    small.streams_max = 70;
    pair_init(&pair, 1);
    pair_add(&pair, 0, &large);
    pair_add(&pair, 1, &small);
    client = pair_connect(&pair, 0, 1);
    for (int i = 0; i < 70; i++) {
        CHECK(bp_stream_write(engine(0), pair_open(&pair, 0, client, 0), NULL, 0, 1) >= 0);
    }
    pair_run(&pair, PAIR_SECOND);
    CHECK_EQUAL(stats_of(1).streams, 70);
    CHECK(!pair_connection(&pair, 0, client)->closed);
    CHECK(bp_stream_write(engine(0), pair_open(&pair, 0, client, 0), NULL, 0, 1) >= 0);
    pair_run(&pair, PAIR_SECOND);
    CHECK_EQUAL(stats_of(1).streams_refused, 1);
    CHECK(pair_connection(&pair, 0, client)->closed);
    CHECK_EQUAL(stats_of(1).streams, 0);
    (void)pair_connect(&pair, 0, 1);
    pair_free(&pair);
}

static void
no_more_streams_of_a_kind_live_at_once_than_the_peer_allows(void)
{
    for (int uni = 0; uni < 2; uni++) {
        bp_config_t config = pair_config();
        config.streams_bidi_max = 7;
        config.streams_uni_max = 5;
        start_with(config);
        uint32_t most = uni ? 5 : 7;
        for (int i = 0; i < 20; i++) {
            uint64_t stream = pair_open(&pair, 0, client, uni);
            CHECK(bp_stream_write(engine(0), stream, (const uint8_t *)"x", 1, 0) > 0);
        }
        pair_run(&pair, PAIR_SECOND);
        CHECK_EQUAL(stats_of(1).streams, most);
        CHECK_EQUAL(pair.sides[1].stream_count, most);
        CHECK(!pair_connection(&pair, 0, client)->closed);
        pair_free(&pair);
    }
}

/* Hand over datagrams by hand, so that events pile up unread. */
static uint32_t
pile_up(int datagrams)
{
    uint32_t count = 0;
    for (int i = 0; i < datagrams; i++) {
        pair_datagram_t out;
        pair.now_us += 5 * PAIR_MS;
        CHECK_EQUAL(bp_sim_set_time(engine(0), pair.now_us), BP_OK);
        CHECK_EQUAL(bp_sim_set_time(engine(1), pair.now_us), BP_OK);
        for (int side = 0; side < 2; side++) {
            int64_t n =
                bp_sim_take(engine(side), out.bytes, sizeof(out.bytes), &out.from, &out.to);
            if (n > 0) {
                CHECK_EQUAL(bp_sim_deliver(engine(1 - side), out.bytes, (size_t)n,
                                           &pair.sides[side].address,
                                           &pair.sides[1 - side].address),
                            BP_OK);
            }
        }
        pair_read_events(&pair, 0);
        (void)bp_engine_events(engine(1), &count);
    }
    return count;
}

static void
events_nobody_reads_stop_datagrams_not_connections(void)
{
    enum { STREAMS = 50 };
    uint64_t streams[STREAMS];
    bp_config_t config = pair_config();
    config.events_max = 100;
    config.idle_timeout_ms = 60000;
    start_with(config);
    pair_run(&pair, PAIR_SECOND);
    for (int i = 0; i < STREAMS; i++) {
        streams[i] = pair_open(&pair, 0, client, 0);
    }
    uint32_t most = 0;
    uint64_t sent = 0;
    for (int round = 0; round < 600; round++) {
        /* Two streams in turn: no event can join the one before. */
        for (int i = 0; i < STREAMS; i++) {
            int64_t room = bp_stream_write(engine(0), streams[i], (const uint8_t *)"x", 1, 0);
            CHECK(room >= 0);
            sent++;
        }
        uint32_t count = pile_up(2);
        most = count > most ? count : most;
    }
    CHECK(most > 100);
    CHECK(most < 12000);
    CHECK(stats_of(1).datagrams_dropped > 0);

    pair_run(&pair, 5 * PAIR_SECOND);
    CHECK(!pair_connection(&pair, 0, client)->closed);
    uint64_t received = 0;
    for (size_t i = 0; i < pair.sides[1].stream_count; i++) {
        received += pair.sides[1].streams[i].received;
    }
    CHECK_EQUAL(received, sent);
    pair_free(&pair);
}

static bool drop_next;

static bool
drop_one(pair_t *p, int side, const uint8_t *bytes, size_t length, void *context)
{
    (void)p;
    (void)bytes;
    (void)context;
    if (side == 0 && drop_next && length > 1000) {
        drop_next = false;
        return false;
    }
    return true;
}

static void
a_gap_larger_than_the_arena_arrives_whole(void)
{
    bp_config_t config = pair_config();
    config.stream_window = 12 << 20;
    config.stream_window_first = 12 << 20;
    config.arena_bytes = 2 << 20;
    config.send_max = 16 << 20;
    start_with(config);
    uint64_t before = heap_bytes();
    /* First open the congestion window, then lose the head of a flight of several MB. */
    uint64_t warm = pair_open(&pair, 0, client, 1);
    pair_send(&pair, 0, warm, 8 << 20, true);
    pair_run(&pair, 3 * PAIR_SECOND);
    pair.link.latency_us = 100 * PAIR_MS;
    pair.tap = drop_one;
    drop_next = true;
    uint64_t stream = pair_open(&pair, 0, client, 1);
    pair_source_t *source = pair_send(&pair, 0, stream, 8 << 20, true);
    pair_run(&pair, 5 * PAIR_SECOND);
    pair_stream_t *far = pair_stream_by_id(&pair, 1, 6);
    CHECK_EQUAL(far->received, 8 << 20);
    CHECK(far->hash == source->hash);
    CHECK(!drop_next);
    CHECK(stats_of(1).arena_overflows > 0);
    uint64_t after = heap_bytes();
    CHECK(after < before + (32 << 20));
    pair_free(&pair);
}

/* A fresh Initial of a client that says nothing else, as side 2 would send it. */
static size_t
initial(uint8_t bytes[PAIR_DATAGRAM_BYTES])
{
    uint64_t handle;
    bp_address_t from;
    bp_address_t to;
    CHECK_EQUAL(bp_connection_open(engine(2), &pair.sides[1].address, 0, &handle), BP_OK);
    int64_t n = bp_sim_take(engine(2), bytes, PAIR_DATAGRAM_BYTES, &from, &to);
    CHECK(n >= 1200);
    CHECK_EQUAL(bp_connection_abort(engine(2), handle), BP_OK);
    bp_engine_consume(engine(2));
    return (size_t)n;
}

static void
deliver_from(uint32_t sender, const uint8_t *bytes, size_t length)
{
    bp_address_t from = pair.sides[2].address;
    from.port = (uint16_t)(FIRST_PORT + sender % 50000);
    from.ip[2] = (uint8_t)(sender / 50000);
    CHECK_EQUAL(bp_sim_deliver(engine(1), bytes, length, &from, &pair.sides[1].address), BP_OK);
}

/* Let the server send all it will over the given time; bytes go to the sender's account. */
static void
collect(uint64_t for_us, uint64_t *out, uint32_t senders)
{
    uint64_t end_us = pair.now_us + for_us;
    for (;;) {
        pair_datagram_t d;
        int64_t n;
        while ((n = bp_sim_take(engine(1), d.bytes, sizeof(d.bytes), &d.from, &d.to)) > 0) {
            uint32_t sender = d.to.port - FIRST_PORT;
            CHECK(sender < senders);
            out[sender] += (uint64_t)n;
        }
        uint64_t delay_us = bp_sim_delay(engine(1));
        if (pair.now_us + delay_us > end_us) {
            break;
        }
        pair.now_us += delay_us == 0 ? 1 : delay_us;
        CHECK_EQUAL(bp_sim_set_time(engine(1), pair.now_us), BP_OK);
    }
    pair.now_us = end_us;
    for (int side = 0; side < 3; side++) {
        if (engine(side) != NULL) {
            CHECK_EQUAL(bp_sim_set_time(engine(side), pair.now_us), BP_OK);
        }
    }
}

/* Bytes out for bytes in, of a thousand dials that say hello and no more. */
static void
measure_amplification(const char *name, bp_config_t config, uint32_t half_open)
{
    enum { SENDERS = 1000 };
    static uint64_t in[SENDERS];
    static uint64_t out[SENDERS];
    memset(in, 0, sizeof(in));
    memset(out, 0, sizeof(out));
    pair_init(&pair, 1);
    pair_add(&pair, 1, &config);
    pair_add(&pair, 2, &config);
    for (uint32_t i = 0; i < SENDERS; i++) {
        uint8_t bytes[PAIR_DATAGRAM_BYTES];
        size_t n = initial(bytes);
        deliver_from(i, bytes, n);
        in[i] += n;
        collect(PAIR_MS, out, SENDERS);
    }
    CHECK_EQUAL(stats_of(1).half_open, half_open);
    collect(40 * PAIR_SECOND, out, SENDERS);
    uint64_t all_in = 0;
    uint64_t all_out = 0;
    uint64_t worst = 0;
    for (uint32_t i = 0; i < SENDERS; i++) {
        CHECK(out[i] > 0 && out[i] <= 3 * in[i]);
        uint64_t ratio = 1000 * out[i] / in[i];
        worst = ratio > worst ? ratio : worst;
        all_in += in[i];
        all_out += out[i];
    }
    fprintf(stderr, "  %s: out/in %.2f, worst %.2f\n", name, (double)all_out / (double)all_in,
            (double)worst / 1000);
    CHECK_EQUAL(stats_of(1).half_open, 0);
    pair_read_events(&pair, 1);
    CHECK_EQUAL(pair.sides[1].events, 0);
    pair_free(&pair);
}

static void
a_thousand_initials_that_never_continue_draw_at_most_three_bytes_for_one(void)
{
    bp_config_t config = pair_config();
    config.connections_max = 2000;
    config.half_open_max = 32;
    measure_amplification("with Retry", config, 32);
    config.half_open_max = 1500;
    measure_amplification("without", config, 1000);
    config.certificate_file = bp_test_large_certificate();
    measure_amplification("without, 20 KB certificate", config, 1000);
}

static void
an_honest_client_connects_through_a_crowd_of_half_open_ones(void)
{
    bp_config_t config = pair_config();
    static uint64_t out[60000];
    pair_init(&pair, 1);
    pair_add(&pair, 0, &config);
    pair_add(&pair, 1, &config);
    pair_add(&pair, 2, &config);
    uint64_t before = 0;
    for (uint32_t i = 0; i < 2000; i++) {
        uint8_t bytes[PAIR_DATAGRAM_BYTES];
        size_t n = initial(bytes);
        if (i == 200) {
            before = heap_bytes();
        }
        deliver_from(i, bytes, n);
        collect(100, out, 50000);
    }
    CHECK_EQUAL(stats_of(1).half_open, 32);
    CHECK(heap_bytes() < before + (1 << 20));
    uint64_t start_us = pair.now_us;
    client = pair_connect(&pair, 0, 1);
    CHECK(pair.now_us - start_us < 100 * PAIR_MS);
    pair_free(&pair);
}

/* One of a dozen ways to spoil a datagram. */
static size_t
spoil(uint64_t *state, uint8_t bytes[PAIR_DATAGRAM_BYTES], size_t length)
{
    uint64_t r = pair_random(state);
    switch (r % 4) {
    case 0:
        bytes[(r >> 8) % length] ^= (uint8_t)(1u << (r >> 40) % 8);
        return length;
    case 1:
        return (r >> 8) % length;
    case 2:
        bytes[(r >> 8) % 40] = (uint8_t)(r >> 40);
        return length;
    default:
        for (size_t i = (r >> 8) % length; i < length; i++) {
            bytes[i] = (uint8_t)pair_random(state);
        }
        return length;
    }
}

static void
bogus_initials_and_noise_leave_nothing_behind(void)
{
    static uint64_t out[60000];
    uint8_t genuine[PAIR_DATAGRAM_BYTES];
    uint8_t bytes[PAIR_DATAGRAM_BYTES];
    uint64_t state = 42;
    bp_config_t config = pair_config();
    pair_init(&pair, 1);
    pair_add(&pair, 0, &config);
    pair_add(&pair, 1, &config);
    pair_add(&pair, 2, &config);
    size_t length = 0;
    uint64_t before = 0;
    for (uint32_t i = 0; i < 110000; i++) {
        size_t n;
        if (i < 10000) {
            length = i % 50 == 0 ? initial(genuine) : length;
            memcpy(bytes, genuine, length);
            n = spoil(&state, bytes, length);
        } else {
            n = pair_random(&state) % 1500;
            for (size_t j = 0; j < n; j += 8) {
                uint64_t r = pair_random(&state);
                memcpy(bytes + j, &r, 8);
            }
        }
        if (i == 1000) {
            before = heap_bytes();
        }
        deliver_from(i % 50000, bytes, n);
        if (i % 16 == 0) {
            collect(100, out, 50000);
        }
    }
    pair_read_events(&pair, 1);
    CHECK_EQUAL(pair.sides[1].events, 0);
    CHECK(stats_of(1).half_open <= 33);
    collect(11 * PAIR_SECOND, out, 50000);
    CHECK_EQUAL(stats_of(1).half_open, 0);
    CHECK(heap_bytes() < before + (4 << 20));
    uint64_t start_us = pair.now_us;
    client = pair_connect(&pair, 0, 1);
    CHECK(pair.now_us - start_us < PAIR_SECOND);
    pair_free(&pair);
}

int
main(void)
{
    RUN(a_configuration_out_of_range_is_refused);
    RUN(a_certificate_too_large_to_keep_ends_the_handshake);
    RUN(a_dial_beyond_connections_max_is_refused_here);
    RUN(a_peer_beyond_connections_max_is_turned_away_and_the_others_stay);
    RUN(streams_max_is_exact_for_streams_opened_here);
    RUN(a_peer_beyond_streams_max_loses_its_connection);
    RUN(no_more_streams_of_a_kind_live_at_once_than_the_peer_allows);
    RUN(events_nobody_reads_stop_datagrams_not_connections);
    RUN(a_gap_larger_than_the_arena_arrives_whole);
    RUN(a_thousand_initials_that_never_continue_draw_at_most_three_bytes_for_one);
    RUN(an_honest_client_connects_through_a_crowd_of_half_open_ones);
    RUN(bogus_initials_and_noise_leave_nothing_behind);
    return 0;
}
