/* Creating, configuring and freeing an engine; its totals; its hot table. */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "hot.h"
#include "internal.h"

/* picoquic initialises crypto providers and algorithm tables process-wide on first use. */
static pthread_mutex_t library_lock = PTHREAD_MUTEX_INITIALIZER;

static int
check(const bp_config_t *c)
{
    bool files = c->certificate_file != NULL && c->key_file != NULL && c->alpn != NULL &&
                 c->congestion != NULL && c->reset_seed != NULL;
    bool counts = c->connections_max > 0 && c->connections_max <= BP_CONNECTIONS_MAX &&
                  c->streams_max > 0 && c->streams_max <= BP_STREAMS_MAX && c->events_max > 0 &&
                  c->events_max <= BP_EVENTS_MAX;
    bool windows = c->stream_window > 0 && c->stream_window <= BP_WINDOW_MAX &&
                   c->stream_window_first > 0 && c->stream_window_first <= BP_WINDOW_MAX &&
                   c->connection_window > 0 && c->connection_window <= BP_WINDOW_MAX;
    bool queues = c->send_low < c->send_high && c->send_high <= c->send_max &&
                  c->send_max <= (1u << 30) && c->connection_send_high >= c->send_high;
    bool arena = c->arena_bytes >= 2 * BP_RX_BYTES;
    return files && counts && windows && queues && arena ? BP_OK : BP_E_ARGUMENT;
}

static int
allocate(bp_engine_t *engine)
{
    const bp_config_t *c = &engine->config;
    uint32_t slabs = (c->streams_max + BP_SLAB_SLOTS - 1) / BP_SLAB_SLOTS;
    /* Ends are never dropped, so each stream and connection may add one or two of its own. */
    engine->event_limit =
        c->events_max + BP_EVENTS_SLACK + 2 * (c->streams_max + c->connections_max);
    engine->event_capacity = c->events_max;
    engine->events = malloc((size_t)engine->event_capacity * sizeof(*engine->events));
    engine->arena = malloc(c->arena_bytes);
    engine->connections = calloc(c->connections_max, sizeof(*engine->connections));
    engine->reap = calloc(c->connections_max, sizeof(*engine->reap));
    engine->slabs = calloc(slabs, sizeof(bp_stream_t *));
    engine->alpn = strdup(c->alpn);
    bool ok = engine->events != NULL && engine->arena != NULL && engine->connections != NULL &&
              engine->reap != NULL && engine->slabs != NULL && engine->alpn != NULL;
    return ok ? BP_OK : BP_E_MEMORY;
}

/* Without these, two runs with equal inputs differ. */
static void
make_deterministic(bp_engine_t *engine)
{
    engine->pq->picoquic_set_random_initial(engine->quic, 0);
    engine->pq->picoquic_set_optimistic_ack_policy(engine->quic, 0);
    (void)engine->pq->picoquic_set_default_spinbit_policy(engine->quic, 2);
    engine->pq->picoquic_public_random_seed_64(1, 1);
}

static void
configure(bp_engine_t *engine)
{
    const bp_picoquic_t *pq = engine->pq;
    const bp_config_t *c = &engine->config;
    bp_pq_quic_t *quic = engine->quic;
    pq->picoquic_set_default_congestion_algorithm_by_name(quic, c->congestion);
    /* The library drops datagrams from well-known ports; ours may be any. */
    pq->picoquic_disable_port_blocking(quic, 1);
    (void)pq->picoquic_set_default_tp_value(quic, BP_PQ_TP_BIDI_LOCAL, c->stream_window_first);
    (void)pq->picoquic_set_default_tp_value(quic, BP_PQ_TP_BIDI_REMOTE, c->stream_window_first);
    (void)pq->picoquic_set_default_tp_value(quic, BP_PQ_TP_UNI, c->stream_window_first);
    (void)pq->picoquic_set_default_tp_value(quic, BP_PQ_TP_STREAMS_BIDI, c->streams_bidi_max);
    (void)pq->picoquic_set_default_tp_value(quic, BP_PQ_TP_STREAMS_UNI, c->streams_uni_max);
    (void)pq->picoquic_set_default_tp_value(quic, BP_PQ_TP_RESET_STREAM_AT, 1);
    if (c->migration_disabled) {
        (void)pq->picoquic_set_default_tp_value(quic, BP_PQ_TP_MIGRATION_DISABLED, 1);
    }
    if (c->multipath) {
        pq->picoquic_set_default_multipath_option(quic, 1);
        (void)pq->picoquic_set_default_tp_value(quic, BP_PQ_TP_PATH_ID_MAX, BP_PATH_IDS);
    }
    pq->picoquic_set_max_data_control(quic, c->connection_window);
    pq->picoquic_set_default_idle_timeout(quic, c->idle_timeout_ms);
    pq->picoquic_set_default_handshake_timeout(quic, c->handshake_timeout_us);
    /* A stateless reset answers only datagrams longer than 39 bytes, so none is shorter. */
    pq->picoquic_set_default_padding(quic, 0, 41);
    pq->picoquic_set_cookie_mode(quic, c->retry_always ? 1 : 0);
    pq->picoquic_set_max_half_open_retry_threshold(quic, c->half_open_max);
    pq->picoquic_set_default_stateless_reset_min_interval(quic, BP_RESET_INTERVAL_US);
    pq->picoquic_enable_path_callbacks_default(quic, 1);
    pq->picoquic_set_use_exporter(quic, 1);
    if (c->mtu_max > 0) {
        pq->picoquic_set_mtu_max(quic, c->mtu_max);
    }
    if (c->cwin_max > 0) {
        pq->picoquic_set_cwin_max(quic, c->cwin_max);
    }
    if (c->key_log) {
        pq->picoquic_enable_sslkeylog(quic, 1);
        pq->picoquic_set_key_log_file_from_env(quic);
    }
}

/*
 * A dialler offers the first group of the library's list, an acceptor takes any of it. The
 * hybrid with ML-KEM, first by default, costs a seventh of a handshake. The list belongs to
 * the process: the first engine sorts it, the others find it sorted.
 */
static void
prefer_classic_key_exchange(const bp_picoquic_t *pq)
{
    uint16_t groups[] = {BP_PQ_GROUP_X25519, BP_PQ_GROUP_X25519MLKEM768};
    pq->picoquic_sort_key_exchange_algorithms(groups, sizeof(groups) / sizeof(groups[0]));
}

/* Requires library_lock: this writes and reads tables that all engines share. */
static int
create_locked(bp_engine_t *engine)
{
    const bp_config_t *c = &engine->config;
    const bp_picoquic_t *pq = engine->pq;
    uint8_t seed[BP_RESET_SEED_BYTES];
    memcpy(seed, c->reset_seed, sizeof(seed));
    pq->picoquic_register_all_congestion_control_algorithms();
    if (pq->picoquic_get_congestion_algorithm(c->congestion) == NULL) {
        return BP_E_ARGUMENT; /* the library would do without congestion control */
    }
    engine->quic = pq->picoquic_create(c->connections_max, c->certificate_file, c->key_file,
                                       NULL, engine->alpn, bp_callback, engine, NULL, NULL,
                                       seed, engine->now_us, &engine->now_us, NULL, NULL, 0);
    if (engine->quic == NULL) {
        return BP_E_LIBRARY;
    }
    prefer_classic_key_exchange(pq);
    if (c->simulated) {
        make_deterministic(engine);
    }
    configure(engine);
    return BP_OK;
}

static int
create_library(bp_engine_t *engine)
{
    (void)pthread_mutex_lock(&library_lock);
    int status = create_locked(engine);
    (void)pthread_mutex_unlock(&library_lock);
    return status == BP_OK ? bp_certificate_setup(engine) : status;
}

int
bp_engine_create(const bp_config_t *config, const void *picoquic, bp_engine_t **out)
{
    if (config == NULL || picoquic == NULL || check(config) != BP_OK) {
        return BP_E_ARGUMENT;
    }
    bp_engine_t *engine = calloc(1, sizeof(*engine));
    if (engine == NULL) {
        return BP_E_MEMORY;
    }
    engine->magic = BP_MAGIC_ENGINE;
    engine->pq = picoquic;
    engine->config = *config;
    engine->now_us = config->start_us;
    engine->gso = true;
    engine->poll_fd = -1;
    engine->timer_fd = -1;
    for (int i = 0; i < BP_SOCKETS_MAX; i++) {
        engine->sockets[i].fd = -1;
    }
    bp_clock_refresh(engine);
    int status = allocate(engine);
    if (status == BP_OK) {
        status = bp_udp_open(engine);
    }
    if (status == BP_OK) {
        status = create_library(engine);
    }
    if (status != BP_OK) {
        bp_engine_free(engine);
        return status;
    }
    /* The caller's strings need not outlive this call. */
    engine->config.certificate_file = NULL;
    engine->config.key_file = NULL;
    engine->config.alpn = engine->alpn;
    engine->config.congestion = NULL;
    engine->config.reset_seed = NULL;
    *out = engine;
    return BP_OK;
}

void
bp_engine_free(bp_engine_t *engine)
{
    if (engine == NULL) {
        return;
    }
    engine->freeing = true;
    if (engine->quic != NULL) {
        (void)pthread_mutex_lock(&library_lock);
        engine->pq->picoquic_free(engine->quic);
        (void)pthread_mutex_unlock(&library_lock);
    }
    bp_udp_close(engine);
    bp_stream_free_slabs(engine);
    bp_buffer_free_spares(engine);
    for (uint32_t i = 0; engine->connections != NULL && i < engine->connection_top; i++) {
        free(engine->connections[i].certificate);
    }
    while (engine->blocks != NULL) {
        bp_block_t *block = engine->blocks;
        engine->blocks = block->next;
        free(block);
    }
    free(engine->connections);
    free(engine->reap);
    free(engine->events);
    free(engine->arena);
    free(engine->alpn);
    free(engine);
}

int
bp_engine_errno(const bp_engine_t *engine)
{
    return engine->last_error;
}

void
bp_engine_sizes(size_t sizes[4])
{
    sizes[0] = sizeof(bp_config_t);
    sizes[1] = sizeof(bp_event_t);
    sizes[2] = sizeof(bp_path_stats_t);
    sizes[3] = sizeof(bp_hot_t);
}

void
bp_engine_stats(const bp_engine_t *engine, bp_engine_stats_t *stats)
{
    *stats = engine->stats;
    stats->connections = engine->connection_count;
    stats->streams = engine->stream_count;
    uint32_t all = engine->pq->picoquic_current_number_connections(engine->quic);
    stats->half_open = all > engine->connection_count ? all - engine->connection_count : 0;
}

uintptr_t
bp_engine_hot(void)
{
    static const bp_hot_t hot = {
        .version = BP_HOT_VERSION,
        .size = sizeof(bp_hot_t),
        .receive = bp_engine_receive,
        .send = bp_engine_send,
        .events = bp_engine_events,
        .consume = bp_engine_consume,
        .reserve = bp_stream_reserve,
        .commit = bp_stream_commit,
        .write = bp_stream_write,
        .consumed = bp_stream_consumed,
        .open = bp_stream_open,
        .reset = bp_stream_reset,
        .stop_sending = bp_stream_stop_sending,
        .priority = bp_stream_priority,
        .queued = bp_stream_queued,
    };
    return (uintptr_t)&hot;
}
