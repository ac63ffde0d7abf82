/*
 * What picoquic tells us, turned into events. Nothing here calls the application,
 * and nothing deletes a picoquic context: that happens in bp_engine_reap.
 */
#include <string.h>

#include "internal.h"

/* Returning this from a callback makes picoquic close the connection (INTERNAL_ERROR). */
#define REFUSE (-1)

/*
 * The stream, or a slot for one that the peer has just opened: its next event says NEW.
 * NULL when there is no slot left.
 */
static bp_stream_t *
known_or_new(bp_connection_t *connection, uint64_t id, bp_stream_t *stream, uint16_t *flags)
{
    if (stream != NULL) {
        return stream;
    }
    stream = bp_stream_take(connection, id);
    if (stream == NULL) {
        connection->engine->stats.streams_refused++;
    }
    *flags |= BP_FLAG_NEW;
    return stream;
}

static int
on_data(bp_connection_t *connection, uint64_t id, const uint8_t *bytes, size_t length, bool fin,
        bp_stream_t *stream)
{
    bp_engine_t *engine = connection->engine;
    uint16_t flags = fin ? BP_FLAG_FIN : 0;
    stream = known_or_new(connection, id, stream, &flags);
    if (stream == NULL) {
        return REFUSE;
    }
    if (!stream->can_receive) {
        /* We asked the peer to stop; what was under way is dropped, and credited at once. */
        bp_stream_stop(stream);
        stream->delivered += length;
        stream->consumed += length;
        return 0;
    }
    if (!stream->controlled && !fin) {
        stream->controlled = true;
        (void)engine->pq->picoquic_set_app_flow_control(connection->cnx, id, 1);
    }
    int status = bp_event_push_data(engine, stream, bytes, length, flags);
    if (status != BP_OK) {
        return REFUSE;
    }
    stream->delivered += length;
    if (fin) {
        stream->can_receive = false;
        bp_stream_settle(stream);
    }
    return 0;
}

static int
on_reset(bp_connection_t *connection, uint64_t id, bp_stream_t *stream)
{
    bp_engine_t *engine = connection->engine;
    uint16_t flags = 0;
    stream = known_or_new(connection, id, stream, &flags);
    if (stream == NULL) {
        return REFUSE;
    }
    stream->can_receive = false;
    bp_stream_settle(stream);
    bp_event_t *event = bp_event_push(engine, BP_EVENT_RESET, connection, stream);
    if (event == NULL) {
        return REFUSE;
    }
    event->flags = flags;
    event->a = engine->pq->picoquic_get_remote_stream_error(connection->cnx, id);
    return 0;
}

/* RFC 9000, 3.5: whoever is asked to stop answers with a reset of the same code. */
static int
on_stop_sending(bp_connection_t *connection, uint64_t id, bp_stream_t *stream)
{
    bp_engine_t *engine = connection->engine;
    uint16_t flags = 0;
    stream = known_or_new(connection, id, stream, &flags);
    if (stream == NULL) {
        return REFUSE;
    }
    uint64_t code = engine->pq->picoquic_get_remote_stop_sending_error(connection->cnx, id);
    bp_stream_give_up(stream, code);
    bp_event_t *event = bp_event_push(engine, BP_EVENT_STOP_SENDING, connection, stream);
    if (event == NULL) {
        return REFUSE;
    }
    event->flags = flags;
    event->a = code;
    return 0;
}

static int
on_released(bp_stream_t *stream)
{
    if (stream != NULL) {
        (void)bp_event_push(stream->connection->engine, BP_EVENT_RELEASED, stream->connection,
                            stream);
        bp_stream_drop(stream);
    }
    return 0;
}

static int
on_connected(bp_connection_t *connection)
{
    if (connection->connected) {
        /* Confirmed: credit that was due before could not be sent. */
        bp_stream_give_credits(connection);
        return 0;
    }
    bp_engine_t *engine = connection->engine;
    connection->connected = true;
    if (engine->config.keep_alive_us > 0) { /* 0 would mean half the idle timeout */
        engine->pq->picoquic_enable_keep_alive(connection->cnx, engine->config.keep_alive_us);
    }
    (void)engine->pq->picoquic_get_path_addr(connection->cnx, 0, 2, &connection->peer);
    bp_event_t *event = bp_event_push(engine, BP_EVENT_CONNECTED, connection, NULL);
    if (event == NULL) {
        return REFUSE;
    }
    event->flags = connection->dialled ? 0 : BP_FLAG_ACCEPTED;
    return 0;
}

static void
on_close(bp_connection_t *connection, int event)
{
    bp_engine_t *engine = connection->engine;
    uint64_t local = 0;
    uint64_t remote = 0;
    uint64_t local_app = 0;
    uint64_t remote_app = 0;
    engine->pq->picoquic_get_close_reasons(connection->cnx, &local, &remote, &local_app,
                                           &remote_app);
    uint16_t why = BP_CLOSED_LOCAL;
    if (connection->closing) {
        /* Ours, whatever came last: a peer that has forgotten it answers with a reset. */
        bp_connection_end(connection, why, 0, 0, local_app);
        return;
    }
    if (event == BP_PQ_STATELESS_RESET) {
        why = BP_CLOSED_RESET;
    } else if (event == BP_PQ_APPLICATION_CLOSE) {
        why = BP_CLOSED_APPLICATION;
    } else if (local == BP_PQ_ERROR_HANDSHAKE_TIMEOUT ||
               (local == BP_PQ_ERROR_IDLE_TIMEOUT && !connection->connected)) {
        why = BP_CLOSED_HANDSHAKE;
    } else if (local == BP_PQ_ERROR_IDLE_TIMEOUT || local == BP_PQ_ERROR_REPEAT_TIMEOUT) {
        why = BP_CLOSED_IDLE;
    } else if (remote != 0) {
        why = BP_CLOSED_TRANSPORT;
    }
    bp_connection_end(connection, why, local, remote,
                      why == BP_CLOSED_APPLICATION ? remote_app : local_app);
}

/* A connection a peer opened gets a slot only once its handshake is complete. */
static int
on_accepting(bp_engine_t *engine, bp_pq_cnx_t *cnx, int event)
{
    if (event == BP_PQ_STREAM_DATA || event == BP_PQ_STREAM_FIN ||
        event == BP_PQ_STREAM_RESET) {
        return REFUSE; /* 0-RTT data: replayable, so never accepted */
    }
    if (event != BP_PQ_READY) {
        return 0;
    }
    if (engine->pq->picoquic_tls_is_psk_handshake(cnx)) {
        return REFUSE; /* a resumed session proves nothing about this connection */
    }
    bp_connection_t *connection = bp_connection_take(engine, cnx);
    if (connection == NULL) {
        engine->stats.connections_refused++;
        return REFUSE;
    }
    engine->pq->picoquic_set_callback(cnx, bp_callback, connection);
    connection->renewals = BP_RENEWALS_MAX;
    return on_connected(connection);
}

int
bp_callback(bp_pq_cnx_t *cnx, uint64_t stream_id, uint8_t *bytes, size_t length, int event,
            void *context, void *stream_context)
{
    if (context == NULL) {
        return 0; /* detached: its CLOSED event is out */
    }
    uint32_t magic;
    memcpy(&magic, context, sizeof(magic));
    if (magic == BP_MAGIC_ENGINE) {
        bp_engine_t *engine = context;
        return engine->freeing ? 0 : on_accepting(engine, cnx, event);
    }
    bp_connection_t *connection = context;
    bp_stream_t *stream = stream_context;
    if (connection->engine->freeing) {
        return 0;
    }
    switch (event) {
    case BP_PQ_STREAM_DATA:
    case BP_PQ_STREAM_FIN:
        /* A server that sends before our Finished is not one of ours. */
        return connection->connected ? on_data(connection, stream_id, bytes, length,
                                               event == BP_PQ_STREAM_FIN, stream)
                                     : REFUSE;
    case BP_PQ_STREAM_RESET:
        return connection->connected ? on_reset(connection, stream_id, stream) : REFUSE;
    case BP_PQ_STOP_SENDING:
        return connection->connected ? on_stop_sending(connection, stream_id, stream) : REFUSE;
    case BP_PQ_PREPARE_TO_SEND:
        return stream == NULL ? REFUSE : bp_stream_prepare(stream, bytes, length);
    case BP_PQ_STREAM_RELEASED:
        return on_released(stream);
    case BP_PQ_ALMOST_READY:
        return connection->dialled ? on_connected(connection) : 0;
    case BP_PQ_READY:
        return on_connected(connection);
    case BP_PQ_STATELESS_RESET:
    case BP_PQ_CLOSE:
    case BP_PQ_APPLICATION_CLOSE:
        on_close(connection, event);
        return 0;
    case BP_PQ_PATH_AVAILABLE:
        bp_path_available(connection, stream_id);
        return 0;
    case BP_PQ_PATH_DELETED:
        connection->renewals = BP_RENEWALS_MAX;
        return 0;
    default:
        return 0;
    }
}
