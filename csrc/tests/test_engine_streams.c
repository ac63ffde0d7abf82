/* Streams from the first byte to RELEASED, on two engines and a clean link. */
#include <string.h>

#include "check.h"
#include "engine_pair.h"

static pair_t pair;
static uint64_t client; /* the dialling side's handle, side 0 */
static uint64_t server; /* the accepting side's, side 1 */

static void
start_with(bp_config_t config)
{
    pair_init(&pair, 1);
    pair_add(&pair, 0, &config);
    pair_add(&pair, 1, &config);
    client = pair_connect(&pair, 0, 1);
    server = pair_accepted(&pair, 1);
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

static int64_t
write_text(int side, uint64_t stream, const char *text, int fin)
{
    return bp_stream_write(engine(side), stream, (const uint8_t *)text, strlen(text), fin);
}

static void
a_handshake_shows_the_server_certificate_and_binds_both_ends(void)
{
    start();
    CHECK(!pair_connection(&pair, 0, client)->accepted);
    CHECK(pair_connection(&pair, 1, server)->accepted);

    uint8_t der[4096];
    int64_t size = bp_connection_certificate(engine(0), client, der, sizeof(der));
    CHECK(size > 100 && der[0] == 0x30);
    CHECK_EQUAL(bp_connection_certificate(engine(0), client, der, 16), BP_E_LIMIT);
    CHECK_EQUAL(bp_connection_certificate(engine(1), server, der, sizeof(der)), BP_E_STATE);

    uint8_t ours[32];
    uint8_t theirs[32];
    CHECK_EQUAL(bp_connection_export(engine(0), client, "EXPORTER-test", ours, 32), BP_OK);
    CHECK_EQUAL(bp_connection_export(engine(1), server, "EXPORTER-test", theirs, 32), BP_OK);
    CHECK(memcmp(ours, theirs, 32) == 0);
    CHECK_EQUAL(bp_connection_export(engine(1), server, "EXPORTER-other", theirs, 32), BP_OK);
    CHECK(memcmp(ours, theirs, 32) != 0);

    bp_path_stats_t stats;
    CHECK_EQUAL(bp_connection_stats(engine(0), client, &stats), BP_OK);
    CHECK(stats.srtt_us >= 10 * PAIR_MS && stats.srtt_us < 40 * PAIR_MS);
    CHECK_EQUAL(stats.remote.port, 4433);
    pair_free(&pair);
}

static void
both_sides_open_streams_of_both_kinds(void)
{
    start();
    for (int side = 0; side < 2; side++) {
        for (int uni = 0; uni < 2; uni++) {
            uint64_t stream = pair_open(&pair, side, side == 0 ? client : server, uni);
            pair_source_t *source = pair_send(&pair, side, stream, 30000, true);
            pair_run(&pair, PAIR_SECOND);
            uint64_t id = (uint64_t)side | (uint64_t)uni << 1;
            pair_stream_t *far = pair_stream_by_id(&pair, 1 - side, id);
            CHECK(far != NULL && far->news == 1 && far->fins == 1);
            CHECK_EQUAL(far->received, 30000);
            CHECK(far->hash == source->hash);
            CHECK_EQUAL(far->releases, uni);
            CHECK_EQUAL(pair_stream(&pair, side, stream)->releases, uni);
        }
    }
    pair_free(&pair);
}

static void
one_direction_goes_on_after_the_other_has_ended(void)
{
    start();
    uint64_t stream = pair_open(&pair, 0, client, 0);
    pair_source_t *there = pair_send(&pair, 0, stream, 300000, true);
    pair_run(&pair, PAIR_SECOND);
    pair_stream_t *far = pair_stream_by_id(&pair, 1, 0);
    CHECK_EQUAL(far->received, 300000);
    CHECK(far->hash == there->hash && far->fins == 1 && far->releases == 0);
    CHECK_EQUAL(write_text(0, stream, "more", 0), BP_E_STATE);

    uint64_t far_handle = far->handle;
    pair_source_t *back = pair_send(&pair, 1, far_handle, 200000, true);
    pair_run(&pair, PAIR_SECOND);
    pair_stream_t *near = pair_stream(&pair, 0, stream);
    CHECK_EQUAL(near->received, 200000);
    CHECK(near->hash == back->hash && near->fins == 1 && near->news == 0);
    CHECK_EQUAL(near->releases, 1);
    CHECK_EQUAL(pair_stream(&pair, 1, far_handle)->releases, 1);
    pair_free(&pair);
}

static void
a_stream_may_carry_nothing_but_its_end(void)
{
    start();
    for (int uni = 0; uni < 2; uni++) {
        uint64_t stream = pair_open(&pair, 0, client, uni);
        CHECK(bp_stream_write(engine(0), stream, NULL, 0, 1) > 0);
        pair_run(&pair, PAIR_SECOND);
        pair_stream_t *far = pair_stream_by_id(&pair, 1, uni ? 2 : 0);
        CHECK(far != NULL && far->news == 1 && far->fins == 1 && far->datas == 1);
        CHECK_EQUAL(far->received, 0);
    }
    pair_free(&pair);
}

static void
a_reset_reaches_the_peer_with_its_code_and_drops_what_was_queued(void)
{
    start();
    uint64_t stream = pair_open(&pair, 0, client, 0);
    CHECK(write_text(0, stream, "begun", 0) > 0);
    pair_run(&pair, PAIR_SECOND);
    pair_send(&pair, 0, stream, 500000, false);
    CHECK(bp_stream_queued(engine(0), stream) > 0);
    CHECK_EQUAL(bp_stream_reset(engine(0), stream, 77), BP_OK);
    CHECK_EQUAL(bp_stream_queued(engine(0), stream), 0);
    CHECK_EQUAL(write_text(0, stream, "more", 0), BP_E_STATE);
    CHECK_EQUAL(bp_stream_reset(engine(0), stream, 78), BP_E_STATE);
    pair_run(&pair, PAIR_SECOND);
    pair_stream_t *far = pair_stream_by_id(&pair, 1, 0);
    CHECK_EQUAL(far->resets, 1);
    CHECK_EQUAL(far->reset_code, 77);
    CHECK_EQUAL(far->fins, 0);
    CHECK_EQUAL(far->releases, 0);

    uint64_t far_handle = far->handle;
    CHECK(write_text(1, far_handle, "bye", 1) >= 0);
    pair_run(&pair, PAIR_SECOND);
    CHECK_EQUAL(pair_stream(&pair, 0, stream)->received, 3);
    CHECK_EQUAL(pair_stream(&pair, 0, stream)->releases, 1);
    CHECK_EQUAL(pair_stream(&pair, 1, far_handle)->releases, 1);
    pair_free(&pair);
}

static void
a_stream_that_was_only_reset_is_announced_by_its_reset(void)
{
    start();
    uint64_t stream = pair_open(&pair, 0, client, 1);
    CHECK_EQUAL(bp_stream_reset(engine(0), stream, 5), BP_OK);
    pair_run(&pair, PAIR_SECOND);
    pair_stream_t *far = pair_stream_by_id(&pair, 1, 2);
    CHECK(far != NULL && far->news == 1 && far->resets == 1 && far->releases == 1);
    CHECK_EQUAL(pair_stream(&pair, 0, stream)->releases, 1);
    pair_free(&pair);
}

static void
stop_sending_is_answered_with_a_reset_of_the_same_code(void)
{
    start();
    uint64_t stream = pair_open(&pair, 0, client, 0);
    CHECK(write_text(0, stream, "question", 0) > 0);
    pair_run(&pair, PAIR_SECOND);
    uint64_t far = pair_stream_by_id(&pair, 1, 0)->handle;
    pair.sides[1].reading = false;
    pair_send(&pair, 0, stream, 900000, false);
    pair_run(&pair, 20 * PAIR_MS);

    CHECK_EQUAL(bp_stream_stop_sending(engine(1), far, 4242), BP_OK);
    CHECK_EQUAL(bp_stream_stop_sending(engine(1), far, 4243), BP_E_STATE);
    pair_run(&pair, PAIR_SECOND);
    pair_stream_t *near = pair_stream(&pair, 0, stream);
    CHECK_EQUAL(near->stops, 1);
    CHECK_EQUAL(near->stop_code, 4242);
    CHECK_EQUAL(bp_stream_queued(engine(0), stream), 0);
    CHECK_EQUAL(write_text(0, stream, "more", 0), BP_E_STATE);
    CHECK_EQUAL(pair_stream(&pair, 1, far)->resets, 1);
    CHECK_EQUAL(pair_stream(&pair, 1, far)->reset_code, 4242);

    CHECK(write_text(1, far, "answer", 1) > 0);
    pair_run(&pair, PAIR_SECOND);
    CHECK_EQUAL(pair_stream(&pair, 0, stream)->received, 6);
    CHECK_EQUAL(pair_stream(&pair, 0, stream)->releases, 1);
    CHECK_EQUAL(pair_stream(&pair, 1, far)->releases, 1);
    pair_free(&pair);
}

static bool
drop_the_first(pair_t *p, int side, const uint8_t *bytes, size_t length, void *context)
{
    int *left = context;
    (void)p;
    (void)bytes;
    (void)length;
    return side != 0 || --*left < 0;
}

static void
stop_sending_may_be_the_first_thing_heard_of_a_stream(void)
{
    int left = 1;
    start();
    uint64_t stream = pair_open(&pair, 0, client, 0);
    CHECK(write_text(0, stream, "lost once", 0) > 0);
    pair.tap = drop_the_first;
    pair.context = &left;
    pair_pump(&pair);
    CHECK_EQUAL(bp_stream_stop_sending(engine(0), stream, 9), BP_OK);
    pair_run(&pair, 10 * PAIR_MS);
    pair_stream_t *far = pair_stream_by_id(&pair, 1, 0);
    CHECK(far != NULL);
    CHECK_EQUAL(far->news, 1);
    CHECK_EQUAL(far->stops, 1);
    CHECK_EQUAL(far->stop_code, 9);
    CHECK_EQUAL(far->received, 0);
    CHECK_EQUAL(write_text(1, far->handle, "unwanted", 0), BP_E_STATE);
    uint64_t far_handle = far->handle;
    CHECK(write_text(0, stream, ", still mine", 1) > 0);
    pair_run(&pair, PAIR_SECOND);
    CHECK_EQUAL(pair_stream(&pair, 1, far_handle)->received, 21);
    CHECK_EQUAL(pair_stream(&pair, 1, far_handle)->news, 1);
    CHECK_EQUAL(pair_stream(&pair, 0, stream)->releases, 1);
    CHECK_EQUAL(pair_stream(&pair, 1, far_handle)->releases, 1);
    pair_free(&pair);
}

static void
a_stream_the_peer_has_no_room_for_yet_can_be_refused_and_reset(void)
{
    enum { ROOM = 100, MORE = 4 };
    uint64_t streams[ROOM + MORE];
    start();
    pair_run(&pair, PAIR_SECOND);
    for (int i = 0; i < ROOM + MORE; i++) {
        streams[i] = pair_open(&pair, 0, client, 0);
        CHECK(i >= ROOM || write_text(0, streams[i], "x", 0) > 0);
    }
    CHECK_EQUAL(bp_stream_stop_sending(engine(0), streams[ROOM], 7), BP_OK);
    CHECK(write_text(0, streams[ROOM], "y", 1) > 0);
    CHECK_EQUAL(bp_stream_stop_sending(engine(0), streams[ROOM + 1], 8), BP_OK);
    CHECK_EQUAL(bp_stream_reset(engine(0), streams[ROOM + 1], 8), BP_OK);
    pair_run(&pair, PAIR_SECOND);
    CHECK(!pair_connection(&pair, 0, client)->closed);
    CHECK_EQUAL(pair.sides[1].stream_count, ROOM);

    for (size_t i = 0; i < ROOM; i++) {
        CHECK(write_text(0, streams[i], "", 1) > 0);
        CHECK(write_text(1, pair.sides[1].streams[i].handle, "", 1) > 0);
    }
    pair_run(&pair, PAIR_SECOND);
    pair_stream_t *stopped = pair_stream_by_id(&pair, 1, 4 * ROOM);
    CHECK(stopped != NULL && stopped->stops == 1 && stopped->stop_code == 7);
    CHECK_EQUAL(stopped->received, 1);
    CHECK_EQUAL(pair_stream(&pair, 0, streams[ROOM])->releases, 1);
    pair_stream_t *reset = pair_stream_by_id(&pair, 1, 4 * (ROOM + 1));
    CHECK(reset != NULL && reset->resets == 1 && reset->reset_code == 8);
    CHECK(reset->stops == 1 && reset->stop_code == 8 && reset->releases == 1);
    CHECK_EQUAL(pair_stream(&pair, 0, streams[ROOM + 1])->received, 0);
    CHECK_EQUAL(pair_stream(&pair, 0, streams[ROOM + 1])->releases, 1);
    CHECK(!pair_connection(&pair, 0, client)->closed);
    pair_free(&pair);
}

static void
the_wrong_half_of_a_one_way_stream_is_refused(void)
{
    start();
    uint64_t stream = pair_open(&pair, 0, client, 1);
    CHECK_EQUAL(bp_stream_stop_sending(engine(0), stream, 1), BP_E_STATE);
    CHECK(write_text(0, stream, "x", 0) > 0);
    pair_run(&pair, PAIR_SECOND);
    uint64_t far = pair_stream_by_id(&pair, 1, 2)->handle;
    CHECK_EQUAL(write_text(1, far, "y", 0), BP_E_STATE);
    CHECK_EQUAL(bp_stream_reset(engine(1), far, 1), BP_E_STATE);
    CHECK_EQUAL(bp_stream_consumed(engine(1), far, 1), BP_E_ARGUMENT);
    pair_free(&pair);
}

static void
nothing_is_opened_or_written_before_connected(void)
{
    bp_config_t config = pair_config();
    pair_init(&pair, 3);
    pair_add(&pair, 0, &config);
    pair_add(&pair, 1, &config);
    uint64_t early = pair_dial(&pair, 0, 1);
    uint64_t handle;
    uint64_t id;
    uint8_t secret[16];
    CHECK_EQUAL(bp_stream_open(engine(0), early, 0, &handle, &id), BP_E_STATE);
    CHECK_EQUAL(bp_connection_export(engine(0), early, "label", secret, 16), BP_E_STATE);
    CHECK_EQUAL(bp_connection_ping(engine(0), early), BP_E_STATE);
    pair_free(&pair);
}

static void
stale_and_invented_handles_are_gone(void)
{
    start();
    uint64_t stream = pair_open(&pair, 0, client, 1);
    uint64_t bad[] = {
        0, 1, stream + 1, stream + (UINT64_C(1) << 32), UINT64_MAX, stream ^ 0x40};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        CHECK_EQUAL(write_text(0, bad[i], "x", 0), BP_E_GONE);
        CHECK_EQUAL(bp_stream_reset(engine(0), bad[i], 1), BP_E_GONE);
        CHECK_EQUAL(bp_stream_stop_sending(engine(0), bad[i], 1), BP_E_GONE);
        CHECK_EQUAL(bp_stream_consumed(engine(0), bad[i], 0), BP_E_GONE);
        CHECK_EQUAL(bp_stream_queued(engine(0), bad[i]), BP_E_GONE);
        CHECK_EQUAL(bp_stream_priority(engine(0), bad[i], 1), BP_E_GONE);
    }
    CHECK(write_text(0, stream, "x", 1) > 0);
    pair_run(&pair, PAIR_SECOND);
    CHECK_EQUAL(pair_stream(&pair, 0, stream)->releases, 1);
    CHECK_EQUAL(write_text(0, stream, "x", 0), BP_E_GONE);

    uint64_t others[] = {0, client + 1, client + (UINT64_C(1) << 32), UINT64_MAX};
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        uint64_t id;
        bp_path_stats_t stats;
        CHECK_EQUAL(bp_stream_open(engine(0), others[i], 0, &stream, &id), BP_E_GONE);
        CHECK_EQUAL(bp_connection_close(engine(0), others[i], 0, NULL), BP_E_GONE);
        CHECK_EQUAL(bp_connection_abort(engine(0), others[i]), BP_E_GONE);
        CHECK_EQUAL(bp_connection_stats(engine(0), others[i], &stats), BP_E_GONE);
    }
    pair_free(&pair);
}

/* The only test that reads events itself: it looks at what happens before consume. */
static void
a_slot_is_used_again_only_after_consume_and_under_another_handle(void)
{
    start();
    uint64_t first = pair_open(&pair, 0, client, 1);
    CHECK(write_text(0, first, "x", 1) > 0);
    pair_pump(&pair);
    uint64_t released = 0;
    for (int step = 0; step < 1000 && released == 0; step++) {
        pair_datagram_t out;
        pair.now_us += PAIR_MS;
        for (int side = 0; side < 2; side++) {
            CHECK_EQUAL(bp_sim_set_time(engine(side), pair.now_us), BP_OK);
            while ((out.length = (size_t)bp_sim_take(engine(side), out.bytes, sizeof(out.bytes),
                                                     &out.from, &out.to)) > 0) {
                CHECK_EQUAL(bp_sim_deliver(engine(1 - side), out.bytes, out.length,
                                           &pair.sides[side].address, &out.to),
                            BP_OK);
            }
        }
        while (pair.heap_count > 0) { /* what pair_pump sent before */
            pair_datagram_t *d = pair.heap[--pair.heap_count];
            CHECK_EQUAL(bp_sim_deliver(engine(d->side), d->bytes, d->length, &d->from, &d->to),
                        BP_OK);
            free(d);
        }
        uint32_t count;
        const bp_event_t *events = bp_engine_events(engine(0), &count);
        for (uint32_t i = 0; i < count; i++) {
            released = events[i].type == BP_EVENT_RELEASED ? events[i].stream : released;
        }
    }
    CHECK(released == first);
    uint64_t second = pair_open(&pair, 0, client, 1);
    CHECK((uint32_t)second != (uint32_t)first);
    bp_engine_consume(engine(0));
    uint64_t third = pair_open(&pair, 0, client, 1);
    CHECK((uint32_t)third == (uint32_t)first && third != first);
    CHECK_EQUAL(bp_stream_queued(engine(0), first), BP_E_GONE);
    CHECK_EQUAL(bp_stream_queued(engine(0), third), 0);
    pair_free(&pair);
}

static void
every_stream_of_a_crowd_is_released_exactly_once(void)
{
    enum { CROWD = 300 };
    uint64_t streams[CROWD];
    start();
    for (int i = 0; i < CROWD; i++) {
        streams[i] = pair_open(&pair, 0, client, i % 2);
        CHECK(write_text(0, streams[i], "hello", i % 3 != 0) >= 0);
        if (i % 3 == 0) {
            CHECK_EQUAL(bp_stream_reset(engine(0), streams[i], (uint64_t)i), BP_OK);
        }
    }
    /* The peer lets 100 of each kind live at once, so this also waits for its credit. */
    for (int round = 0; round < 20; round++) {
        pair_run(&pair, 100 * PAIR_MS);
        for (size_t i = 0; i < pair.sides[1].stream_count; i++) {
            pair_stream_t *far = &pair.sides[1].streams[i];
            if ((far->id & 2) == 0 && far->releases == 0) {
                int64_t status = write_text(1, far->handle, "", 1);
                CHECK(status >= 0 || status == BP_E_STATE);
            }
        }
    }
    pair_run(&pair, PAIR_SECOND);
    for (int i = 0; i < CROWD; i++) {
        CHECK_EQUAL(pair_stream(&pair, 0, streams[i])->releases, 1);
    }
    CHECK_EQUAL(pair.sides[1].stream_count, CROWD);
    for (size_t i = 0; i < CROWD; i++) {
        CHECK_EQUAL(pair.sides[1].streams[i].releases, 1);
        CHECK_EQUAL(pair.sides[1].streams[i].news, 1);
    }
    bp_engine_stats_t stats;
    bp_engine_stats(engine(0), &stats);
    CHECK_EQUAL(stats.streams, 0);
    bp_engine_stats(engine(1), &stats);
    CHECK_EQUAL(stats.streams, 0);
    pair_free(&pair);
}

int
main(void)
{
    RUN(a_handshake_shows_the_server_certificate_and_binds_both_ends);
    RUN(both_sides_open_streams_of_both_kinds);
    RUN(one_direction_goes_on_after_the_other_has_ended);
    RUN(a_stream_may_carry_nothing_but_its_end);
    RUN(a_reset_reaches_the_peer_with_its_code_and_drops_what_was_queued);
    RUN(a_stream_that_was_only_reset_is_announced_by_its_reset);
    RUN(stop_sending_is_answered_with_a_reset_of_the_same_code);
    RUN(stop_sending_may_be_the_first_thing_heard_of_a_stream);
    RUN(a_stream_the_peer_has_no_room_for_yet_can_be_refused_and_reset);
    RUN(the_wrong_half_of_a_one_way_stream_is_refused);
    RUN(nothing_is_opened_or_written_before_connected);
    RUN(stale_and_invented_handles_are_gone);
    RUN(a_slot_is_used_again_only_after_consume_and_under_another_handle);
    RUN(every_stream_of_a_crowd_is_released_exactly_once);
    return 0;
}
