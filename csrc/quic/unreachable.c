/*
 * ICMP destination-unreachable: whom to believe.
 *
 * Anyone can forge an ICMP error, so one counts only if it quotes a datagram that
 * carries the connection id we send to that peer now, which an outsider does not
 * know. The first one draws a PING; a second one ends the connection if nothing
 * was heard in between.
 */
#include <errno.h>
#include <string.h>
#include <time.h>

#include <linux/errqueue.h> /* needs time.h before it */

#include "udp.h"

#define LONG_HEADER 0x80u
#define QUOTED_BYTES_MAX 512u

/* The destination connection id of a quoted packet, or NULL if the quote is too short. */
static const uint8_t *
quoted_id(const uint8_t *quoted, size_t length, size_t id_length)
{
    if (length == 0) {
        return NULL;
    }
    if ((quoted[0] & LONG_HEADER) == 0) {
        return length >= 1 + id_length ? quoted + 1 : NULL;
    }
    /* RFC 9000, 17.2: first byte, version (4), id length (1), id. */
    return length >= 6 + id_length && quoted[5] == id_length ? quoted + 6 : NULL;
}

static void
suspect(bp_connection_t *connection)
{
    static const uint8_t ping[] = {0x01};
    bp_engine_t *engine = connection->engine;
    uint64_t now_us = engine->now_us;
    /* Before the handshake no PING is possible; the next Initial is the probe. */
    uint64_t window_us =
        connection->connected ? BP_ICMP_WINDOW_US : engine->config.handshake_timeout_us;
    bool second = connection->suspected && now_us - connection->icmp_us <= window_us;
    engine->stats.icmp_believed++;
    if (second) {
        bp_connection_kill(connection, BP_CLOSED_UNREACHABLE);
        return;
    }
    connection->suspected = true;
    connection->icmp_us = now_us;
    if (connection->connected) {
        (void)engine->pq->picoquic_queue_misc_frame(connection->cnx, ping, sizeof(ping), 0, 0);
        engine->pq->picoquic_set_app_wake_time(connection->cnx, now_us);
    }
}

void
bp_unreachable(bp_engine_t *engine, const struct sockaddr_storage *peer, const uint8_t *quoted,
               size_t length)
{
    engine->stats.icmp_seen++;
    for (uint32_t i = 0; i < engine->connection_top; i++) {
        bp_connection_t *connection = &engine->connections[i];
        if (!connection->used || !bp_address_equal(&connection->peer, peer)) {
            continue;
        }
        bp_pq_cid_t id = engine->pq->picoquic_get_remote_cnxid(connection->cnx);
        if (id.id_len == 0) { /* no answer yet: we still use the id we made up */
            id = engine->pq->picoquic_get_initial_cnxid(connection->cnx);
        }
        const uint8_t *named = quoted_id(quoted, length, id.id_len);
        if (id.id_len > 0 && named != NULL && memcmp(named, id.id, id.id_len) == 0) {
            suspect(connection);
            return;
        }
    }
}

static bool
is_icmp_unreachable(const struct cmsghdr *c)
{
    bool v4 = c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_RECVERR;
    bool v6 = c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_RECVERR;
    if (!v4 && !v6) {
        return false;
    }
    struct sock_extended_err e;
    memcpy(&e, CMSG_DATA(c), sizeof(e));
    bool from_icmp = e.ee_origin == SO_EE_ORIGIN_ICMP || e.ee_origin == SO_EE_ORIGIN_ICMP6;
    return from_icmp && (e.ee_errno == ECONNREFUSED || e.ee_errno == EHOSTUNREACH ||
                         e.ee_errno == ENETUNREACH);
}

/* Empty the socket's error queue, a bounded piece at a time. */
void
bp_udp_read_errors(bp_engine_t *engine, int socket)
{
    for (unsigned int i = 0; i < BP_ICMP_BATCH_MAX; i++) {
        uint8_t quoted[QUOTED_BYTES_MAX];
        union {
            uint8_t bytes[512];
            struct cmsghdr align;
        } control;
        struct sockaddr_storage peer = {.ss_family = AF_UNSPEC};
        struct iovec iov = {quoted, sizeof(quoted)};
        struct msghdr header = {.msg_name = &peer,
                                .msg_namelen = sizeof(peer),
                                .msg_iov = &iov,
                                .msg_iovlen = 1,
                                .msg_control = control.bytes,
                                .msg_controllen = sizeof(control.bytes)};
        ssize_t n = recvmsg(engine->sockets[socket].fd, &header, MSG_ERRQUEUE | MSG_DONTWAIT);
        if (n < 0) {
            return;
        }
        for (struct cmsghdr *c = CMSG_FIRSTHDR(&header); c != NULL;
             c = CMSG_NXTHDR(&header, c)) {
            if (is_icmp_unreachable(c)) {
                bp_unreachable(engine, &peer, quoted, (size_t)n);
                break;
            }
        }
    }
}
