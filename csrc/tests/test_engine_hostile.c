/*
 * An authenticated peer that floods with legal and illegal frames: it may lose its own
 * connection, but costs no memory to speak of, and another peer notices nothing.
 */
#include <string.h>

#include "check.h"
#include "engine_pair.h"
#include "heap.h"
#include "sealed.h"

#define PACKETS 20000
#define GROWTH_MAX (UINT64_C(8) << 20)

static pair_t pair;
static uint64_t hostile; /* side 0 dialled it */
static uint64_t honest;  /* side 2 dialled it */

/* One flood: writes the frames of packet i, returns their length. */
typedef size_t (*flood_t)(uint8_t *frames, uint32_t i);

static size_t
varint(uint8_t *out, uint64_t value)
{
    for (int i = 0; i < 8; i++) {
        out[i] = (uint8_t)(value >> (56 - 8 * i));
    }
    out[0] |= 0xc0;
    return 8;
}

static size_t
numbers(uint8_t *frames, uint8_t type, uint64_t a, uint64_t b)
{
    frames[0] = type;
    size_t n = 1 + varint(frames + 1, a);
    return n + varint(frames + n, b);
}

static size_t
path_challenges(uint8_t *frames, uint32_t i)
{
    size_t n = 0;
    for (uint32_t j = 0; j < 100; j++) {
        frames[n++] = 0x1a;
        memcpy(frames + n, &i, 4);
        memcpy(frames + n + 4, &j, 4);
        n += 8;
    }
    return n;
}

static size_t
new_connection_ids(uint8_t *frames, uint32_t i)
{
    frames[0] = 0x18;
    size_t n = 1 + varint(frames + 1, i + 8);
    n += varint(frames + n, i + 7); /* and retire what came before */
    frames[n++] = 8;
    memset(frames + n, 0x5a, 24);
    memcpy(frames + n, &i, 4);
    memcpy(frames + n + 8, &i, 4);
    return n + 24;
}

static size_t
retired_connection_ids(uint8_t *frames, uint32_t i)
{
    frames[0] = 0x19;
    return 1 + varint(frames + 1, i);
}

static size_t
resets(uint8_t *frames, uint32_t i)
{
    size_t n = numbers(frames, 0x04, 2 + 4 * (uint64_t)i, 0);
    return n + varint(frames + n, 0);
}

static size_t
opened_and_ended(uint8_t *frames, uint32_t i)
{
    frames[0] = 0x0b; /* one-way streams of one byte */
    size_t n = 1 + varint(frames + 1, 2 + 4 * (uint64_t)i);
    n += varint(frames + n, 1);
    frames[n] = 'x';
    return n + 1;
}

static size_t
stops(uint8_t *frames, uint32_t i)
{
    return numbers(frames, 0x05, 4 * (uint64_t)(i % 100), i);
}

static size_t
holes(uint8_t *frames, uint32_t i)
{
    frames[0] = 0x0e; /* every second byte of a stream, never the first */
    size_t n = 1 + varint(frames + 1, 0);
    n += varint(frames + n, 1 + 2 * (uint64_t)i % 65000);
    n += varint(frames + n, 1);
    frames[n] = 'x';
    return n + 1;
}

static size_t
far_crypto(uint8_t *frames, uint32_t i)
{
    frames[0] = 0x06;
    size_t n = 1 + varint(frames + 1, 1000 + 2000 * (uint64_t)i);
    n += varint(frames + n, 1000);
    memset(frames + n, 'c', 1000);
    return n + 1000;
}

static size_t
limits(uint8_t *frames, uint32_t i)
{
    size_t n = numbers(frames, 0x11, 4 * (uint64_t)(i % 100), i);
    frames[n++] = 0x10;
    n += varint(frames + n, i);
    frames[n++] = 0x12;
    n += varint(frames + n, i);
    frames[n++] = 0x14;
    n += varint(frames + n, i);
    frames[n++] = 0x16;
    return n + varint(frames + n, i);
}

static size_t
pings(uint8_t *frames, uint32_t i)
{
    (void)i;
    memset(frames, 0x01, 1000);
    return 1000;
}

static size_t
acknowledgements(uint8_t *frames, uint32_t i)
{
    size_t n = 0;
    for (uint32_t j = 0; j < 20; j++) {
        frames[n++] = 0x02;
        n += varint(frames + n, i % 3);
        n += varint(frames + n, 0);
        n += varint(frames + n, 0);
        n += varint(frames + n, 0);
    }
    return n;
}

static size_t
nonsense(uint8_t *frames, uint32_t i)
{
    uint64_t state = i * UINT64_C(7919) + 1;
    size_t n = pair_random(&state) % 200 + 1;
    for (size_t j = 0; j < n; j++) {
        frames[j] = (uint8_t)(pair_random(&state) >> 32);
    }
    return n;
}

static void
start(void)
{
    bp_config_t config = pair_config();
    config.idle_timeout_ms = 60000;
    pair_init(&pair, 1);
    for (int side = 0; side < 3; side++) {
        pair_add(&pair, side, &config);
    }
    hostile = pair_connect(&pair, 0, 1);
    honest = pair_connect(&pair, 2, 1);
    pair_run(&pair, PAIR_SECOND);
}

/* Returns the packets sent until the connection was lost, if it was. */
static uint32_t
flood_with(const char *name, flood_t flood)
{
    start();
    uint64_t before = heap_bytes();
    uint64_t most = before;
    uint32_t i = 0;
    for (; i < PACKETS; i++) {
        uint8_t frames[SEALED_FRAMES_MAX];
        uint8_t datagram[SEALED_BYTES_MAX];
        size_t n = flood(frames, i);
        n = sealed_packet(pair.sides[0].engine, hostile, frames, n, datagram);
        if (n == 0) {
            break;
        }
        pair_post(&pair, 0, 1, datagram, n);
        if (i % 16 == 15) {
            pair_run(&pair, PAIR_MS);
            uint64_t now = heap_bytes();
            most = now > most ? now : most;
        }
    }
    fprintf(stderr, "  %s: %u packets, %llu KB\n", name, i,
            (unsigned long long)((most - before) / 1024));
    CHECK(most - before <= GROWTH_MAX);

    pair_source_t *source = pair_send(&pair, 2, pair_open(&pair, 2, honest, 0), 100000, true);
    uint64_t hash = source->hash;
    pair_run(&pair, 2 * PAIR_SECOND);
    CHECK(!pair_connection(&pair, 2, honest)->closed);
    bool arrived = false;
    for (size_t s = 0; s < pair.sides[1].stream_count; s++) {
        const pair_stream_t *stream = &pair.sides[1].streams[s];
        arrived |= stream->fins == 1 && stream->hash == hash && stream->received == 100000;
    }
    CHECK(arrived);
    pair_free(&pair);
    return i;
}

static void
floods_of_any_frame_cost_no_memory_to_speak_of(void)
{
    (void)flood_with("PATH_CHALLENGE", path_challenges);
    (void)flood_with("NEW_CONNECTION_ID", new_connection_ids);
    (void)flood_with("RETIRE_CONNECTION_ID", retired_connection_ids);
    (void)flood_with("RESET_STREAM", resets);
    (void)flood_with("streams of a byte", opened_and_ended);
    (void)flood_with("STOP_SENDING", stops);
    (void)flood_with("holes", holes);
    (void)flood_with("CRYPTO far ahead", far_crypto);
    (void)flood_with("limits", limits);
    (void)flood_with("PING", pings);
    (void)flood_with("ACK", acknowledgements);
    (void)flood_with("nonsense", nonsense);
}

int
main(void)
{
    RUN(floods_of_any_frame_cost_no_memory_to_speak_of);
    return 0;
}
