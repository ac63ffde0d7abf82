#include "engine_pair.h"

#include <stdlib.h>
#include <string.h>

#include "certificate.h"
#include "check.h"
#include "quic/picoquic_symbols.h"

#define IDLE_STEPS_MAX 1000u /* wake-ups in a row that move neither clock nor datagram */
#define BURST_MAX 20000u       /* datagrams that one engine may send at one instant */
#define WRITE_BYTES 16384u

/* xorshift64*: small, seeded, the same everywhere. */
uint64_t
pair_random(uint64_t *state)
{
    uint64_t x = *state;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    *state = x;
    return x * UINT64_C(2685821657736338717);
}

/* FNV-1a; start with 0. */
uint64_t
pair_hash(uint64_t hash, const uint8_t *bytes, size_t length)
{
    uint64_t h = hash ^ UINT64_C(14695981039346656037);
    for (size_t i = 0; i < length; i++) {
        h = (h ^ bytes[i]) * UINT64_C(1099511628211);
    }
    return h ^ UINT64_C(14695981039346656037);
}

static bool
chance(pair_t *pair, uint32_t ten_thousandths)
{
    return ten_thousandths > 0 && pair_random(&pair->random) % 10000 < ten_thousandths;
}

bp_config_t
pair_config(void)
{
    static const uint8_t seed[BP_RESET_SEED_BYTES] = {1, 2, 3, 4, 5, 6, 7, 8};
    return (bp_config_t){.certificate_file = bp_test_certificate(),
                         .key_file = bp_test_key(),
                         .alpn = "barrel-p2p/1",
                         .congestion = "cubic",
                         .reset_seed = seed,
                         .idle_timeout_ms = 5000,
                         .keep_alive_us = 0,
                         .handshake_timeout_us = 10 * PAIR_SECOND,
                         .stream_window = 1 << 20,
                         .stream_window_first = 1 << 16,
                         .connection_window = 16 << 20,
                         .start_us = PAIR_START_US,
                         .connections_max = 64,
                         .streams_max = 1024,
                         .streams_bidi_max = 100,
                         .streams_uni_max = 100,
                         .half_open_max = 32,
                         .events_max = 4096,
                         .arena_bytes = 4 << 20,
                         .send_high = 1 << 20,
                         .send_low = 1 << 16,
                         .send_max = 4 << 20,
                         .connection_send_high = 8 << 20,
                         .simulated = 1};
}

void
pair_init(pair_t *pair, uint64_t seed)
{
    memset(pair, 0, sizeof(*pair));
    pair->now_us = PAIR_START_US;
    pair->random = seed * UINT64_C(0x9E3779B97F4A7C15) + 1;
    pair->link.latency_us = 5 * PAIR_MS;
    for (int i = 0; i < PAIR_ENGINES_MAX; i++) {
        uint8_t host = (uint8_t)(i + 1);
        pair->sides[i].address =
            (bp_address_t){.family = 4, .ip = {10, 0, 0, host}, .port = 4433};
    }
}

void
pair_add_from(pair_t *pair, int side, const bp_config_t *config, const void *picoquic)
{
    bp_config_t own = *config;
    own.start_us = pair->now_us;
    CHECK(pair->sides[side].engine == NULL);
    CHECK_EQUAL(bp_engine_create(&own, picoquic, &pair->sides[side].engine), BP_OK);
    pair->sides[side].reading = true;
}

void
pair_add(pair_t *pair, int side, const bp_config_t *config)
{
    pair_add_from(pair, side, config, bp_picoquic_static());
}

void
pair_remove(pair_t *pair, int side)
{
    pair_side_t *s = &pair->sides[side];
    bp_engine_free(s->engine);
    free(s->streams);
    free(s->connections);
    bp_address_t address = s->address;
    memset(s, 0, sizeof(*s));
    s->address = address;
    for (int i = 0; i < pair->source_count; i++) {
        pair->sources[i].done = pair->sources[i].done || pair->sources[i].side == side;
    }
}

void
pair_free(pair_t *pair)
{
    for (int i = 0; i < PAIR_ENGINES_MAX; i++) {
        pair_remove(pair, i);
    }
    for (size_t i = 0; i < pair->heap_count; i++) {
        free(pair->heap[i]);
    }
    free(pair->heap);
    memset(pair, 0, sizeof(*pair));
}

/* Give an array room for one more; ends the program when memory does. */
static void *
grown(void *array, size_t count, size_t *capacity, size_t size)
{
    if (count < *capacity) {
        return array;
    }
    *capacity = *capacity == 0 ? 16 : *capacity * 2;
    void *bigger = realloc(array, *capacity * size);
    CHECK(bigger != NULL);
    return bigger;
}

static bool
sooner(const pair_datagram_t *a, const pair_datagram_t *b)
{
    return a->at_us < b->at_us || (a->at_us == b->at_us && a->order < b->order);
}

static void
heap_push(pair_t *pair, pair_datagram_t *datagram)
{
    pair->heap = grown(pair->heap, pair->heap_count, &pair->heap_capacity, sizeof(*pair->heap));
    size_t i = pair->heap_count++;
    while (i > 0 && sooner(datagram, pair->heap[(i - 1) / 2])) {
        pair->heap[i] = pair->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    pair->heap[i] = datagram;
}

static pair_datagram_t *
heap_pop(pair_t *pair)
{
    pair_datagram_t *top = pair->heap[0];
    pair_datagram_t *last = pair->heap[--pair->heap_count];
    size_t i = 0;
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= pair->heap_count) {
            break;
        }
        if (child + 1 < pair->heap_count && sooner(pair->heap[child + 1], pair->heap[child])) {
            child++;
        }
        if (!sooner(pair->heap[child], last)) {
            break;
        }
        pair->heap[i] = pair->heap[child];
        i = child;
    }
    if (pair->heap_count > 0) {
        pair->heap[i] = last;
    }
    return top;
}

static int
side_at(const pair_t *pair, const bp_address_t *address)
{
    for (int i = 0; i < PAIR_ENGINES_MAX; i++) {
        const bp_address_t *own = &pair->sides[i].address;
        if (own->port == address->port && memcmp(own->ip, address->ip, 4) == 0) {
            return i;
        }
    }
    return -1;
}

static void
deliver_later(pair_t *pair, const pair_datagram_t *datagram, uint64_t at_us)
{
    pair_datagram_t *copy = malloc(sizeof(*copy));
    CHECK(copy != NULL);
    memcpy(copy, datagram, sizeof(*copy) - PAIR_DATAGRAM_BYTES + datagram->length);
    copy->order = pair->order++;
    copy->at_us = at_us;
    if (chance(pair, pair->link.reorder)) {
        copy->at_us += pair_random(&pair->random) % (pair->link.reorder_us + 1);
    }
    heap_push(pair, copy);
}

void
pair_post(pair_t *pair, int from, int to, const uint8_t *bytes, size_t length)
{
    pair_datagram_t datagram = {.side = to,
                                .from = pair->sides[from].address,
                                .to = pair->sides[to].address,
                                .length = length};
    CHECK(length <= sizeof(datagram.bytes));
    if (length > 0) {
        memcpy(datagram.bytes, bytes, length);
    }
    deliver_later(pair, &datagram, pair->now_us + pair->link.latency_us);
}

/* Put one datagram on the wire, or lose it. */
static void
transmit(pair_t *pair, int side, const pair_datagram_t *datagram)
{
    const pair_link_t *link = &pair->link;
    pair->sides[side].datagrams++;
    pair->sides[side].bytes += datagram->length;
    if (pair->tap != NULL &&
        !pair->tap(pair, side, datagram->bytes, datagram->length, pair->context)) {
        return;
    }
    uint64_t at_us = pair->now_us;
    if (link->bytes_per_s > 0) {
        uint64_t free_us = pair->free_us[side] > at_us ? pair->free_us[side] : at_us;
        uint64_t backlog = (free_us - at_us) * link->bytes_per_s / PAIR_SECOND;
        if (link->backlog_bytes > 0 && backlog > link->backlog_bytes) {
            return;
        }
        at_us = free_us + datagram->length * PAIR_SECOND / link->bytes_per_s;
        pair->free_us[side] = at_us;
    }
    if (chance(pair, link->loss)) {
        return;
    }
    deliver_later(pair, datagram, at_us + link->latency_us);
    if (chance(pair, link->duplicates)) {
        deliver_later(pair, datagram, at_us + link->latency_us);
    }
}

pair_connection_t *
pair_connection(pair_t *pair, int side, uint64_t handle)
{
    pair_side_t *s = &pair->sides[side];
    for (size_t i = s->connection_count; i-- > 0;) {
        if (s->connections[i].handle == handle) {
            return &s->connections[i];
        }
    }
    s->connections = grown(s->connections, s->connection_count, &s->connection_capacity,
                           sizeof(*s->connections));
    pair_connection_t *connection = &s->connections[s->connection_count++];
    memset(connection, 0, sizeof(*connection));
    connection->handle = handle;
    return connection;
}

pair_stream_t *
pair_stream(pair_t *pair, int side, uint64_t handle)
{
    pair_side_t *s = &pair->sides[side];
    for (size_t i = s->stream_count; i-- > 0;) {
        if (s->streams[i].handle == handle) {
            return &s->streams[i];
        }
    }
    s->streams = grown(s->streams, s->stream_count, &s->stream_capacity, sizeof(*s->streams));
    pair_stream_t *stream = &s->streams[s->stream_count++];
    memset(stream, 0, sizeof(*stream));
    stream->handle = handle;
    return stream;
}

pair_stream_t *
pair_stream_by_id(pair_t *pair, int side, uint64_t id)
{
    pair_side_t *s = &pair->sides[side];
    for (size_t i = s->stream_count; i-- > 0;) {
        if (s->streams[i].id == id) {
            return &s->streams[i];
        }
    }
    return NULL;
}

uint64_t
pair_accepted(const pair_t *pair, int side)
{
    const pair_side_t *s = &pair->sides[side];
    for (size_t i = s->connection_count; i-- > 0;) {
        if (s->connections[i].accepted) {
            return s->connections[i].handle;
        }
    }
    return 0;
}

static void
book_data(pair_t *pair, int side, const bp_event_t *event, pair_stream_t *stream)
{
    stream->datas++;
    CHECK_EQUAL(stream->fins, 0);
    stream->received += event->length;
    stream->hash = pair_hash(stream->hash, event->data, event->length);
    stream->fins += (event->flags & BP_FLAG_FIN) != 0;
    stream->unread += event->length;
    if (pair->sides[side].reading && stream->unread > 0) {
        int status =
            bp_stream_consumed(pair->sides[side].engine, stream->handle, stream->unread);
        /* The stream may have ended since; the bytes are the reader's all the same. */
        CHECK(status == BP_OK || status == BP_E_GONE || status == BP_E_ARGUMENT);
        stream->unread = 0;
    }
}

static void
book_stream(pair_t *pair, int side, const bp_event_t *event)
{
    pair_stream_t *stream = pair_stream(pair, side, event->stream);
    bool new = (event->flags & BP_FLAG_NEW) != 0 && event->type != BP_EVENT_CLOSED;
    CHECK_EQUAL(stream->releases, 0);
    if (stream->id == 0) {
        stream->id = event->stream_id;
        stream->connection = event->connection;
    }
    CHECK_EQUAL(stream->id, event->stream_id);
    CHECK_EQUAL(stream->connection, event->connection);
    stream->news += new;
    CHECK(stream->news <= 1);
    switch (event->type) {
    case BP_EVENT_DATA:
        book_data(pair, side, event, stream);
        break;
    case BP_EVENT_RESET:
        stream->resets++;
        stream->reset_code = event->a;
        break;
    case BP_EVENT_STOP_SENDING:
        stream->stops++;
        stream->stop_code = event->a;
        break;
    case BP_EVENT_WRITABLE:
        stream->writables++;
        break;
    case BP_EVENT_RELEASED:
        stream->releases++;
        break;
    default:
        CHECK_EQUAL(event->type, BP_EVENT_DATA); /* of those that name a stream */
    }
}

static void
book_connection(pair_t *pair, int side, const bp_event_t *event)
{
    pair_connection_t *connection = pair_connection(pair, side, event->connection);
    switch (event->type) {
    case BP_EVENT_CONNECTED:
        CHECK(!connection->connected);
        connection->connected = true;
        connection->connected_us = pair->now_us;
        connection->accepted = (event->flags & BP_FLAG_ACCEPTED) != 0;
        break;
    case BP_EVENT_CLOSED:
        connection->closed = true;
        connection->closed_us = pair->now_us;
        connection->why = event->flags;
        connection->local = event->a;
        connection->remote = event->b;
        connection->application = event->length;
        break;
    case BP_EVENT_PATH:
    case BP_EVENT_PATH_FAILED:
        break;
    default:
        CHECK_EQUAL(event->type, BP_EVENT_CLOSED); /* of those of a connection */
    }
}

static void
book(pair_t *pair, int side, const bp_event_t *event)
{
    CHECK(event->connection != 0);
    CHECK(!pair_connection(pair, side, event->connection)->closed);
    pair->sides[side].events++;
    if (event->stream != 0) {
        CHECK(pair_connection(pair, side, event->connection)->connected);
        book_stream(pair, side, event);
    } else {
        book_connection(pair, side, event);
    }
    if (pair->on_event != NULL) {
        pair->on_event(pair, side, event, pair->context);
    }
}

/* A handler may add events, which may move the array: it is fetched again for each. */
void
pair_read_events(pair_t *pair, int side)
{
    bp_engine_t *engine = pair->sides[side].engine;
    uint32_t count;
    for (const bp_event_t *events = bp_engine_events(engine, &count); count > 0;
         events = bp_engine_events(engine, &count)) {
        for (uint32_t i = 0; i < count; i++) {
            bp_event_t event = events[i];
            book(pair, side, &event);
            events = bp_engine_events(engine, &count);
        }
        bp_engine_consume(engine);
    }
}

static void
fill(pair_source_t *source, uint8_t *bytes, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        bytes[i] = (uint8_t)(pair_random(&source->state) >> 56);
    }
    source->hash = pair_hash(source->hash, bytes, length);
}

/* Write until the stream says wait; WRITABLE is what sets it going again. */
static void
push_source(pair_t *pair, pair_source_t *source)
{
    uint8_t bytes[WRITE_BYTES];
    bp_engine_t *engine = pair->sides[source->side].engine;
    pair_stream_t *stream = pair_stream(pair, source->side, source->stream);
    if (source->blocked && stream->writables > 0) {
        CHECK_EQUAL(stream->writables, 1);
        stream->writables = 0;
        source->blocked = false;
    }
    while (!source->done && !source->blocked) {
        size_t n = source->left < WRITE_BYTES ? (size_t)source->left : WRITE_BYTES;
        bool last = source->fin && n == source->left;
        if (stream->stops > 0 || stream->releases > 0) {
            source->done = true;
            break;
        }
        fill(source, bytes, n);
        int64_t room = bp_stream_write(engine, source->stream, bytes, n, last);
        CHECK(room >= 0 || room == BP_E_GONE || room == BP_E_STATE);
        source->left -= n;
        source->done = source->left == 0 || room < 0;
        source->blocked = room == 0;
    }
}

void
pair_write(pair_t *pair, int side)
{
    for (int i = 0; i < pair->source_count; i++) {
        if (pair->sources[i].side == side && !pair->sources[i].done) {
            push_source(pair, &pair->sources[i]);
        }
    }
}

pair_source_t *
pair_send(pair_t *pair, int side, uint64_t stream, uint64_t bytes, bool fin)
{
    int slot = 0;
    while (slot < pair->source_count && !pair->sources[slot].done) {
        slot++;
    }
    pair->source_count += slot == pair->source_count;
    CHECK(slot < PAIR_SOURCES_MAX);
    pair_source_t *source = &pair->sources[slot];
    *source = (pair_source_t){
        .side = side, .stream = stream, .left = bytes, .fin = fin, .state = stream * 977 + 13};
    push_source(pair, source);
    return source;
}

/* Everything due at this instant: events, writers, datagrams. */
void
pair_pump(pair_t *pair)
{
    for (int side = 0; side < PAIR_ENGINES_MAX; side++) {
        bp_engine_t *engine = pair->sides[side].engine;
        if (engine == NULL) {
            continue;
        }
        pair_datagram_t out;
        int64_t n;
        unsigned burst = 0;
        pair_read_events(pair, side);
        do {
            CHECK(burst++ < BURST_MAX);
            pair_write(pair, side);
            n = bp_sim_take(engine, out.bytes, sizeof(out.bytes), &out.from, &out.to);
            CHECK(n >= 0);
            pair_read_events(pair, side);
            if (n > 0) {
                out.length = (size_t)n;
                out.side = side_at(pair, &out.to);
                out.from = pair->sides[side].address;
                transmit(pair, side, &out);
            }
        } while (n > 0);
    }
}

static void
set_clocks(pair_t *pair)
{
    for (int side = 0; side < PAIR_ENGINES_MAX; side++) {
        if (pair->sides[side].engine != NULL) {
            CHECK_EQUAL(bp_sim_set_time(pair->sides[side].engine, pair->now_us), BP_OK);
        }
    }
}

static void
arrive(pair_t *pair)
{
    while (pair->heap_count > 0 && pair->heap[0]->at_us <= pair->now_us) {
        pair_datagram_t *datagram = heap_pop(pair);
        bp_engine_t *engine = datagram->side < 0 ? NULL : pair->sides[datagram->side].engine;
        if (engine != NULL) {
            CHECK_EQUAL(bp_sim_deliver(engine, datagram->bytes, datagram->length,
                                       &datagram->from, &datagram->to),
                        BP_OK);
            pair_read_events(pair, datagram->side);
        }
        free(datagram);
    }
}

static uint64_t
next_us(const pair_t *pair)
{
    uint64_t at_us = pair->heap_count > 0 ? pair->heap[0]->at_us : UINT64_MAX;
    for (int side = 0; side < PAIR_ENGINES_MAX; side++) {
        if (pair->sides[side].engine != NULL) {
            uint64_t due_us = pair->now_us + bp_sim_delay(pair->sides[side].engine);
            at_us = due_us < at_us ? due_us : at_us;
        }
    }
    return at_us;
}

bool
pair_until(pair_t *pair, uint64_t for_us, bool (*condition)(pair_t *pair, void *context),
           void *context)
{
    uint64_t end_us = pair->now_us + for_us;
    unsigned idle = 0;
    for (;;) {
        pair_pump(pair);
        if (condition != NULL && condition(pair, context)) {
            return true;
        }
        uint64_t at_us = next_us(pair);
        if (at_us > end_us) {
            pair->now_us = end_us;
            set_clocks(pair);
            return false;
        }
        /* An engine that stays due without sending must not stop the clock for ever. */
        idle = at_us <= pair->now_us ? idle + 1 : 0;
        CHECK(idle < IDLE_STEPS_MAX);
        pair->now_us = at_us > pair->now_us ? at_us : pair->now_us;
        set_clocks(pair);
        arrive(pair);
    }
}

void
pair_run(pair_t *pair, uint64_t for_us)
{
    (void)pair_until(pair, for_us, NULL, NULL);
    pair_pump(pair);
}

uint64_t
pair_dial(pair_t *pair, int from, int to)
{
    uint64_t handle = 0;
    CHECK_EQUAL(
        bp_connection_open(pair->sides[from].engine, &pair->sides[to].address, 0, &handle),
        BP_OK);
    CHECK(handle != 0);
    return handle;
}

static bool
is_settled(pair_t *pair, void *context)
{
    const uint64_t *what = context; /* side, handle, accepted connections before */
    pair_connection_t *connection = pair_connection(pair, (int)what[0], what[1]);
    return connection->closed ||
           (connection->connected && pair_accepted(pair, (int)what[3]) != what[2]);
}

uint64_t
pair_connect(pair_t *pair, int from, int to)
{
    uint64_t handle = pair_dial(pair, from, to);
    uint64_t what[4] = {(uint64_t)from, handle, pair_accepted(pair, to), (uint64_t)to};
    CHECK(pair_until(pair, 10 * PAIR_SECOND, is_settled, what));
    CHECK(!pair_connection(pair, from, handle)->closed);
    return handle;
}

uint64_t
pair_open(pair_t *pair, int side, uint64_t connection, int uni)
{
    uint64_t handle = 0;
    uint64_t id = 0;
    CHECK_EQUAL(bp_stream_open(pair->sides[side].engine, connection, uni, &handle, &id), BP_OK);
    pair_stream_t *stream = pair_stream(pair, side, handle);
    stream->id = id;
    stream->connection = connection;
    return handle;
}
