/*
 * The event batch: what picoquic reported since the last consume.
 *
 * Received bytes live in the arena; a chunk that does not fit (data released by a
 * filled gap can be as large as a stream window) gets a block of its own. Neither
 * moves before consume, so events may point at them.
 */
#include <stdlib.h>
#include <string.h>

#include "internal.h"

static bool
grow(bp_engine_t *engine)
{
    if (engine->event_capacity >= engine->event_limit) {
        return false;
    }
    uint32_t capacity = engine->event_capacity <= engine->event_limit / 2
                            ? engine->event_capacity * 2
                            : engine->event_limit;
    bp_event_t *events = realloc(engine->events, (size_t)capacity * sizeof(*events));
    if (events == NULL) {
        return false;
    }
    engine->events = events;
    engine->event_capacity = capacity;
    return true;
}

/* One crowded batch must not cost its memory for ever. */
static void
shrink(bp_engine_t *engine)
{
    uint32_t capacity = engine->config.events_max;
    if (engine->event_capacity <= capacity + BP_EVENTS_SLACK) {
        return;
    }
    bp_event_t *events = realloc(engine->events, (size_t)capacity * sizeof(*events));
    if (events != NULL) {
        engine->events = events;
        engine->event_capacity = capacity;
    }
}

/* So many events wait that another datagram had better be lost, and sent again. */
bool
bp_events_crowded(const bp_engine_t *engine)
{
    return engine->event_count >= engine->config.events_max + BP_EVENTS_SLACK;
}

/* NULL when the batch is at its limit, or memory is. */
bp_event_t *
bp_event_push(bp_engine_t *engine, uint16_t type, const bp_connection_t *connection,
              const bp_stream_t *stream)
{
    if (engine->event_count == engine->event_capacity && !grow(engine)) {
        return NULL;
    }
    bp_event_t *event = &engine->events[engine->event_count++];
    memset(event, 0, sizeof(*event));
    event->type = type;
    event->connection = bp_connection_handle(connection);
    if (stream != NULL) {
        event->stream = bp_stream_handle(stream);
        event->stream_id = stream->id;
    }
    return event;
}

/* A place for length bytes that stays put until consume, or NULL. */
static uint8_t *
place(bp_engine_t *engine, size_t length)
{
    if (length <= engine->config.arena_bytes - engine->arena_used) {
        uint8_t *bytes = engine->arena + engine->arena_used;
        engine->arena_used += length;
        return bytes;
    }
    bp_block_t *block = malloc(sizeof(*block) + length);
    if (block == NULL) {
        return NULL;
    }
    engine->stats.arena_overflows++;
    block->next = engine->blocks;
    engine->blocks = block;
    return block->bytes;
}

/* Bytes that continue the previous event's stream and place join that event. */
int
bp_event_push_data(bp_engine_t *engine, bp_stream_t *stream, const uint8_t *data, size_t length,
                   uint16_t flags)
{
    uint8_t *bytes = NULL;
    if (length > 0) {
        bytes = place(engine, length);
        if (bytes == NULL) {
            return BP_E_MEMORY;
        }
        memcpy(bytes, data, length);
    }
    if (engine->event_count > 0) {
        bp_event_t *last = &engine->events[engine->event_count - 1];
        bool joins =
            last->type == BP_EVENT_DATA && last->stream == bp_stream_handle(stream) &&
            (length == 0 || (last->data != NULL && last->data + last->length == bytes));
        if (joins) {
            last->length += length;
            last->flags |= flags;
            return BP_OK;
        }
    }
    bp_event_t *event = bp_event_push(engine, BP_EVENT_DATA, stream->connection, stream);
    if (event == NULL) {
        return BP_E_LIMIT;
    }
    event->flags = flags;
    event->data = bytes;
    event->length = length;
    return BP_OK;
}

const bp_event_t *
bp_engine_events(const bp_engine_t *engine, uint32_t *count)
{
    *count = engine->event_count;
    return engine->events;
}

void
bp_engine_consume(bp_engine_t *engine)
{
    engine->event_count = 0;
    shrink(engine);
    engine->arena_used = 0;
    while (engine->blocks != NULL) {
        bp_block_t *block = engine->blocks;
        engine->blocks = block->next;
        free(block);
    }
    bp_engine_reap(engine);
    bp_stream_recycle(engine);
    bp_connection_recycle(engine);
    bp_connection_flush_closed(engine);
}
