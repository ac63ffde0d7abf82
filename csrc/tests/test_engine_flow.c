/* Back-pressure: what a slow reader or a full send buffer stops, and what sets it going again. */
#include <string.h>

#include "check.h"
#include "engine_pair.h"

#define FIRST (UINT64_C(64) << 10)

static pair_t pair;
static uint64_t client;

static void
start_with(bp_config_t config)
{
    pair_init(&pair, 1);
    pair_add(&pair, 0, &config);
    pair_add(&pair, 1, &config);
    client = pair_connect(&pair, 0, 1);
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

static uint64_t
received(uint64_t id)
{
    pair_stream_t *stream = pair_stream_by_id(&pair, 1, id);
    return stream == NULL ? 0 : stream->received;
}

static void
read_some(uint64_t id, uint64_t length)
{
    pair_stream_t *stream = pair_stream_by_id(&pair, 1, id);
    CHECK(stream != NULL && stream->unread >= length);
    CHECK_EQUAL(bp_stream_consumed(engine(1), stream->handle, length), BP_OK);
    stream->unread -= length;
}

static void
a_reader_that_never_reads_stops_its_sender_at_the_window(void)
{
    start();
    pair.sides[1].reading = false;
    uint64_t slow = pair_open(&pair, 0, client, 0);
    uint64_t other = pair_open(&pair, 0, client, 0);
    pair_send(&pair, 0, slow, 3 << 20, true);
    pair_run(&pair, PAIR_SECOND);
    CHECK_EQUAL(received(0), FIRST);
    uint64_t sent = pair.sides[0].datagrams;
    pair_run(&pair, PAIR_SECOND);
    CHECK(pair.sides[0].datagrams - sent <= 8);

    pair_send(&pair, 0, other, 50000, true);
    pair_run(&pair, PAIR_SECOND);
    CHECK_EQUAL(received(4), 50000);
    CHECK_EQUAL(received(0), FIRST);

    /* One read moves the limit to what was read plus a whole window. */
    read_some(0, FIRST);
    pair_run(&pair, PAIR_SECOND);
    CHECK_EQUAL(received(0), FIRST + (1 << 20));
    read_some(0, (1 << 20) / 4);
    pair_run(&pair, PAIR_SECOND);
    CHECK_EQUAL(received(0), FIRST + (1 << 20));
    read_some(0, (1 << 20) / 4);
    pair_run(&pair, PAIR_SECOND);
    CHECK_EQUAL(received(0), FIRST + (3 << 19));
    pair_free(&pair);
}

static void
a_stream_that_is_read_arrives_whole_through_a_small_window(void)
{
    bp_config_t config = pair_config();
    config.stream_window = 20000;
    config.stream_window_first = 3000;
    config.connection_window = 30000;
    start_with(config);
    uint64_t stream = pair_open(&pair, 0, client, 1);
    pair_source_t *source = pair_send(&pair, 0, stream, 1 << 20, true);
    pair_run(&pair, 10 * PAIR_SECOND);
    CHECK_EQUAL(received(2), 1 << 20);
    CHECK(pair_stream_by_id(&pair, 1, 2)->hash == source->hash);
    CHECK_EQUAL(pair_stream_by_id(&pair, 1, 2)->fins, 1);
    pair_free(&pair);
}

/*
 * Six streams nobody reads fill the connection window; a seventh is read and gets no more
 * than its first window again. They stop one byte short of their windows: at its very limit
 * a stream cannot send its FIN.
 */
static void
start_starved(uint64_t streams[7])
{
    bp_config_t config = pair_config();
    config.stream_window = 4 * FIRST;
    config.connection_window = 5 * FIRST;
    start_with(config);
    pair.sides[1].reading = false;
    for (int i = 0; i < 6; i++) {
        streams[i] = pair_open(&pair, 0, client, 0);
        pair_send(&pair, 0, streams[i], FIRST - 1, false);
    }
    pair_run(&pair, PAIR_SECOND);
    streams[6] = pair_open(&pair, 0, client, 0);
    pair_send(&pair, 0, streams[6], 1 << 20, true);
    pair_run(&pair, PAIR_SECOND);
    CHECK_EQUAL(received(24), FIRST);
    read_some(24, FIRST);
    pair_run(&pair, PAIR_SECOND);
    CHECK_EQUAL(received(24), 2 * FIRST);
}

static void
a_stream_beyond_the_connection_window_is_fed_its_first_window_at_a_time(void)
{
    uint64_t streams[7];
    start_starved(streams);
    for (int i = 0; i < 6; i++) {
        read_some(24, FIRST);
        pair_run(&pair, PAIR_SECOND);
        CHECK_EQUAL(received(24), (3 + (uint64_t)i) * FIRST);
    }
    pair_free(&pair);
}

/* Each stream is read once, while there is room, and then no more. */
static void
what_streams_may_hold_together_is_bounded_by_the_connection_window(void)
{
    enum { STREAMS = 40 };
    uint64_t total = 0;
    bp_config_t config = pair_config();
    config.connection_window = 4 << 20;
    start_with(config);
    for (int i = 0; i < STREAMS; i++) {
        pair_send(&pair, 0, pair_open(&pair, 0, client, 0), 4 << 20, false);
        pair_run(&pair, 20 * PAIR_MS);
    }
    pair.sides[1].reading = false;
    pair_run(&pair, 5 * PAIR_SECOND);
    for (uint64_t i = 0; i < STREAMS; i++) {
        pair_stream_t *far = pair_stream_by_id(&pair, 1, 4 * i);
        total += far == NULL ? 0 : far->unread;
    }
    CHECK(total <= config.connection_window + STREAMS * FIRST);
    pair_free(&pair);
}

static void
credit_comes_back_when_unread_streams_are_refused(void)
{
    uint64_t streams[7];
    start_starved(streams);
    for (uint64_t i = 0; i < 6; i++) {
        uint64_t far = pair_stream_by_id(&pair, 1, 4 * i)->handle;
        CHECK_EQUAL(bp_stream_stop_sending(engine(1), far, 1), BP_OK);
    }
    pair_run(&pair, PAIR_SECOND);
    CHECK_EQUAL(received(24), 5 * FIRST);
    pair.sides[1].reading = true;
    read_some(24, 4 * FIRST);
    pair_run(&pair, PAIR_SECOND);
    CHECK_EQUAL(received(24), 1 << 20);
    pair_free(&pair);
}

static void
credit_comes_back_when_unread_streams_are_released(void)
{
    uint64_t streams[7];
    start_starved(streams);
    for (uint64_t i = 0; i < 6; i++) {
        uint64_t far = pair_stream_by_id(&pair, 1, 4 * i)->handle;
        CHECK(bp_stream_write(engine(0), streams[i], NULL, 0, 1) >= 0);
        CHECK(bp_stream_write(engine(1), far, NULL, 0, 1) >= 0);
    }
    pair_run(&pair, PAIR_SECOND);
    CHECK_EQUAL(pair_stream(&pair, 0, streams[0])->releases, 1);
    CHECK_EQUAL(received(24), 5 * FIRST);
    pair.sides[1].reading = true;
    read_some(24, 4 * FIRST);
    pair_run(&pair, PAIR_SECOND);
    CHECK_EQUAL(received(24), 1 << 20);
    pair_free(&pair);
}

static void
a_full_send_buffer_reports_no_room_once_and_refuses_beyond_the_maximum(void)
{
    static uint8_t block[4 << 20];
    start();
    pair.sides[1].reading = false;
    uint64_t stream = pair_open(&pair, 0, client, 0);
    CHECK_EQUAL(bp_stream_write(engine(0), stream, block, 1000, 0), (1 << 20) - 1000);
    CHECK_EQUAL(bp_stream_write(engine(0), stream, block, (1 << 20) - 1001, 0), 1);
    CHECK_EQUAL(bp_stream_write(engine(0), stream, block, 1, 0), 0);
    CHECK_EQUAL(bp_stream_write(engine(0), stream, block, 3 << 20, 0), 0);
    CHECK_EQUAL(bp_stream_queued(engine(0), stream), 4 << 20);
    CHECK_EQUAL(bp_stream_write(engine(0), stream, block, 1, 0), BP_E_FULL);
    CHECK_EQUAL(bp_stream_queued(engine(0), stream), 4 << 20);
    CHECK_EQUAL(bp_stream_write(engine(0), stream, block, SIZE_MAX, 0), BP_E_FULL);

    pair_run(&pair, PAIR_SECOND);
    CHECK_EQUAL(received(0), FIRST);
    CHECK_EQUAL(pair_stream(&pair, 0, stream)->writables, 0);
    pair.sides[1].reading = true;
    read_some(0, FIRST);
    pair_run(&pair, PAIR_SECOND);
    CHECK_EQUAL(received(0), 4 << 20);
    CHECK_EQUAL(pair_stream(&pair, 0, stream)->writables, 1);
    CHECK_EQUAL(bp_stream_queued(engine(0), stream), 0);
    pair_free(&pair);
}

static void
writable_comes_at_the_low_mark_and_not_above(void)
{
    static uint8_t block[1 << 20];
    bp_config_t config = pair_config();
    config.send_high = 100000;
    config.send_low = 10000;
    config.send_max = 200000;
    config.stream_window_first = 1;
    start_with(config);
    pair.sides[1].reading = false;
    uint64_t stream = pair_open(&pair, 0, client, 0);
    CHECK_EQUAL(bp_stream_write(engine(0), stream, block, 100000, 0), 0);
    pair_run(&pair, PAIR_SECOND);
    uint64_t far = pair_stream_by_id(&pair, 1, 0)->handle;
    CHECK_EQUAL(bp_stream_consumed(engine(1), far, 1), BP_OK);
    pair_run(&pair, PAIR_SECOND);
    CHECK_EQUAL(bp_stream_queued(engine(0), stream), 0);
    CHECK_EQUAL(pair_stream(&pair, 0, stream)->writables, 1);
    pair_free(&pair);
}

/* One stream's peer does not read, so its queue alone fills the connection's share. */
static uint64_t
start_full(void)
{
    static uint8_t block[2 << 20];
    bp_config_t config = pair_config();
    config.connection_send_high = 2 << 20;
    start_with(config);
    pair.sides[1].reading = false;
    uint64_t blocked = pair_open(&pair, 0, client, 0);
    CHECK_EQUAL(bp_stream_write(engine(0), blocked, block, sizeof(block), 0), 0);
    pair_run(&pair, PAIR_SECOND);
    CHECK_EQUAL(received(0), FIRST);
    CHECK_EQUAL(bp_stream_write(engine(0), blocked, block, FIRST, 0), 0);
    return blocked;
}

static void
a_full_connection_lowers_the_mark_of_its_streams(void)
{
    static uint8_t block[1 << 20];
    start_full();
    uint64_t low = pair_config().send_low;
    uint64_t small = pair_open(&pair, 0, client, 0);
    CHECK_EQUAL(bp_stream_write(engine(0), small, block, 100, 0), (int64_t)low - 100);
    CHECK_EQUAL(bp_stream_write(engine(0), small, block, low, 0), 0);
    pair_free(&pair);
}

static void
a_full_connection_holds_up_no_stream_that_drains(void)
{
    static uint8_t block[FIRST];
    uint64_t blocked = start_full();
    uint64_t small = pair_open(&pair, 0, client, 0);
    for (uint32_t round = 1; round <= 5; round++) {
        CHECK_EQUAL(bp_stream_write(engine(0), small, block, sizeof(block), 0), 0);
        pair_run(&pair, PAIR_SECOND);
        read_some(4, sizeof(block));
        pair_run(&pair, PAIR_SECOND);
        CHECK_EQUAL(received(4), round * sizeof(block));
        CHECK_EQUAL(pair_stream(&pair, 0, small)->writables, round);
    }
    CHECK_EQUAL(pair_stream(&pair, 0, blocked)->writables, 0);
    pair.sides[1].reading = true;
    read_some(0, FIRST);
    pair_run(&pair, PAIR_SECOND);
    CHECK_EQUAL(pair_stream(&pair, 0, blocked)->writables, 1);
    pair_free(&pair);
}

static void
giving_up_the_stream_that_filled_a_connection_gives_the_others_their_mark_back(void)
{
    static uint8_t block[100];
    uint64_t blocked = start_full();
    uint64_t small = pair_open(&pair, 0, client, 0);
    CHECK_EQUAL(bp_stream_reset(engine(0), blocked, 1), BP_OK);
    int64_t left = (int64_t)pair_config().send_high - (int64_t)sizeof(block);
    CHECK_EQUAL(bp_stream_write(engine(0), small, block, sizeof(block), 0), left);
    pair_run(&pair, PAIR_SECOND);
    CHECK_EQUAL(pair_stream(&pair, 0, blocked)->writables, 0);
    pair_free(&pair);
}

/* Drops what the server sends while armed, so that its HANDSHAKE_DONE is late. */
typedef struct {
    bool armed;
    int dropped;
} lossy_t;

static bool
drop_from_server(pair_t *p, int side, const uint8_t *bytes, size_t length, void *context)
{
    lossy_t *lossy = context;
    (void)p;
    (void)bytes;
    (void)length;
    if (side == 1 && lossy->armed) {
        lossy->dropped++;
        return false;
    }
    return true;
}

static bool
server_is_connected(pair_t *p, void *context)
{
    (void)context;
    return pair_accepted(p, 1) != 0;
}

static void
credit_asked_for_before_the_handshake_is_confirmed_is_given_after_it(void)
{
    lossy_t lossy = {false, 0};
    bp_config_t config = pair_config();
    config.stream_window_first = 3000; /* all of it arrives in the first flight */
    pair_init(&pair, 1);
    pair_add(&pair, 0, &config);
    pair_add(&pair, 1, &config);
    pair.tap = drop_from_server;
    pair.context = &lossy;
    client = pair_dial(&pair, 0, 1);
    /* The server is ready and its confirmation is about to leave: lose it. */
    pair.on_event = NULL;
    while (pair_accepted(&pair, 1) == 0) {
        lossy.armed = pair_connection(&pair, 0, client)->connected;
        CHECK(!pair_until(&pair, PAIR_MS, server_is_connected, NULL) ||
              pair_accepted(&pair, 1) != 0);
    }
    CHECK(lossy.dropped > 0);
    lossy.armed = false;
    uint64_t stream = pair_open(&pair, 1, pair_accepted(&pair, 1), 0);
    pair_source_t *source = pair_send(&pair, 1, stream, 1 << 20, true);
    pair_run(&pair, 2 * PAIR_SECOND);
    CHECK_EQUAL(pair_stream_by_id(&pair, 0, 1)->received, 1 << 20);
    CHECK(pair_stream_by_id(&pair, 0, 1)->hash == source->hash);
    pair_free(&pair);
}

static void
bytes_lost_before_a_reset_do_not_cost_the_connection_its_credit(void)
{
    lossy_t lossy = {false, 0};
    bp_config_t config = pair_config();
    config.connection_window = 256 << 10;
    start_with(config);
    pair.context = &lossy;
    uint64_t back = pair_accepted(&pair, 1);
    uint64_t warm = pair_open(&pair, 1, back, 1);
    pair_send(&pair, 1, warm, 4 << 20, true);
    pair_run(&pair, 5 * PAIR_SECOND);
    CHECK_EQUAL(pair_stream_by_id(&pair, 0, 3)->received, 4 << 20);
    for (int round = 0; round < 100; round++) {
        uint64_t stream = pair_open(&pair, 1, back, 1);
        pair.tap = drop_from_server;
        lossy.armed = true;
        pair_send(&pair, 1, stream, FIRST, false);
        pair_pump(&pair);
        lossy.armed = false;
        CHECK_EQUAL(bp_stream_reset(engine(1), stream, 1), BP_OK);
        pair_run(&pair, PAIR_SECOND);
        CHECK_EQUAL(pair_stream(&pair, 1, stream)->releases, 1);
    }
    CHECK(lossy.dropped > 0);
    uint64_t stream = pair_open(&pair, 1, back, 1);
    pair_source_t *source = pair_send(&pair, 1, stream, 1 << 20, true);
    pair_run(&pair, 5 * PAIR_SECOND);
    CHECK_EQUAL(pair_stream_by_id(&pair, 0, 3 + 4 * 101)->received, 1 << 20);
    CHECK(pair_stream_by_id(&pair, 0, 3 + 4 * 101)->hash == source->hash);
    pair_free(&pair);
}

/* Watches in which order two streams' bytes arrive. */
typedef struct {
    uint64_t urgent_id;
    uint64_t late; /* bytes of the other stream that arrived before the urgent one's end */
    bool done;
} order_t;

static void
note_order(pair_t *p, int side, const bp_event_t *event, void *context)
{
    order_t *order = context;
    (void)p;
    if (side != 1 || event->type != BP_EVENT_DATA) {
        return;
    }
    if (event->stream_id == order->urgent_id) {
        order->done = (event->flags & BP_FLAG_FIN) != 0;
    } else if (!order->done) {
        order->late += event->length;
    }
}

static void
a_stream_of_a_lower_level_goes_strictly_first(void)
{
    bp_config_t config = pair_config();
    config.stream_window_first = 1 << 20;
    for (int swap = 0; swap < 2; swap++) {
        start_with(config);
        pair.link.bytes_per_s = 1 << 20;
        uint64_t streams[2] = {pair_open(&pair, 0, client, 0), pair_open(&pair, 0, client, 0)};
        order_t order = {swap ? 4 : 0, 0, false};
        pair.on_event = note_order;
        pair.context = &order;
        CHECK_EQUAL(bp_stream_priority(engine(0), streams[swap], 2), BP_OK);
        CHECK_EQUAL(bp_stream_priority(engine(0), streams[1 - swap], 100), BP_OK);
        pair_send(&pair, 0, streams[0], 500000, true);
        pair_send(&pair, 0, streams[1], 500000, true);
        pair_run(&pair, 5 * PAIR_SECOND);
        CHECK(order.done);
        CHECK_EQUAL(order.late, 0);
        CHECK_EQUAL(received(0) + received(4), 1000000);
        pair_free(&pair);
    }
}

int
main(void)
{
    RUN(a_reader_that_never_reads_stops_its_sender_at_the_window);
    RUN(a_stream_that_is_read_arrives_whole_through_a_small_window);
    RUN(a_stream_beyond_the_connection_window_is_fed_its_first_window_at_a_time);
    RUN(what_streams_may_hold_together_is_bounded_by_the_connection_window);
    RUN(credit_comes_back_when_unread_streams_are_refused);
    RUN(credit_comes_back_when_unread_streams_are_released);
    RUN(a_full_send_buffer_reports_no_room_once_and_refuses_beyond_the_maximum);
    RUN(a_full_connection_lowers_the_mark_of_its_streams);
    RUN(a_full_connection_holds_up_no_stream_that_drains);
    RUN(giving_up_the_stream_that_filled_a_connection_gives_the_others_their_mark_back);
    RUN(writable_comes_at_the_low_mark_and_not_above);
    RUN(credit_asked_for_before_the_handshake_is_confirmed_is_given_after_it);
    RUN(bytes_lost_before_a_reset_do_not_cost_the_connection_its_credit);
    RUN(a_stream_of_a_lower_level_goes_strictly_first);
    return 0;
}
