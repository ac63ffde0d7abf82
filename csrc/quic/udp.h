/* Buffers and helpers shared by the receiving (udp.c) and sending (transmit.c) halves. */
#ifndef BP_QUIC_UDP_H
#define BP_QUIC_UDP_H

#include "internal.h"

typedef union {
    uint8_t bytes[BP_CONTROL_BYTES];
    struct cmsghdr align;
} bp_control_t;

struct bp_udp {
    uint8_t *rx_bytes;
    struct mmsghdr rx[BP_RX_MESSAGES];
    struct iovec rx_iov[BP_RX_MESSAGES];
    struct sockaddr_storage rx_from[BP_RX_MESSAGES];
    bp_control_t rx_control[BP_RX_MESSAGES];

    uint8_t *tx_bytes;
    struct mmsghdr tx[BP_TX_MESSAGES];
    struct iovec tx_iov[BP_TX_MESSAGES];
    struct sockaddr_storage tx_to[BP_TX_MESSAGES];
    struct sockaddr_storage tx_from[BP_TX_MESSAGES];
    bp_control_t tx_control[BP_TX_MESSAGES];
    size_t tx_segment[BP_TX_MESSAGES];
    unsigned int tx_count; /* prepared and not yet sent, all through tx_socket */
    unsigned int tx_done;
    int tx_socket;
};

void bp_udp_watch_writable(bp_engine_t *engine, bool blocked);
int bp_udp_pick_socket(const bp_engine_t *engine, const struct sockaddr_storage *from,
                       const struct sockaddr_storage *to);
void bp_udp_incoming(bp_engine_t *engine, uint8_t *bytes, size_t length,
                     struct sockaddr_storage *from, struct sockaddr_storage *to, int interface);

#endif
