/* An engine without sockets: the caller owns the clock and carries the datagrams. */
#include <string.h>

#include "udp.h"

int
bp_sim_set_time(bp_engine_t *engine, uint64_t now_us)
{
    if (!engine->config.simulated || now_us < engine->now_us) {
        return BP_E_STATE;
    }
    engine->now_us = now_us;
    return BP_OK;
}

int
bp_sim_deliver(bp_engine_t *engine, const uint8_t *datagram, size_t length,
               const bp_address_t *from, const bp_address_t *to)
{
    struct sockaddr_storage native_from;
    struct sockaddr_storage native_to;
    if (!engine->config.simulated) {
        return BP_E_STATE;
    }
    if (length > BP_MESSAGE_BYTES || bp_address_to_native(from, &native_from) == 0 ||
        bp_address_to_native(to, &native_to) == 0) {
        return BP_E_ARGUMENT;
    }
    memcpy(engine->udp->rx_bytes, datagram, length);
    bp_udp_incoming(engine, engine->udp->rx_bytes, length, &native_from, &native_to, 0);
    return BP_OK;
}

int64_t
bp_sim_take(bp_engine_t *engine, uint8_t *datagram, size_t capacity, bp_address_t *from,
            bp_address_t *to)
{
    if (!engine->config.simulated) {
        return BP_E_STATE;
    }
    bp_engine_reap(engine);
    for (uint32_t tries = 0; tries <= engine->config.connections_max; tries++) {
        struct sockaddr_storage native_from;
        struct sockaddr_storage native_to;
        memset(&native_from, 0, sizeof(native_from));
        memset(&native_to, 0, sizeof(native_to));
        size_t length = 0;
        int interface = 0;
        bp_pq_cid_t log_cid;
        bp_pq_cnx_t *last = NULL;
        int status = engine->pq->picoquic_prepare_next_packet_ex(
            engine->quic, engine->now_us, datagram, capacity, &length, &native_to, &native_from,
            &interface, &log_cid, &last, NULL);
        if (status == 0 && length > 0) {
            engine->stats.datagrams_out++;
            engine->stats.bytes_out += length;
            bp_address_from_native(&native_from, from);
            bp_address_from_native(&native_to, to);
            return (int64_t)length;
        }
        if (bp_sim_delay(engine) > 0) {
            break;
        }
    }
    return 0;
}

uint64_t
bp_sim_delay(bp_engine_t *engine)
{
    int64_t delay_us =
        engine->pq->picoquic_get_next_wake_delay(engine->quic, engine->now_us, 60000000);
    return delay_us > 0 ? (uint64_t)delay_us : 0;
}

int
bp_sim_unreachable(bp_engine_t *engine, const bp_address_t *peer, const uint8_t *quoted,
                   size_t length)
{
    struct sockaddr_storage native;
    if (!engine->config.simulated) {
        return BP_E_STATE;
    }
    if (bp_address_to_native(peer, &native) == 0) {
        return BP_E_ARGUMENT;
    }
    bp_unreachable(engine, &native, quoted, length);
    return BP_OK;
}
