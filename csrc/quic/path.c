/*
 * Paths: statistics, and moving a connection to another local socket.
 *
 * Only the side that dialled may probe: the library accepts a probe from the other
 * side, does not move, and breaks later moves. A probe that gets no answer reports
 * nothing, so the deadline is ours.
 */
#include <string.h>

#include "internal.h"

int
bp_connection_stats(bp_engine_t *engine, uint64_t handle, bp_path_stats_t *stats)
{
    const bp_connection_t *connection = bp_connection_find(engine, handle);
    if (connection == NULL) {
        return BP_E_GONE;
    }
    bp_pq_quality_t quality;
    struct sockaddr_storage address;
    memset(&quality, 0, sizeof(quality));
    memset(stats, 0, sizeof(*stats));
    int status =
        engine->pq->picoquic_get_path_quality(connection->cnx, connection->path_id, &quality);
    if (status != 0) {
        engine->pq->picoquic_get_default_path_quality(connection->cnx, &quality);
    }
    stats->srtt_us = quality.rtt;
    stats->rtt_latest_us = quality.rtt_sample;
    stats->rtt_min_us = quality.rtt_min;
    stats->rtt_var_us = quality.rtt_variant;
    stats->cwnd = quality.cwin;
    stats->in_flight = quality.bytes_in_transit;
    stats->mtu = connection->mtu;
    stats->sent = quality.sent;
    stats->lost = quality.lost;
    stats->bytes_sent = quality.bytes_sent;
    stats->bytes_received = quality.bytes_received;
    memset(&address, 0, sizeof(address));
    (void)engine->pq->picoquic_get_path_addr(connection->cnx, connection->path_id, 1, &address);
    bp_address_from_native(&address, &stats->local);
    memset(&address, 0, sizeof(address));
    (void)engine->pq->picoquic_get_path_addr(connection->cnx, connection->path_id, 2, &address);
    bp_address_from_native(&address, &stats->remote);
    return BP_OK;
}

/* Both sides offer multipath, so that old paths can be retired and ids are not used up. */
static bool
is_multipath(const bp_connection_t *connection)
{
    const bp_engine_t *engine = connection->engine;
    const bp_pq_tp_t *peer = engine->pq->picoquic_get_transport_parameters(connection->cnx, 0);
    return engine->config.multipath && peer != NULL && peer->path_id_max > 0;
}

static int
send_probe(bp_connection_t *connection, int socket)
{
    bp_engine_t *engine = connection->engine;
    if (engine->pq->picoquic_get_cnx_state(connection->cnx) != BP_PQ_STATE_READY) {
        return BP_E_STATE; /* RFC 9000, 9: not before the handshake is confirmed */
    }
    int status = engine->pq->picoquic_probe_new_path_ex(
        connection->cnx, (const struct sockaddr *)&connection->peer,
        (const struct sockaddr *)&engine->sockets[socket].local, 0, engine->now_us, 0);
    if (status == 0) {
        connection->probes++;
        /* Without this an idle connection never sends its probe. */
        engine->pq->picoquic_set_app_wake_time(connection->cnx, engine->now_us);
        return BP_OK;
    }
    bool spent = status == BP_PQ_ERROR_PATH_CID_BLOCKED ||
                 status == BP_PQ_ERROR_PATH_ID_BLOCKED || status == BP_PQ_ERROR_PATH_LIMIT;
    /* So it also says that no path id is left, or that the old path there still lingers. */
    bool lingers = status == BP_PQ_ERROR_MEMORY || status == BP_PQ_ERROR_PATH_DUPLICATE;
    if (spent || (lingers && is_multipath(connection))) {
        return BP_E_EXHAUSTED;
    }
    engine->last_error = status;
    return BP_E_LIBRARY;
}

int
bp_connection_migrate(bp_engine_t *engine, uint64_t handle, int socket, uint64_t timeout_us)
{
    bp_connection_t *connection = bp_connection_find(engine, handle);
    if (connection == NULL) {
        return BP_E_GONE;
    }
    if (socket < 0 || socket >= BP_SOCKETS_MAX || engine->sockets[socket].fd < 0) {
        return BP_E_ARGUMENT;
    }
    if (engine->sockets[socket].local.ss_family != connection->peer.ss_family) {
        return BP_E_ARGUMENT;
    }
    if (!connection->dialled || !connection->connected || connection->probe_socket >= 0) {
        return BP_E_STATE;
    }
    const bp_pq_tp_t *peer = engine->pq->picoquic_get_transport_parameters(connection->cnx, 0);
    if (peer != NULL && peer->migration_disabled) {
        return BP_E_DISABLED;
    }
    bp_clock_refresh(engine);
    int status = send_probe(connection, socket);
    bool waits = status == BP_E_STATE || (status == BP_E_EXHAUSTED && is_multipath(connection));
    if (status != BP_OK && !waits) {
        return status;
    }
    connection->probe_waits = waits;
    connection->probe_socket = socket;
    connection->probe_deadline_us = engine->now_us + timeout_us;
    engine->probing++;
    return BP_OK;
}

void
bp_path_available(bp_connection_t *connection, uint64_t path_id)
{
    bp_engine_t *engine = connection->engine;
    struct sockaddr_storage local;
    memset(&local, 0, sizeof(local));
    bool known = engine->pq->picoquic_get_path_addr(connection->cnx, path_id, 1, &local) == 0;
    bool moved = false;
    if (connection->probe_socket >= 0 && known) {
        moved = bp_address_equal(&local, &engine->sockets[connection->probe_socket].local);
    }
    if (moved) {
        connection->probe_socket = -1;
        engine->probing--;
        if (path_id != connection->path_id) {
            /* Multipath: the new path came beside the old one, which has served its time. */
            (void)engine->pq->picoquic_abandon_path(connection->cnx, connection->path_id, 0,
                                                    engine->now_us);
        }
    }
    if (moved || !connection->dialled) {
        connection->path_id = path_id;
        connection->renewals = BP_RENEWALS_MAX;
        (void)engine->pq->picoquic_get_path_addr(connection->cnx, path_id, 2,
                                                 &connection->peer);
    }
    bp_event_t *event = bp_event_push(engine, BP_EVENT_PATH, connection, NULL);
    if (event != NULL) {
        event->flags = moved ? BP_FLAG_MOVED : 0;
        event->a = path_id;
    }
}

/* Path ids are given out in order and not used again, so a path that failed must be retired. */
static void
retire_probe(bp_connection_t *connection)
{
    const bp_engine_t *engine = connection->engine;
    const struct sockaddr_storage *target = &engine->sockets[connection->probe_socket].local;
    for (uint64_t id = 0; is_multipath(connection) && id <= connection->probes; id++) {
        struct sockaddr_storage local;
        memset(&local, 0, sizeof(local));
        if (id != connection->path_id &&
            engine->pq->picoquic_get_path_addr(connection->cnx, id, 1, &local) == 0 &&
            bp_address_equal(&local, target)) {
            (void)engine->pq->picoquic_abandon_path(connection->cnx, id, 0, engine->now_us);
        }
    }
}

/* Send probes that had to wait, and end migrates whose time is up: the old path was in use all along. */
void
bp_path_expire(bp_engine_t *engine)
{
    for (uint32_t i = 0; i < engine->connection_top; i++) {
        bp_connection_t *connection = &engine->connections[i];
        if (!connection->used || connection->probe_socket < 0) {
            continue;
        }
        if (connection->probe_waits &&
            send_probe(connection, connection->probe_socket) == BP_OK) {
            connection->probe_waits = false;
        }
        if (engine->now_us >= connection->probe_deadline_us &&
            bp_event_push(engine, BP_EVENT_PATH_FAILED, connection, NULL) != NULL) {
            retire_probe(connection);
            connection->probe_socket = -1;
            engine->probing--;
        }
    }
}
