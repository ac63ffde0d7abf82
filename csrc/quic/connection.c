/* Connections: slots, handles, opening and ending. */
#include <stdlib.h>
#include <string.h>

#include "udp.h"

uint64_t
bp_connection_handle(const bp_connection_t *connection)
{
    return (uint64_t)connection->generation << 32 | connection->index;
}

bp_connection_t *
bp_connection_find(const bp_engine_t *engine, uint64_t handle)
{
    uint32_t index = (uint32_t)handle;
    if (index >= engine->connection_top) {
        return NULL;
    }
    bp_connection_t *connection = &engine->connections[index];
    bool alive = connection->used && connection->generation == (uint32_t)(handle >> 32);
    return alive ? connection : NULL;
}

bp_connection_t *
bp_connection_take(bp_engine_t *engine, bp_pq_cnx_t *cnx)
{
    bp_connection_t *connection = engine->connection_free;
    if (connection != NULL) {
        engine->connection_free = connection->next;
    } else if (engine->connection_top < engine->config.connections_max) {
        connection = &engine->connections[engine->connection_top];
        connection->index = engine->connection_top++;
    } else {
        return NULL;
    }
    uint32_t index = connection->index;
    uint32_t generation = connection->generation + 1;
    memset(connection, 0, sizeof(*connection));
    connection->magic = BP_MAGIC_CONNECTION;
    connection->index = index;
    connection->generation = generation == 0 ? 1 : generation;
    connection->used = true;
    connection->engine = engine;
    connection->cnx = cnx;
    connection->probe_socket = -1;
    engine->connection_count++;
    return connection;
}

/* connections_max places are enough: slots are reused only after a consume, which reaps. */
static void
reap_later(bp_engine_t *engine, bp_pq_cnx_t *cnx)
{
    engine->reap[engine->reap_count++] = cnx;
}

static void
release(bp_connection_t *connection)
{
    bp_engine_t *engine = connection->engine;
    connection->used = false;
    connection->next = engine->connection_limbo;
    engine->connection_limbo = connection;
    engine->connection_count--;
}

static bool
push_closed(bp_connection_t *connection)
{
    bp_event_t *event = bp_event_push(connection->engine, BP_EVENT_CLOSED, connection, NULL);
    if (event == NULL) {
        return false;
    }
    event->flags = connection->closed.flags;
    event->a = connection->closed.a;
    event->b = connection->closed.b;
    event->length = connection->closed.length;
    return true;
}

void
bp_connection_end(bp_connection_t *connection, uint16_t why, uint64_t local, uint64_t remote,
                  uint64_t application)
{
    bp_engine_t *engine = connection->engine;
    /* Nobody is woken or given credit by what goes now. */
    connection->starved = false;
    for (bp_stream_t *s = connection->streams; s != NULL; s = s->next) {
        s->waiting = false;
    }
    while (connection->streams != NULL) {
        bp_stream_drop(connection->streams);
    }
    if (connection->probe_socket >= 0) {
        connection->probe_socket = -1;
        engine->probing--;
    }
    free(connection->certificate);
    connection->certificate = NULL;
    engine->pq->picoquic_set_callback(connection->cnx, bp_callback, NULL);
    if (connection->dialled) {
        reap_later(engine,
                   connection->cnx); /* picoquic frees only the contexts it made itself */
    }
    connection->cnx = NULL;
    connection->closed.flags = why;
    connection->closed.a = local;
    connection->closed.b = remote;
    connection->closed.length = application;
    if (push_closed(connection)) {
        release(connection);
    } else {
        connection->close_pending = true;
        connection->used = false;
        engine->close_pending++;
    }
}

/* End it and have picoquic's context deleted too, without a word to the peer. */
void
bp_connection_kill(bp_connection_t *connection, uint16_t why)
{
    bp_pq_cnx_t *cnx = connection->cnx;
    bool dialled = connection->dialled;
    bp_engine_t *engine = connection->engine;
    bp_connection_end(connection, why, 0, 0, 0);
    if (!dialled) {
        reap_later(engine, cnx);
    }
}

/* Deliver the CLOSED events that found the batch full. */
void
bp_connection_flush_closed(bp_engine_t *engine)
{
    for (uint32_t i = 0; engine->close_pending > 0 && i < engine->connection_top; i++) {
        bp_connection_t *connection = &engine->connections[i];
        if (connection->close_pending && push_closed(connection)) {
            connection->close_pending = false;
            engine->close_pending--;
            release(connection);
        }
    }
}

/* Slots freed before this consume may be used again: no event names them any more. */
void
bp_connection_recycle(bp_engine_t *engine)
{
    while (engine->connection_limbo != NULL) {
        bp_connection_t *connection = engine->connection_limbo;
        engine->connection_limbo = connection->next;
        connection->next = engine->connection_free;
        engine->connection_free = connection;
    }
}

void
bp_engine_reap(bp_engine_t *engine)
{
    while (engine->reap_count > 0) {
        engine->pq->picoquic_delete_cnx(engine->reap[--engine->reap_count]);
    }
}

/* Can peers at that address be dialled from that socket? 0 is whichever fits. */
static bool
can_dial_from(const bp_engine_t *engine, int socket, const struct sockaddr_storage *to)
{
    if (engine->config.simulated) {
        return socket == 0;
    }
    if (socket == 0) {
        struct sockaddr_storage any = {.ss_family = AF_UNSPEC};
        return bp_udp_pick_socket(engine, &any, to) >= 0;
    }
    return socket > 0 && socket < BP_SOCKETS_MAX && engine->sockets[socket].fd >= 0 &&
           engine->sockets[socket].local.ss_family == to->ss_family;
}

int
bp_connection_open(bp_engine_t *engine, const bp_address_t *peer, int socket, uint64_t *handle)
{
    struct sockaddr_storage to;
    if (bp_address_to_native(peer, &to) == 0 || peer->port == 0) {
        return BP_E_ARGUMENT;
    }
    if (!can_dial_from(engine, socket, &to)) {
        return BP_E_STATE;
    }
    bp_clock_refresh(engine);
    bp_pq_cid_t random_id = {{0}, 0};
    bp_pq_cnx_t *cnx = engine->pq->picoquic_create_cnx(engine->quic, random_id, random_id,
                                                       (struct sockaddr *)&to, engine->now_us,
                                                       1, NULL, engine->alpn, 1);
    if (cnx == NULL) {
        return BP_E_MEMORY;
    }
    bp_connection_t *connection = bp_connection_take(engine, cnx);
    if (connection == NULL) {
        engine->pq->picoquic_delete_cnx(cnx);
        return BP_E_LIMIT;
    }
    connection->dialled = true;
    connection->peer = to;
    engine->pq->picoquic_set_callback(cnx, bp_callback, connection);
    int status = 0;
    if (socket > 0) {
        struct sockaddr *from = (struct sockaddr *)&engine->sockets[socket].local;
        status = engine->pq->picoquic_set_local_addr(cnx, from);
    }
    if (status == 0) {
        status = engine->pq->picoquic_start_client_cnx(cnx);
    }
    if (status != 0) {
        engine->last_error = status;
        engine->pq->picoquic_set_callback(cnx, bp_callback, NULL);
        engine->pq->picoquic_delete_cnx(cnx);
        release(connection);
        return BP_E_LIBRARY;
    }
    *handle = bp_connection_handle(connection);
    return BP_OK;
}

int
bp_connection_close(bp_engine_t *engine, uint64_t handle, uint64_t code, const char *reason)
{
    bp_connection_t *connection = bp_connection_find(engine, handle);
    if (connection == NULL) {
        return BP_E_GONE;
    }
    bp_clock_refresh(engine);
    /* picoquic keeps the pointer until the close frame is out; the slot lives longer. */
    size_t length = reason == NULL ? 0 : strnlen(reason, BP_REASON_BYTES_MAX);
    if (length > 0) {
        memcpy(connection->reason, reason, length);
    }
    connection->reason[length] = '\0';
    int status = engine->pq->picoquic_close_ex(connection->cnx, code,
                                               length > 0 ? connection->reason : NULL);
    if (status != 0) {
        return BP_E_STATE;
    }
    connection->closing = true;
    return BP_OK;
}

int
bp_connection_abort(bp_engine_t *engine, uint64_t handle)
{
    bp_connection_t *connection = bp_connection_find(engine, handle);
    if (connection == NULL) {
        return BP_E_GONE;
    }
    bp_connection_kill(connection, BP_CLOSED_LOCAL);
    return BP_OK;
}

int64_t
bp_connection_certificate(bp_engine_t *engine, uint64_t handle, uint8_t *der, size_t capacity)
{
    const bp_connection_t *connection = bp_connection_find(engine, handle);
    if (connection == NULL) {
        return BP_E_GONE;
    }
    if (connection->certificate == NULL) {
        return BP_E_STATE;
    }
    if (connection->certificate_size > capacity) {
        return BP_E_LIMIT;
    }
    memcpy(der, connection->certificate, connection->certificate_size);
    return (int64_t)connection->certificate_size;
}

int
bp_connection_export(bp_engine_t *engine, uint64_t handle, const char *label, uint8_t *secret,
                     size_t size)
{
    bp_connection_t *connection = bp_connection_find(engine, handle);
    if (connection == NULL) {
        return BP_E_GONE;
    }
    if (!connection->connected) {
        return BP_E_STATE;
    }
    int status = engine->pq->picoquic_export_secret(connection->cnx, label, secret, size);
    if (status != 0) {
        engine->last_error = status;
        return BP_E_LIBRARY;
    }
    return BP_OK;
}

int
bp_connection_ping(bp_engine_t *engine, uint64_t handle)
{
    static const uint8_t ping[] = {0x01};
    bp_connection_t *connection = bp_connection_find(engine, handle);
    if (connection == NULL) {
        return BP_E_GONE;
    }
    if (!connection->connected) {
        return BP_E_STATE;
    }
    bp_clock_refresh(engine);
    (void)engine->pq->picoquic_queue_misc_frame(connection->cnx, ping, sizeof(ping), 0, 0);
    return BP_OK;
}
