/*
 * Two engines on a simulated network under a script: API calls in any order, time steps,
 * datagrams made up, spoiled, repeated or held back, ICMP errors, and frames of a hostile
 * peer inside packets that do decrypt. After each step the books of both engines must
 * balance; at the end everything must be freed.
 *
 * Input: five bytes choose the configuration; then operations, each one byte and the
 * bytes it takes. What is missing reads as 0.
 */
#include <string.h>

#include "check.h"
#include "engine_pair.h"
#include "quic/internal.h"
#include "sealed.h"

#define OPERATIONS_MAX 300
#define WRITTEN_MAX (1u << 20)
#define KEPT_MAX 8
#define DIALS_MAX 6
#define RESTARTS_MAX 2
#define LATENCY_MIN_US 20u /* a round trip of 0 makes the library repeat itself for ever */

typedef struct {
    const uint8_t *bytes;
    size_t size;
    size_t at;
} script_t;

typedef struct {
    uint8_t bytes[PAIR_DATAGRAM_BYTES];
    size_t length;
    int side; /* that sent it */
} kept_t;

typedef struct {
    pair_t pair;
    script_t script;
    bp_config_t config;
    kept_t kept[KEPT_MAX];
    size_t kept_count;
    uint8_t spoil; /* how datagrams leaving now are treated; 0: left alone */
    uint8_t spoil_at;
    uint8_t spoil_with;
    int dials;
    int restarts;
    size_t written;
} world_t;

static world_t world;

static uint8_t
u8(void)
{
    script_t *s = &world.script;
    return s->at < s->size ? s->bytes[s->at++] : 0;
}

static uint32_t
u16(void)
{
    uint32_t high = u8();
    return high << 8 | u8();
}

/* Up to n of the next bytes; the length that was there. */
static size_t
take(uint8_t *out, size_t n)
{
    script_t *s = &world.script;
    size_t left = s->size - s->at;
    size_t length = n < left ? n : left;
    if (length > 0) {
        memcpy(out, s->bytes + s->at, length);
        s->at += length;
    }
    return length;
}

static bp_engine_t *
engine(int side)
{
    return world.pair.sides[side].engine;
}

/* A connection of that side, a stale one, or an invented handle. */
static uint64_t
some_connection(int side)
{
    const pair_side_t *s = &world.pair.sides[side];
    uint8_t which = u8();
    if (which >= 250 || s->connection_count == 0) {
        return (uint64_t)which << 32 | (which & 3u);
    }
    return s->connections[s->connection_count - 1 - which % s->connection_count].handle;
}

static uint64_t
some_stream(int side)
{
    const pair_side_t *s = &world.pair.sides[side];
    uint8_t which = u8();
    if (which >= 250 || s->stream_count == 0) {
        return (uint64_t)which << 32 | (which & 3u);
    }
    return s->streams[s->stream_count - 1 - which % s->stream_count].handle;
}

static void
check_stream(const bp_connection_t *connection, const bp_stream_t *stream)
{
    CHECK(stream->connection == connection);
    CHECK(stream->head <= stream->tail && stream->tail <= stream->capacity);
    CHECK(stream->tail - stream->head <= world.config.send_max);
    CHECK(stream->consumed <= stream->delivered);
    CHECK(stream->delivered <= stream->limit || !stream->can_receive);
    CHECK((stream->capacity == 0) == (stream->buffer == NULL));
    CHECK(bp_stream_find(connection->engine, bp_stream_handle(stream)) == stream);
    CHECK(stream->can_send || !stream->active || stream->fin_queued || stream->reset_due);
    bool more = stream->can_receive && stream->limit > stream->delivered;
    CHECK(stream->share == (more ? stream->limit : stream->delivered) - stream->consumed);
    CHECK(stream->next == NULL || stream->next->previous == stream);
}

static uint32_t
check_connection(const bp_engine_t *e, const bp_connection_t *connection)
{
    uint64_t queued = 0;
    uint64_t promised = 0;
    uint32_t streams = 0;
    CHECK(connection->engine == e && connection->cnx != NULL);
    CHECK(bp_connection_find(e, bp_connection_handle(connection)) == connection);
    for (const bp_stream_t *s = connection->streams; s != NULL; s = s->next) {
        check_stream(connection, s);
        queued += s->tail - s->head;
        promised += s->share;
        streams++;
    }
    CHECK(connection->queued == queued && connection->promised == promised);
    CHECK(connection->connected || streams == 0);
    return streams;
}

/* What each engine counts is what it holds. */
static void
check_books(const bp_engine_t *e)
{
    uint32_t connections = 0;
    uint32_t streams = 0;
    for (uint32_t i = 0; i < e->connection_top; i++) {
        const bp_connection_t *connection = &e->connections[i];
        if (connection->used) {
            streams += check_connection(e, connection);
        } else {
            CHECK(connection->streams == NULL && connection->certificate == NULL);
        }
        connections += connection->used;
    }
    CHECK(connections + e->close_pending == e->connection_count);
    CHECK(streams == e->stream_count && streams <= world.config.streams_max);
    CHECK(e->reap_count <= world.config.connections_max);
    CHECK(e->event_count == 0 && e->blocks == NULL && e->arena_used == 0);
    CHECK(e->stream_limbo == NULL && e->connection_limbo == NULL);
}

static void
keep(int side, const uint8_t *bytes, size_t length)
{
    kept_t *kept = &world.kept[world.kept_count % KEPT_MAX];
    memcpy(kept->bytes, bytes, length);
    kept->length = length;
    kept->side = side;
    world.kept_count++;
}

static size_t
spoil(uint8_t *bytes, size_t length)
{
    size_t at = (size_t)world.spoil_at * length / 256;
    switch (world.spoil % 8) {
    case 1: /* cut */
        return at;
    case 2: /* one byte */
        bytes[at] ^= world.spoil_with | 1;
        return length;
    case 3: /* another connection id, or version */
        bytes[at % 16] = world.spoil_with;
        return length;
    case 4: /* longer */
        memset(bytes + length, world.spoil_with, PAIR_DATAGRAM_BYTES - length);
        return PAIR_DATAGRAM_BYTES;
    default:
        return length;
    }
}

static bool
on_wire(pair_t *pair, int side, const uint8_t *bytes, size_t length, void *context)
{
    uint8_t copy[PAIR_DATAGRAM_BYTES];
    (void)context;
    keep(side, bytes, length);
    switch (world.spoil % 8) {
    case 0:
        return true;
    case 6: /* lost, for now: an operation may bring it back */
        return false;
    case 7: /* twice */
        pair_post(pair, side, 1 - side, bytes, length);
        return true;
    default:
        memcpy(copy, bytes, length);
        pair_post(pair, side, 1 - side, copy, spoil(copy, length));
        return world.spoil >= 128; /* and the genuine one too, or not */
    }
}

static void
write_some(int side, uint64_t stream, size_t n, int fin)
{
    static uint8_t bytes[UINT16_MAX];
    if (world.written + n > WRITTEN_MAX) {
        return;
    }
    world.written += n;
    (void)bp_stream_write(engine(side), stream, bytes, n, fin);
}

static void
lend_some(int side, uint64_t stream, size_t n, size_t more)
{
    uint8_t *place = NULL;
    size_t commit = u16();
    if (bp_stream_reserve(engine(side), stream, 0, n, &place) != BP_OK) {
        return;
    }
    if (n > 0) {
        memset(place, 1, n);
    }
    size_t lent = n;
    if (bp_stream_reserve(engine(side), stream, n, more, &place) == BP_OK && more > 0) {
        memset(place + n, 2, more);
        lent += more;
    }
    (void)bp_stream_commit(engine(side), stream, commit % (lent + 1), commit & 1);
}

static void
consume_some(int side, uint64_t handle, uint64_t n)
{
    if (bp_stream_consumed(engine(side), handle, n) == BP_OK) {
        pair_stream_t *stream = pair_stream(&world.pair, side, handle);
        stream->unread -= n < stream->unread ? n : stream->unread;
    }
}

/* Frames no engine of ours would send, in a packet that decrypts. */
static void
inject_frames(int side, uint64_t connection)
{
    uint8_t frames[UINT8_MAX];
    uint8_t datagram[SEALED_BYTES_MAX];
    size_t n = take(frames, u8());
    n = sealed_packet(engine(side), connection, frames, n, datagram);
    if (n > 0) {
        pair_post(&world.pair, side, 1 - side, datagram, n);
    }
}

static void
unreachable(int side, const kept_t *kept)
{
    uint8_t quote[64];
    size_t n = take(quote, u8() % sizeof(quote));
    bool genuine = n == 0 && kept->side == side;
    (void)bp_sim_unreachable(engine(side), &world.pair.sides[1 - side].address,
                             genuine ? kept->bytes : quote, genuine ? kept->length : n);
}

static void
restart(int side)
{
    if (world.restarts++ < RESTARTS_MAX) {
        pair_remove(&world.pair, side);
        pair_add(&world.pair, side, &world.config);
    }
}

static void
dial(int side)
{
    uint64_t handle;
    if (world.dials++ < DIALS_MAX) {
        (void)bp_connection_open(engine(side), &world.pair.sides[1 - side].address, 0, &handle);
    }
}

static void
open_stream(int side, uint64_t connection, int uni)
{
    uint64_t handle;
    uint64_t id;
    if (bp_stream_open(engine(side), connection, uni, &handle, &id) == BP_OK) {
        pair_stream_t *stream = pair_stream(&world.pair, side, handle);
        stream->id = id;
        stream->connection = connection;
    }
}

static void
ask_about(int side, uint64_t connection)
{
    uint8_t bytes[1024];
    bp_path_stats_t path;
    bp_engine_stats_t stats;
    (void)bp_connection_stats(engine(side), connection, &path);
    (void)bp_connection_certificate(engine(side), connection, bytes, sizeof(bytes));
    (void)bp_connection_export(engine(side), connection, "label", bytes, 32);
    (void)bp_connection_migrate(engine(side), connection, 1, 1000);
    (void)bp_connection_ping(engine(side), connection);
    bp_engine_stats(engine(side), &stats);
}

/* Operations on the wire and the clock. Returns false if the byte is none of them. */
static bool
act_on_network(uint8_t operation, int side)
{
    uint8_t bytes[PAIR_DATAGRAM_BYTES];
    uint8_t first = operation < 8 ? u8() : 0;
    const kept_t *kept = &world.kept[first % KEPT_MAX];
    switch (operation) {
    case 0:
        pair_run(&world.pair, (uint64_t)first << u8() % 17);
        return true;
    case 1:
        world.spoil = first;
        world.spoil_at = u8();
        world.spoil_with = u8();
        return true;
    case 2:
        pair_post(&world.pair, 1 - side, side, bytes, take(bytes, first * 8u));
        return true;
    case 3:
        world.spoil_at = u8();
        world.spoil_with = u8();
        memcpy(bytes, kept->bytes, kept->length);
        pair_post(&world.pair, kept->side, 1 - kept->side, bytes,
                  kept->length > 0 ? spoil(bytes, kept->length) : 0);
        return true;
    case 4:
        unreachable(side, kept);
        return true;
    case 5:
        restart(side);
        return true;
    case 6:
        world.pair.link.latency_us = LATENCY_MIN_US + first * 256u;
        world.pair.link.reorder = u8() * 16u;
        world.pair.link.reorder_us = u8() * 256u;
        world.pair.link.loss = u8() * 4u;
        return true;
    case 7:
        world.pair.sides[side].reading = first & 1;
        return true;
    default:
        return false;
    }
}

static void
act_on_stream(uint8_t operation, int side)
{
    uint64_t stream = some_stream(side);
    uint32_t n = u16();
    switch (operation) {
    case 10:
    case 11:
        write_some(side, stream, n, operation == 11);
        break;
    case 12:
        (void)bp_stream_reset(engine(side), stream, n);
        break;
    case 13:
        (void)bp_stream_stop_sending(engine(side), stream, n);
        break;
    case 14:
        consume_some(side, stream, n);
        break;
    case 15:
        (void)bp_stream_priority(engine(side), stream, (uint8_t)n);
        break;
    default:
        lend_some(side, stream, n, u8() * 4u);
    }
}

static void
act_on_connection(uint8_t operation, int side)
{
    uint64_t connection = some_connection(side);
    switch (operation) {
    case 8:
        dial(side);
        break;
    case 9:
        open_stream(side, connection, u8() & 1);
        break;
    case 17:
        (void)bp_connection_close(engine(side), connection, u16(), "fuzz");
        break;
    case 18:
        (void)bp_connection_abort(engine(side), connection);
        break;
    case 19:
    case 20:
    case 21:
        inject_frames(side, connection);
        break;
    default:
        ask_about(side, connection);
    }
}

static void
act(uint8_t byte)
{
    uint8_t operation = byte % 23;
    int side = byte >> 7;
    if (act_on_network(operation, side)) {
        return;
    }
    if (operation >= 10 && operation <= 16) {
        act_on_stream(operation, side);
    } else {
        act_on_connection(operation, side);
    }
}

static void
configure(void)
{
    bp_config_t *c = &world.config;
    *c = pair_config();
    c->arena_bytes = 2 << 20;
    c->connections_max = 1u + u8() % 4u;
    c->half_open_max = u8() % 4u;
    uint8_t sizes = u8();
    c->streams_max = sizes & 1 ? 70 : 5;
    c->streams_bidi_max = sizes & 2 ? 100 : 2;
    c->streams_uni_max = sizes & 4 ? 100 : 1;
    c->stream_window_first = sizes & 8 ? 1 << 16 : 1000;
    c->stream_window = sizes & 16 ? 1 << 20 : 3000;
    c->connection_window = sizes & 32 ? 4 << 20 : 5000;
    c->send_high = sizes & 64 ? 1 << 16 : 100;
    c->send_low = c->send_high / 2;
    c->send_max = 2 * c->send_high;
    c->connection_send_high = sizes & 128 ? c->send_high : 4 * c->send_high;
    uint8_t modes = u8();
    c->retry_always = modes & 1;
    c->multipath = modes >> 1 & 1;
    c->migration_disabled = modes >> 2 & 1;
    c->keep_alive_us = modes & 8 ? PAIR_SECOND : 0;
    c->congestion = modes & 16 ? "bbr1" : "cubic";
    c->events_max = modes & 32 ? 1 : 4096;
    (void)u8();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    memset(&world, 0, sizeof(world));
    world.script = (script_t){data, size, 0};
    configure();
    pair_init(&world.pair, 1);
    world.pair.link.latency_us = PAIR_MS;
    pair_add(&world.pair, 0, &world.config);
    pair_add(&world.pair, 1, &world.config);
    world.pair.tap = on_wire;
    dial(0);
    pair_run(&world.pair, 10 * PAIR_MS);
    for (int i = 0; i < OPERATIONS_MAX && world.script.at < size; i++) {
        act(u8());
        for (int s = 0; s < 2; s++) {
            pair_read_events(&world.pair, s);
            bp_engine_consume(engine(s)); /* a reap and a recycle at least */
            check_books(engine(s));
        }
    }
    /*
     * With the network well again, silence ends whatever is left; a connection that was
     * closed lingers for three of its timeouts, which a bad network can make minutes.
     */
    world.spoil = 0;
    world.pair.link = (pair_link_t){.latency_us = PAIR_MS};
    bool kept_alive = world.config.keep_alive_us > 0;
    pair_run(&world.pair, (kept_alive ? 12 : 1200) * PAIR_SECOND);
    for (int s = 0; s < 2; s++) {
        check_books(engine(s));
        CHECK(kept_alive || engine(s)->connection_count == 0);
    }
    pair_free(&world.pair);
    return 0;
}
