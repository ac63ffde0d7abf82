/*
 * 0-RTT and resumption: a hostile dialler, played by picoquic itself, keeps the ticket of
 * an earlier session and comes back with it. It gets neither a connection nor a byte.
 */
#include <picoquic.h>
#include <picoquic_internal.h>
#include <string.h>

#include "check.h"
#include "engine_pair.h"
#include "quic/internal.h"

#define STEP_US PAIR_MS

static pair_t pair;
static uint64_t raw_now_us;
static picoquic_quic_t *raw_quic;
static bool raw_ready;
static bool raw_closed;

static int
on_raw(picoquic_cnx_t *cnx, uint64_t stream_id, uint8_t *bytes, size_t length,
       picoquic_call_back_event_t event, void *context, void *stream_context)
{
    (void)cnx;
    (void)stream_id;
    (void)bytes;
    (void)length;
    (void)context;
    (void)stream_context;
    raw_ready |= event == picoquic_callback_ready;
    raw_closed |=
        event == picoquic_callback_close || event == picoquic_callback_application_close;
    return 0;
}

static void
start(void)
{
    bp_config_t config = pair_config();
    pair_init(&pair, 1);
    pair_add(&pair, 1, &config);
    raw_now_us = pair.now_us;
    /* With a file for tickets, though it cannot be read, the library keeps them in memory. */
    raw_quic = picoquic_create(8, NULL, NULL, NULL, "barrel-p2p/1", on_raw, NULL, NULL, NULL,
                               NULL, raw_now_us, &raw_now_us, "/nonexistent/tickets", NULL, 0);
    CHECK(raw_quic != NULL);
    picoquic_set_null_verifier(raw_quic);
}

/* Carry datagrams between the dialler and the engine for a while. */
static void
run(uint64_t for_us)
{
    struct sockaddr_storage raw_address;
    struct sockaddr_storage engine_address;
    CHECK(bp_address_to_native(&pair.sides[0].address, &raw_address) > 0);
    CHECK(bp_address_to_native(&pair.sides[1].address, &engine_address) > 0);
    for (uint64_t end_us = raw_now_us + for_us; raw_now_us < end_us; raw_now_us += STEP_US) {
        uint8_t bytes[PAIR_DATAGRAM_BYTES];
        struct sockaddr_storage to;
        struct sockaddr_storage from;
        bp_address_t engine_to;
        bp_address_t engine_from;
        size_t length = 0;
        int interface = 0;
        picoquic_cnx_t *first = NULL;
        CHECK_EQUAL(bp_sim_set_time(pair.sides[1].engine, raw_now_us), BP_OK);
        while (picoquic_prepare_next_packet(raw_quic, raw_now_us, bytes, sizeof(bytes), &length,
                                            &to, &from, &interface, NULL, NULL) == 0 &&
               length > 0) {
            CHECK_EQUAL(bp_sim_deliver(pair.sides[1].engine, bytes, length,
                                       &pair.sides[0].address, &pair.sides[1].address),
                        BP_OK);
            pair_read_events(&pair, 1);
        }
        int64_t n;
        raw_now_us += STEP_US;
        CHECK_EQUAL(bp_sim_set_time(pair.sides[1].engine, raw_now_us), BP_OK);
        while ((n = bp_sim_take(pair.sides[1].engine, bytes, sizeof(bytes), &engine_from,
                                &engine_to)) > 0) {
            (void)picoquic_incoming_packet_ex(
                raw_quic, bytes, (size_t)n, (struct sockaddr *)&engine_address,
                (struct sockaddr *)&raw_address, 0, 0, &first, raw_now_us);
        }
        pair_read_events(&pair, 1);
    }
}

static picoquic_cnx_t *
dial(void)
{
    struct sockaddr_storage to;
    raw_ready = false;
    raw_closed = false;
    CHECK(bp_address_to_native(&pair.sides[1].address, &to) > 0);
    /* Tickets are kept by the name of the server, so this dial gives one. */
    picoquic_cnx_t *cnx =
        picoquic_create_cnx(raw_quic, picoquic_null_connection_id, picoquic_null_connection_id,
                            (struct sockaddr *)&to, raw_now_us, 0, "victim", "barrel-p2p/1", 1);
    CHECK(cnx != NULL);
    return cnx;
}

static void
a_ticket_of_an_earlier_session_opens_nothing(void)
{
    for (int early_data = 0; early_data < 2; early_data++) {
        start();
        picoquic_cnx_t *cnx = dial();
        CHECK_EQUAL(picoquic_start_client_cnx(cnx), 0);
        run(PAIR_SECOND);
        CHECK(raw_ready && !raw_closed);
        uint64_t honest = pair_accepted(&pair, 1);
        CHECK(honest != 0);
        uint64_t events = pair.sides[1].events;

        cnx = dial();
        if (early_data) {
            CHECK_EQUAL(picoquic_add_to_stream(cnx, 0, (const uint8_t *)"replay me", 9, 1), 0);
        }
        CHECK_EQUAL(picoquic_start_client_cnx(cnx), 0);
        CHECK_EQUAL(picoquic_is_0rtt_available(cnx), 1);
        run(PAIR_SECOND);
        CHECK(raw_closed);
        CHECK_EQUAL(picoquic_tls_is_psk_handshake(cnx), 1);
        CHECK_EQUAL(pair.sides[1].stream_count, 0);
        CHECK_EQUAL(pair.sides[1].events, events);
        CHECK(pair_accepted(&pair, 1) == honest);
        CHECK(!pair_connection(&pair, 1, honest)->closed);
        picoquic_free(raw_quic);
        pair_free(&pair);
    }
}

int
main(void)
{
    RUN(a_ticket_of_an_earlier_session_opens_nothing);
    return 0;
}
