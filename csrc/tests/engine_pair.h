/*
 * Simulated engines joined by a network in memory: latency, bandwidth, loss, duplicates
 * and reordering, all from one seed, on one virtual clock.
 *
 * A pair holds up to PAIR_ENGINES_MAX engines ("sides"); a datagram goes to the side
 * whose address it names, or is lost. Every event is checked against the contract of
 * engine.h (nothing after RELEASED, nothing after CLOSED, DATA only on known streams)
 * and folded into the books below, which is what tests look at.
 */
#ifndef BP_TESTS_ENGINE_PAIR_H
#define BP_TESTS_ENGINE_PAIR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "quic/engine.h"
#include "quic/hot.h"

#define PAIR_ENGINES_MAX 3
#define PAIR_SOURCES_MAX 64
#define PAIR_DATAGRAM_BYTES 2048u
#define PAIR_START_US 1000000u
#define PAIR_MS 1000u
#define PAIR_SECOND 1000000u

/* Ten thousandths: loss = 100 is 1 %. */
typedef struct {
    uint64_t latency_us;
    uint64_t bytes_per_s;  /* 0: no limit */
    uint64_t backlog_bytes; /* a queue longer than this drops; 0: no limit */
    uint32_t loss;
    uint32_t duplicates;
    uint32_t reorder; /* such a datagram takes up to reorder_us longer */
    uint64_t reorder_us;
} pair_link_t;

typedef struct {
    uint64_t handle;
    uint64_t connection;
    uint64_t id;
    uint64_t received;
    uint64_t hash;   /* of the bytes received */
    uint64_t unread; /* received and not yet reported as consumed */
    uint64_t reset_code;
    uint64_t stop_code;
    uint32_t datas;
    uint32_t news;
    uint32_t fins;
    uint32_t resets;
    uint32_t stops;
    uint32_t writables;
    uint32_t releases;
} pair_stream_t;

typedef struct {
    uint64_t handle;
    uint64_t local;
    uint64_t remote;
    uint64_t application;
    uint64_t connected_us;
    uint64_t closed_us;
    uint16_t why;
    bool connected;
    bool accepted;
    bool closed;
} pair_connection_t;

typedef struct {
    bp_engine_t *engine;
    bp_address_t address;
    bool reading; /* report every byte as consumed at once */
    pair_stream_t *streams;
    size_t stream_count;
    size_t stream_capacity;
    pair_connection_t *connections;
    size_t connection_count;
    size_t connection_capacity;
    uint64_t events;
    uint64_t datagrams; /* sent */
    uint64_t bytes;
} pair_side_t;

/* A writer: keeps a stream full with a known byte sequence until its end. */
typedef struct {
    int side;
    uint64_t stream;
    uint64_t left;
    uint64_t hash; /* of the bytes written */
    uint64_t state;
    bool fin;
    bool blocked;
    bool done;
} pair_source_t;

typedef struct {
    uint64_t at_us;
    uint64_t order;
    int side;
    bp_address_t from;
    bp_address_t to;
    size_t length;
    uint8_t bytes[PAIR_DATAGRAM_BYTES];
} pair_datagram_t;

typedef struct pair pair_t;

struct pair {
    uint64_t now_us;
    uint64_t random;
    pair_link_t link;
    uint64_t free_us[PAIR_ENGINES_MAX]; /* when that side's outgoing link is idle again */
    pair_side_t sides[PAIR_ENGINES_MAX];
    pair_source_t sources[PAIR_SOURCES_MAX];
    int source_count;
    pair_datagram_t **heap;
    size_t heap_count;
    size_t heap_capacity;
    uint64_t order;
    /* Sees every datagram as it leaves; false drops it. */
    bool (*tap)(pair_t *pair, int side, const uint8_t *bytes, size_t length, void *context);
    void (*on_event)(pair_t *pair, int side, const bp_event_t *event, void *context);
    void *context;
};

uint64_t pair_random(uint64_t *state);
uint64_t pair_hash(uint64_t hash, const uint8_t *bytes, size_t length);

/* What a pair's engines are made from; change it before pair_add. */
bp_config_t pair_config(void);

void pair_init(pair_t *pair, uint64_t seed);
void pair_free(pair_t *pair);

/* Make side's engine, from this picoquic. Freeing and adding again is a restart. */
void pair_add_from(pair_t *pair, int side, const bp_config_t *config, const void *picoquic);
void pair_add(pair_t *pair, int side, const bp_config_t *config);
void pair_remove(pair_t *pair, int side);

/* Advance to until_us at the latest; pair_until stops as soon as the condition holds. */
void pair_run(pair_t *pair, uint64_t for_us);
bool pair_until(pair_t *pair, uint64_t for_us, bool (*condition)(pair_t *pair, void *context),
                void *context);

/* Put bytes on the wire as if side from had sent them to side to; no tap sees them. */
void pair_post(pair_t *pair, int from, int to, const uint8_t *bytes, size_t length);

/* Hand over what a side has ready and read its events, without moving the clock. */
void pair_pump(pair_t *pair);
void pair_read_events(pair_t *pair, int side);

/* Dial from one side to another; pair_connect also waits for both ends. */
uint64_t pair_dial(pair_t *pair, int from, int to);
uint64_t pair_connect(pair_t *pair, int from, int to);
/* The other end of the only, or latest, connection the side accepted. */
uint64_t pair_accepted(const pair_t *pair, int side);

pair_connection_t *pair_connection(pair_t *pair, int side, uint64_t handle);
pair_stream_t *pair_stream(pair_t *pair, int side, uint64_t handle);
/* The side's stream of that QUIC id, on its latest connection; NULL before the first event. */
pair_stream_t *pair_stream_by_id(pair_t *pair, int side, uint64_t id);

uint64_t pair_open(pair_t *pair, int side, uint64_t connection, int uni);
/* Fill a stream with bytes; what is returned stays valid until the next pair_send. */
pair_source_t *pair_send(pair_t *pair, int side, uint64_t stream, uint64_t bytes, bool fin);
/* Let a side's writers write what there is room for; pair_pump does it by itself. */
void pair_write(pair_t *pair, int side);

#endif
