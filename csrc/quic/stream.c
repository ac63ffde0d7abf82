/*
 * Streams: slots, handles, send buffers and receive credit.
 *
 * The send buffer is linear, not a ring, so that an encoder can be lent one
 * contiguous place: reserve, write there, commit. What is not committed was never
 * queued, which makes taking back a failed encoding free.
 */
#include <stdlib.h>
#include <string.h>

#include "hot.h"
#include "internal.h"

uint64_t
bp_stream_handle(const bp_stream_t *stream)
{
    return (uint64_t)stream->generation << 32 | stream->index;
}

bp_stream_t *
bp_stream_find(const bp_engine_t *engine, uint64_t handle)
{
    uint32_t index = (uint32_t)handle;
    if (index >= engine->slab_count * BP_SLAB_SLOTS) {
        return NULL;
    }
    bp_stream_t *stream = &engine->slabs[index / BP_SLAB_SLOTS][index % BP_SLAB_SLOTS];
    bool alive = stream->connection != NULL && stream->generation == (uint32_t)(handle >> 32);
    return alive ? stream : NULL;
}

static bool
add_slab(bp_engine_t *engine)
{
    if (engine->slab_count * BP_SLAB_SLOTS >= engine->config.streams_max) {
        return false;
    }
    bp_stream_t *slab = calloc(BP_SLAB_SLOTS, sizeof(*slab));
    if (slab == NULL) {
        return false;
    }
    uint32_t base = engine->slab_count * BP_SLAB_SLOTS;
    for (uint32_t i = BP_SLAB_SLOTS; i-- > 0;) {
        slab[i].index = base + i;
        slab[i].next = engine->stream_free;
        engine->stream_free = &slab[i];
    }
    engine->slabs[engine->slab_count++] = slab;
    return true;
}

void
bp_stream_free_slabs(bp_engine_t *engine)
{
    for (uint32_t i = 0; i < engine->slab_count; i++) {
        for (uint32_t j = 0; j < BP_SLAB_SLOTS; j++) {
            free(engine->slabs[i][j].buffer);
        }
        free(engine->slabs[i]);
    }
    free(engine->slabs);
}

/* Bit 0 of a QUIC stream id names the opener (0: client), bit 1 the direction (1: one-way). */
bp_stream_t *
bp_stream_take(bp_connection_t *connection, uint64_t id)
{
    bp_engine_t *engine = connection->engine;
    if (engine->stream_count >= engine->config.streams_max ||
        (engine->stream_free == NULL && !add_slab(engine))) {
        return NULL;
    }
    bp_stream_t *stream = engine->stream_free;
    engine->stream_free = stream->next;
    uint32_t index = stream->index;
    uint32_t generation = stream->generation + 1;
    memset(stream, 0, sizeof(*stream));
    bool ours = ((id & 1u) == 0) == connection->dialled;
    bool one_way = (id & 2u) != 0;
    stream->index = index;
    stream->generation = generation == 0 ? 1 : generation;
    stream->connection = connection;
    stream->id = id;
    stream->limit = engine->config.stream_window_first;
    stream->can_send = ours || !one_way;
    stream->can_receive = !ours || !one_way;
    stream->known = !ours;
    stream->next = connection->streams;
    if (connection->streams != NULL) {
        connection->streams->previous = stream;
    }
    connection->streams = stream;
    bp_stream_settle(stream);
    engine->stream_count++;
    (void)engine->pq->picoquic_set_app_stream_ctx(connection->cnx, id, stream);
    return stream;
}

static uint32_t
queued(const bp_stream_t *stream)
{
    return stream->tail - stream->head;
}

/* Count n bytes of stream as no longer queued, and wake who waited for that. */
static void
unqueue(bp_stream_t *stream, size_t n)
{
    bp_connection_t *connection = stream->connection;
    connection->queued -= n;
    if (stream->waiting && queued(stream) <= connection->engine->config.send_low &&
        bp_event_push(connection->engine, BP_EVENT_WRITABLE, connection, stream) != NULL) {
        stream->waiting = false;
    }
}

static void
give_back(bp_stream_t *stream)
{
    bp_buffer_give(stream->connection->engine, stream->buffer, stream->capacity);
    stream->buffer = NULL;
    stream->capacity = 0;
}

static void
discard_queue(bp_stream_t *stream)
{
    size_t n = queued(stream);
    stream->waiting = false;
    give_back(stream);
    stream->head = 0;
    stream->tail = 0;
    unqueue(stream, n);
}

/*
 * Count anew what this stream may come to hold: what the peer may still send and what is
 * not used up, or, once nothing more can come, the latter alone.
 */
void
bp_stream_settle(bp_stream_t *stream)
{
    bool more = stream->can_receive && stream->limit > stream->delivered;
    uint64_t share = (more ? stream->limit : stream->delivered) - stream->consumed;
    stream->connection->promised += share - stream->share; /* modulo 2^64 */
    stream->share = share;
}

/*
 * Raise the peer's limit to what is used up plus a window, if that is worth a frame. A
 * stream not read yet keeps its first window: the peer may not even know of it. When the
 * connection's window is promised to others, a stream gets its first window again and no
 * more: with nothing it would stand still while others hold credit they do not use.
 */
static void
give_credit(bp_stream_t *stream)
{
    bp_connection_t *connection = stream->connection;
    const bp_engine_t *engine = connection->engine;
    const bp_config_t *config = &engine->config;
    uint64_t window = config->stream_window;
    uint64_t target = stream->consumed + window;
    if (!stream->can_receive || stream->consumed == 0 || target < stream->limit + window / 2) {
        return;
    }
    if (connection->promised + target - stream->limit > config->connection_window) {
        uint64_t least = config->stream_window_first;
        connection->starved = true;
        target = least < window ? stream->consumed + least : target;
        if (target < stream->limit + least / 2) {
            return;
        }
    }
    /* The library counts from what it has delivered, we from what was used up. */
    uint64_t ahead = target - stream->delivered;
    if (engine->pq->picoquic_open_flow_control(connection->cnx, stream->id, ahead) == 0) {
        stream->limit = target;
        bp_stream_settle(stream);
    }
}

void
bp_stream_give_credits(bp_connection_t *connection)
{
    for (bp_stream_t *stream = connection->streams; stream != NULL; stream = stream->next) {
        give_credit(stream);
    }
}

/* Less is promised than before: give the credit that was withheld, once it is worth it. */
static void
feed_starved(bp_connection_t *connection)
{
    const bp_config_t *config = &connection->engine->config;
    if (connection->starved && connection->promised <= config->connection_window / 2) {
        connection->starved = false;
        bp_stream_give_credits(connection);
    }
}

void
bp_stream_drop(bp_stream_t *stream)
{
    bp_connection_t *connection = stream->connection;
    bp_engine_t *engine = connection->engine;
    discard_queue(stream);
    if (stream->previous != NULL) {
        stream->previous->next = stream->next;
    } else {
        connection->streams = stream->next;
    }
    if (stream->next != NULL) {
        stream->next->previous = stream->previous;
    }
    stream->connection = NULL;
    stream->previous = NULL;
    stream->next = engine->stream_limbo;
    engine->stream_limbo = stream;
    engine->stream_count--;
    connection->promised -= stream->share;
    feed_starved(connection);
}

/* Slots freed before this consume may be used again: no event names them any more. */
void
bp_stream_recycle(bp_engine_t *engine)
{
    while (engine->stream_limbo != NULL) {
        bp_stream_t *stream = engine->stream_limbo;
        engine->stream_limbo = stream->next;
        stream->next = engine->stream_free;
        engine->stream_free = stream;
    }
}

int
bp_stream_open(bp_engine_t *engine, uint64_t handle, int uni, uint64_t *stream_handle,
               uint64_t *stream_id)
{
    bp_connection_t *connection = bp_connection_find(engine, handle);
    if (connection == NULL) {
        return BP_E_GONE;
    }
    if (!connection->connected) {
        return BP_E_STATE;
    }
    uint64_t id = engine->pq->picoquic_get_next_local_stream_id(connection->cnx, uni);
    bp_stream_t *stream = bp_stream_take(connection, id);
    if (stream == NULL) {
        return BP_E_LIMIT;
    }
    *stream_handle = bp_stream_handle(stream);
    *stream_id = id;
    return BP_OK;
}

/*
 * Bytes to the high-water mark; at 0 the stream owes a WRITABLE. Beyond the connection's
 * mark that of a stream is its low one: never nothing, or streams whose peer does not read
 * would hold up all the others.
 */
static int64_t
room(bp_stream_t *stream)
{
    const bp_connection_t *connection = stream->connection;
    const bp_config_t *config = &connection->engine->config;
    uint32_t mark = config->send_high;
    if (connection->queued >= config->connection_send_high) {
        mark = config->send_low > 0 ? config->send_low : 1;
    }
    if (queued(stream) >= mark) {
        stream->waiting = true;
        return 0;
    }
    return mark - queued(stream);
}

/*
 * Make place for n bytes behind the live ones and the keep after them. Half as much again stays free, so that
 * a queue that never drains is not moved for every few bytes written to it.
 */
static int
make_place(bp_stream_t *stream, size_t keep, size_t n)
{
    bp_engine_t *engine = stream->connection->engine;
    size_t live = queued(stream);
    size_t wanted = live + keep + n + live / 2;
    if (wanted <= stream->capacity) {
        memmove(stream->buffer, stream->buffer + stream->head, live + keep);
    } else {
        uint32_t capacity;
        uint8_t *buffer = bp_buffer_take(engine, wanted, &capacity);
        if (buffer == NULL) {
            return BP_E_MEMORY;
        }
        if (live + keep > 0) {
            memcpy(buffer, stream->buffer + stream->head, live + keep);
        }
        give_back(stream);
        stream->buffer = buffer;
        stream->capacity = capacity;
    }
    stream->head = 0;
    stream->tail = (uint32_t)live;
    return BP_OK;
}

/*
 * bp_stream_reserve - lend a contiguous place behind the queued bytes.
 *
 * Requires  keep bytes written behind the queue since the last commit are still
 *           wanted (a frame under construction).
 * Ensures   *place points at those keep bytes, followed by room for n more. It holds
 *           until the next call about this stream, or bp_engine_send.
 * Returns   BP_OK, BP_E_GONE, BP_E_STATE, BP_E_FULL, BP_E_ARGUMENT (keep exceeds what
 *           was lent), BP_E_MEMORY.
 */
int
bp_stream_reserve(bp_engine_t *engine, uint64_t handle, size_t keep, size_t n, uint8_t **out)
{
    bp_stream_t *stream = bp_stream_find(engine, handle);
    if (stream == NULL) {
        return BP_E_GONE;
    }
    if (!stream->can_send || stream->fin_queued) {
        return BP_E_STATE;
    }
    size_t live = queued(stream);
    size_t max = engine->config.send_max;
    if (keep > max || n > max || live + keep + n > max) {
        return BP_E_FULL;
    }
    if (keep > stream->capacity - stream->tail) {
        return BP_E_ARGUMENT;
    }
    if (keep + n > stream->capacity - stream->tail) {
        int status = make_place(stream, keep, n);
        if (status != BP_OK) {
            return status;
        }
    }
    /* Without a buffer nothing was asked for, and NULL has no offset. */
    *out = stream->buffer == NULL ? NULL : stream->buffer + stream->tail;
    return BP_OK;
}

static int
activate(bp_stream_t *stream)
{
    if (stream->active) {
        return BP_OK;
    }
    bp_connection_t *connection = stream->connection;
    int status = connection->engine->pq->picoquic_mark_active_stream(connection->cnx,
                                                                     stream->id, 1, stream);
    if (status != 0) {
        connection->engine->last_error = status;
        return BP_E_LIBRARY;
    }
    stream->active = true;
    return BP_OK;
}

/*
 * bp_stream_commit - queue n of the reserved bytes; fin ends the stream after them.
 *
 * Requires  bp_stream_reserve lent at least n bytes and nothing else touched the
 *           stream since.
 * Returns   as bp_stream_write, or BP_E_ARGUMENT (more than the buffer holds).
 */
int64_t
bp_stream_commit(bp_engine_t *engine, uint64_t handle, size_t n, int fin)
{
    bp_stream_t *stream = bp_stream_find(engine, handle);
    if (stream == NULL) {
        return BP_E_GONE;
    }
    if (!stream->can_send || stream->fin_queued) {
        return BP_E_STATE;
    }
    if (n > stream->capacity - stream->tail) {
        return BP_E_ARGUMENT;
    }
    if (!stream->active) {
        bp_clock_refresh(engine);
    }
    int status = activate(stream);
    if (status != BP_OK) {
        return status;
    }
    stream->tail += (uint32_t)n;
    stream->connection->queued += n;
    stream->fin_queued = fin != 0;
    return room(stream);
}

int64_t
bp_stream_write(bp_engine_t *engine, uint64_t handle, const uint8_t *data, size_t length,
                int fin)
{
    uint8_t *place;
    int status = bp_stream_reserve(engine, handle, 0, length, &place);
    if (status != BP_OK) {
        return status;
    }
    if (length > 0) {
        memcpy(place, data, length);
    }
    return bp_stream_commit(engine, handle, length, fin);
}

/*
 * Reset our direction. What is already in packets still arrives (RESET_STREAM_AT): the
 * library gives neither connection credit nor a new stream for bytes that never do.
 */
static void
reset_now(bp_stream_t *stream, uint64_t code)
{
    const bp_picoquic_t *pq = stream->connection->engine->pq;
    bp_pq_cnx_t *cnx = stream->connection->cnx;
    stream->active = false;
    stream->reset_due = false;
    if (pq->picoquic_reset_stream_at(cnx, stream->id, code, stream->sent) != 0) {
        /* The peer does not know the extension. */
        (void)pq->picoquic_reset_stream(cnx, stream->id, code);
    }
    /* picoquic forgets its pointer to us on reset; without it RELEASED would never come. */
    (void)pq->picoquic_set_app_stream_ctx(cnx, stream->id, stream);
}

/* picoquic has room bytes in a packet for this stream; give it what is queued. */
int
bp_stream_prepare(bp_stream_t *stream, void *packet, size_t packet_room)
{
    const bp_picoquic_t *pq = stream->connection->engine->pq;
    size_t left = queued(stream);
    size_t n = left < packet_room ? left : packet_room;
    bool fin = stream->fin_queued && n == left;
    bool more = n < left;
    if (stream->reset_due) {
        (void)pq->picoquic_provide_stream_data_buffer(packet, 0, 0, 0);
        stream->active = false;
        stream->known = true;
        reset_now(stream, stream->reset_code);
        bp_stream_stop(stream);
        /* This call makes no packet, so without this the frames would wait for another. */
        pq->picoquic_set_app_wake_time(stream->connection->cnx,
                                       stream->connection->engine->now_us);
        return 0;
    }
    uint8_t *out = pq->picoquic_provide_stream_data_buffer(packet, n, fin, more);
    if (out == NULL) {
        return n == 0 && !fin ? 0 : -1;
    }
    if (n > 0) {
        memcpy(out, stream->buffer + stream->head, n);
    }
    stream->head += (uint32_t)n;
    stream->sent += n;
    stream->active = more;
    if (fin) {
        stream->can_send = false;
    }
    if (!stream->known && (n > 0 || fin)) {
        stream->known = true;
        bp_stream_stop(stream);
    }
    if (stream->head == stream->tail) {
        stream->head = 0;
        stream->tail = 0;
        if (stream->capacity > BP_STREAM_BUFFER_KEEP) {
            give_back(stream);
        }
    }
    unqueue(stream, n);
    return 0;
}

int
bp_stream_consumed(bp_engine_t *engine, uint64_t handle, uint64_t length)
{
    bp_stream_t *stream = bp_stream_find(engine, handle);
    if (stream == NULL) {
        return BP_E_GONE;
    }
    if (length > stream->delivered - stream->consumed) {
        return BP_E_ARGUMENT;
    }
    stream->consumed += length;
    bp_stream_settle(stream);
    feed_starved(stream->connection);
    give_credit(stream);
    return BP_OK;
}

/*
 * Give up our direction. What nobody has heard of cannot be reset either, as the peer may
 * have no room for it yet: the library asks for its data once there is room.
 */
void
bp_stream_give_up(bp_stream_t *stream, uint64_t code)
{
    stream->can_send = false;
    discard_queue(stream);
    if (stream->known) {
        reset_now(stream, code);
        return;
    }
    stream->reset_due = true;
    stream->reset_code = code;
    (void)activate(stream);
}

int
bp_stream_reset(bp_engine_t *engine, uint64_t handle, uint64_t code)
{
    bp_stream_t *stream = bp_stream_find(engine, handle);
    if (stream == NULL) {
        return BP_E_GONE;
    }
    if (!stream->can_send) {
        return BP_E_STATE;
    }
    bp_clock_refresh(engine);
    bp_stream_give_up(stream, code);
    return BP_OK;
}

/*
 * Send the STOP_SENDING that is due, if one is. To name a stream the peer has no room for
 * yet would end the connection, so this waits until the peer knows the stream.
 */
void
bp_stream_stop(bp_stream_t *stream)
{
    if (!stream->stop_due) {
        return;
    }
    const bp_picoquic_t *pq = stream->connection->engine->pq;
    bp_pq_cnx_t *cnx = stream->connection->cnx;
    stream->stop_due = false;
    (void)pq->picoquic_stop_sending(cnx, stream->id, stream->stop_code);
    /* As on reset. */
    (void)pq->picoquic_set_app_stream_ctx(cnx, stream->id, stream);
}

int
bp_stream_stop_sending(bp_engine_t *engine, uint64_t handle, uint64_t code)
{
    bp_stream_t *stream = bp_stream_find(engine, handle);
    if (stream == NULL) {
        return BP_E_GONE;
    }
    if (!stream->can_receive) {
        return BP_E_STATE;
    }
    bp_clock_refresh(engine);
    stream->can_receive = false;
    stream->stop_due = true;
    stream->stop_code = code;
    if (stream->known) {
        bp_stream_stop(stream);
    }
    stream->consumed = stream->delivered;
    bp_stream_settle(stream);
    feed_starved(stream->connection);
    return BP_OK;
}

int
bp_stream_priority(bp_engine_t *engine, uint64_t handle, uint8_t priority)
{
    const bp_stream_t *stream = bp_stream_find(engine, handle);
    if (stream == NULL) {
        return BP_E_GONE;
    }
    int status =
        engine->pq->picoquic_set_stream_priority(stream->connection->cnx, stream->id, priority);
    if (status != 0) {
        engine->last_error = status;
        return BP_E_LIBRARY;
    }
    return BP_OK;
}

int64_t
bp_stream_queued(const bp_engine_t *engine, uint64_t handle)
{
    const bp_stream_t *stream = bp_stream_find(engine, handle);
    return stream == NULL ? BP_E_GONE : (int64_t)queued(stream);
}
