/*
 * The splitter under any bytes in any chunks: it agrees with a parser that sees the whole
 * stream at once, holds no more than twice what it received, and stays ended once ended.
 *
 * Input: one byte chooses the limit, one seeds the chunk sizes, the rest is the stream.
 */
#include "codec/frame.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK_SIZES 6

static const uint32_t LIMITS[4] = {2, 64, 4096, BP_FRAME_LENGTH_TOP};

static void
require(int condition)
{
    if (!condition) {
        abort();
    }
}

typedef struct {
    const uint8_t *bytes;
    size_t size;
    size_t at; /* where the next frame starts */
    uint32_t length_max;
} whole_t;

/* The reference: the whole stream is at hand, so there is nothing to carry. */
static int
next_whole(whole_t *w, bp_frame_t *frame)
{
    if (w->size - w->at < 4) {
        return BP_FRAME_NONE;
    }
    const uint8_t *p = w->bytes + w->at;
    uint64_t length = (uint64_t)p[0] << 24 | (uint64_t)p[1] << 16 | (uint64_t)p[2] << 8 | p[3];
    if (length < 2) {
        return BP_E_FRAME_SHORT;
    }
    if (length > w->length_max) {
        return BP_E_FRAME_LIMIT;
    }
    if (w->size - w->at - 4 < length) {
        return BP_FRAME_NONE;
    }
    frame->kind = p[4];
    frame->flags = p[5];
    frame->body = p + 6;
    frame->body_bytes = (size_t)length - 2;
    w->at += 4 + (size_t)length;
    return BP_FRAME_READY;
}

static void
same_frame(const bp_frame_t *a, const bp_frame_t *b)
{
    require(a->kind == b->kind && a->flags == b->flags);
    require(a->body_bytes == b->body_bytes);
    require(memcmp(a->body, b->body, a->body_bytes) == 0);
}

/* Split one chunk, a heap block of its exact size; returns the last status. */
static int
feed(bp_splitter_t *s, whole_t *w, const uint8_t *bytes, size_t size, size_t received)
{
    uint8_t *chunk = malloc(size > 0 ? size : 1);
    require(chunk != NULL);
    memcpy(chunk, bytes, size);
    const uint8_t *pos = chunk;
    bp_frame_t frame;
    bp_frame_t expected;
    int status = bp_splitter_next(s, &pos, chunk + size, &frame);
    while (status == BP_FRAME_READY) {
        require(next_whole(w, &expected) == BP_FRAME_READY);
        same_frame(&frame, &expected);
        status = bp_splitter_next(s, &pos, chunk + size, &frame);
    }
    require(status != BP_FRAME_NONE || pos == chunk + size);
    require(s->capacity <= 2 * received || s->capacity <= BP_FRAME_CARRY_MIN);
    free(chunk);
    return status;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const size_t sizes[CHUNK_SIZES] = {1, 2, 5, 7, 64, 1500};
    if (size < 2) {
        return 0;
    }
    uint32_t length_max = LIMITS[data[0] & 3];
    uint32_t seed = data[1];
    data += 2;
    size -= 2;

    whole_t w = {data, size, 0, length_max};
    bp_splitter_t s;
    bp_splitter_init(&s, length_max);
    int status = BP_FRAME_NONE;
    for (size_t at = 0; at < size && status >= 0;) {
        seed = seed * 1103515245u + 12345u;
        size_t chunk = sizes[(seed >> 16) % CHUNK_SIZES];
        if (chunk > size - at) {
            chunk = size - at;
        }
        status = feed(&s, &w, data + at, chunk, at + chunk);
        at += chunk;
    }
    bp_frame_t frame;
    require(next_whole(&w, &frame) == status);
    if (status < 0) {
        const uint8_t *pos = data;
        require(bp_splitter_next(&s, &pos, data + size, &frame) == status);
        require(s.capacity == 0);
    }
    bp_splitter_clear(&s);
    return 0;
}
