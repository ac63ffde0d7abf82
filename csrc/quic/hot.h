/*
 * The engine calls a compiled caller makes for every message, as one table: no
 * cffi in between, the GIL held. bp_engine_hot returns its address; check version
 * and size before use.
 */
#ifndef BP_QUIC_HOT_H
#define BP_QUIC_HOT_H

#include "engine.h"

#define BP_HOT_VERSION 1u

int bp_stream_reserve(bp_engine_t *engine, uint64_t stream, size_t keep, size_t n,
                      uint8_t **place);
int64_t bp_stream_commit(bp_engine_t *engine, uint64_t stream, size_t n, int fin);

typedef struct {
    uint32_t version;
    uint32_t size;
    int (*receive)(bp_engine_t *engine);
    int (*send)(bp_engine_t *engine);
    const bp_event_t *(*events)(const bp_engine_t *engine, uint32_t *count);
    void (*consume)(bp_engine_t *engine);
    int (*reserve)(bp_engine_t *engine, uint64_t stream, size_t keep, size_t n,
                   uint8_t **place);
    int64_t (*commit)(bp_engine_t *engine, uint64_t stream, size_t n, int fin);
    int64_t (*write)(bp_engine_t *engine, uint64_t stream, const uint8_t *data, size_t length,
                     int fin);
    int (*consumed)(bp_engine_t *engine, uint64_t stream, uint64_t length);
    int (*open)(bp_engine_t *engine, uint64_t connection, int uni, uint64_t *stream,
                uint64_t *stream_id);
    int (*reset)(bp_engine_t *engine, uint64_t stream, uint64_t code);
    int (*stop_sending)(bp_engine_t *engine, uint64_t stream, uint64_t code);
    int (*priority)(bp_engine_t *engine, uint64_t stream, uint8_t priority);
    int64_t (*queued)(const bp_engine_t *engine, uint64_t stream);
} bp_hot_t;

#endif
