/*
 * A hostile peer: frames of one's choice in a 1-RTT packet that decrypts. It is sealed with
 * the keys of an engine's connection but beside the engine, which keeps no record of it.
 */
#ifndef BP_TESTS_SEALED_H
#define BP_TESTS_SEALED_H

#include <stddef.h>
#include <stdint.h>

#include "quic/engine.h"

#define SEALED_FRAMES_MAX 1100u
#define SEALED_BYTES_MAX 1536u

/* Returns the datagram's length, 0 if the connection has no keys or there are no frames. */
size_t sealed_packet(bp_engine_t *engine, uint64_t connection, const uint8_t *frames,
                     size_t length, uint8_t datagram[SEALED_BYTES_MAX]);

#endif
