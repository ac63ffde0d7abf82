/*
 * Memory for send buffers. Small ones come from malloc; large ones have one size and a
 * few spares, so that a stream that fills and drains again and again neither grows its
 * buffer step by step nor has the kernel clear its pages each time.
 */
#include <stdlib.h>
#include <string.h>

#include "internal.h"

static size_t
power_of_two(size_t at_least)
{
    size_t size = BP_STREAM_BUFFER_FIRST;
    while (size < at_least) {
        size *= 2;
    }
    return size;
}

/* The one size of large buffers: what a stream at its high-water mark and one write need. */
static size_t
large_size(const bp_engine_t *engine)
{
    return power_of_two(2 * (size_t)engine->config.send_high);
}

/* Returns at least wanted bytes and their number, or NULL. */
uint8_t *
bp_buffer_take(bp_engine_t *engine, size_t wanted, uint32_t *capacity)
{
    size_t large = large_size(engine);
    bool is_large = wanted > BP_STREAM_BUFFER_KEEP && wanted <= large;
    size_t size = is_large ? large : power_of_two(wanted);
    uint8_t *buffer;
    if (is_large && engine->spare_count > 0) {
        buffer = engine->spares[--engine->spare_count];
    } else {
        buffer = malloc(size);
    }
    *capacity = buffer == NULL ? 0 : (uint32_t)size;
    return buffer;
}

void
bp_buffer_give(bp_engine_t *engine, uint8_t *buffer, uint32_t capacity)
{
    bool is_large = capacity > BP_STREAM_BUFFER_KEEP && capacity == large_size(engine);
    if (is_large && engine->spare_count < BP_SPARE_BUFFERS_MAX) {
        engine->spares[engine->spare_count++] = buffer;
    } else {
        free(buffer);
    }
}

void
bp_buffer_free_spares(bp_engine_t *engine)
{
    while (engine->spare_count > 0) {
        free(engine->spares[--engine->spare_count]);
    }
}
