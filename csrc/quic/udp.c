/*
 * Datagrams: recvmmsg with GRO in, sendmmsg with GSO out, one descriptor to wait on.
 *
 * The event loop watches an epoll descriptor that holds the sockets and the timer,
 * never a socket itself: a pending ICMP error makes a socket report an error
 * condition, which event loops answer by dropping the watch.
 */
#include "udp.h"

#include <errno.h>
#include <netinet/udp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif

int
bp_udp_open(bp_engine_t *engine)
{
    engine->udp = calloc(1, sizeof(*engine->udp));
    if (engine->udp == NULL) {
        return BP_E_MEMORY;
    }
    /* Untouched pages cost nothing, so an idle engine stays small. */
    engine->udp->rx_bytes = malloc(BP_RX_BYTES);
    engine->udp->tx_bytes = malloc((size_t)BP_TX_MESSAGES * BP_MESSAGE_BYTES);
    if (engine->udp->rx_bytes == NULL || engine->udp->tx_bytes == NULL) {
        return BP_E_MEMORY;
    }
    if (engine->config.simulated) {
        return BP_OK;
    }
    engine->poll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (engine->poll_fd < 0 || bp_timer_open(engine) != BP_OK) {
        return BP_E_SYSTEM;
    }
    struct epoll_event interest = {.events = EPOLLIN, .data = {.fd = engine->timer_fd}};
    return epoll_ctl(engine->poll_fd, EPOLL_CTL_ADD, engine->timer_fd, &interest) == 0
               ? BP_OK
               : BP_E_SYSTEM;
}

void
bp_udp_close(bp_engine_t *engine)
{
    for (int i = 0; i < BP_SOCKETS_MAX; i++) {
        if (engine->sockets[i].fd >= 0) {
            (void)close(engine->sockets[i].fd);
        }
    }
    if (engine->timer_fd >= 0) {
        (void)close(engine->timer_fd);
    }
    if (engine->poll_fd >= 0) {
        (void)close(engine->poll_fd);
    }
    if (engine->udp != NULL) {
        free(engine->udp->rx_bytes);
        free(engine->udp->tx_bytes);
        free(engine->udp);
    }
}

static void
set_option(int fd, int level, int name, int value)
{
    (void)setsockopt(fd, level, name, &value, sizeof(value));
}

/* Every option here improves speed or diagnosis; none is needed for correctness. */
static void
tune(int fd, const struct sockaddr_storage *local, bool wildcard)
{
    set_option(fd, SOL_SOCKET, SO_RCVBUF, 4 << 20);
    set_option(fd, SOL_SOCKET, SO_SNDBUF, 4 << 20);
    set_option(fd, SOL_UDP, UDP_GRO, 1);
    if (local->ss_family == AF_INET) {
        set_option(fd, IPPROTO_IP, IP_RECVERR, 1);
        set_option(fd, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_PROBE);
        set_option(fd, IPPROTO_IP, IP_PKTINFO, wildcard);
    } else {
        set_option(fd, IPPROTO_IPV6, IPV6_RECVERR, 1);
        set_option(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_PROBE);
        set_option(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, wildcard);
    }
}

static bool
is_wildcard(const struct sockaddr_storage *address)
{
    if (address->ss_family == AF_INET) {
        return ((const struct sockaddr_in *)address)->sin_addr.s_addr == INADDR_ANY;
    }
    return IN6_IS_ADDR_UNSPECIFIED(&((const struct sockaddr_in6 *)address)->sin6_addr);
}

int
bp_engine_bind(bp_engine_t *engine, const bp_address_t *address)
{
    struct sockaddr_storage local;
    socklen_t size = bp_address_to_native(address, &local);
    if (size == 0 || engine->config.simulated) {
        return BP_E_ARGUMENT;
    }
    int index = 0;
    while (index < BP_SOCKETS_MAX && engine->sockets[index].fd >= 0) {
        index++;
    }
    if (index == BP_SOCKETS_MAX) {
        return BP_E_LIMIT;
    }
    int fd = socket(local.ss_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_UDP);
    if (fd < 0) {
        engine->last_error = errno;
        return BP_E_SYSTEM;
    }
    bool wildcard = is_wildcard(&local);
    if (local.ss_family == AF_INET6) {
        set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
    }
    tune(fd, &local, wildcard);
    struct epoll_event interest = {.events = EPOLLIN, .data = {.fd = fd}};
    if (bind(fd, (struct sockaddr *)&local, size) != 0 ||
        getsockname(fd, (struct sockaddr *)&local, &size) != 0 ||
        epoll_ctl(engine->poll_fd, EPOLL_CTL_ADD, fd, &interest) != 0) {
        engine->last_error = errno;
        (void)close(fd);
        return BP_E_SYSTEM;
    }
    engine->sockets[index] = (bp_socket_t){fd, wildcard, local, size};
    return index;
}

/* Does the connection send from this socket, or try to? */
static bool
uses(const bp_connection_t *connection, int socket)
{
    const bp_engine_t *engine = connection->engine;
    struct sockaddr_storage local = {.ss_family = AF_UNSPEC};
    if (connection->probe_socket == socket) {
        return true;
    }
    int status =
        engine->pq->picoquic_get_path_addr(connection->cnx, connection->path_id, 1, &local);
    return status == 0 && bp_udp_pick_socket(engine, &local, &connection->peer) == socket;
}

int
bp_engine_unbind(bp_engine_t *engine, int socket)
{
    if (socket < 0 || socket >= BP_SOCKETS_MAX || engine->sockets[socket].fd < 0) {
        return BP_E_ARGUMENT;
    }
    if (socket == 0) {
        return BP_E_STATE;
    }
    for (uint32_t i = 0; i < engine->connection_top; i++) {
        if (engine->connections[i].used && uses(&engine->connections[i], socket)) {
            return BP_E_STATE;
        }
    }
    (void)close(engine->sockets[socket].fd);
    engine->sockets[socket].fd = -1;
    return BP_OK;
}

int
bp_engine_address(const bp_engine_t *engine, int socket, bp_address_t *address)
{
    if (socket < 0 || socket >= BP_SOCKETS_MAX || engine->sockets[socket].fd < 0) {
        return BP_E_ARGUMENT;
    }
    bp_address_from_native(&engine->sockets[socket].local, address);
    return BP_OK;
}

int
bp_engine_fd(const bp_engine_t *engine)
{
    return engine->poll_fd;
}

void
bp_udp_watch_writable(bp_engine_t *engine, bool blocked)
{
    if (engine->write_blocked == blocked) {
        return;
    }
    engine->write_blocked = blocked;
    uint32_t events = blocked ? EPOLLIN | EPOLLOUT : EPOLLIN;
    for (int i = 0; i < BP_SOCKETS_MAX; i++) {
        int fd = engine->sockets[i].fd;
        if (fd >= 0) {
            struct epoll_event interest = {.events = events, .data = {.fd = fd}};
            (void)epoll_ctl(engine->poll_fd, EPOLL_CTL_MOD, fd, &interest);
        }
    }
}

int
bp_udp_pick_socket(const bp_engine_t *engine, const struct sockaddr_storage *from,
                   const struct sockaddr_storage *to)
{
    if (from->ss_family == AF_INET || from->ss_family == AF_INET6) {
        for (int i = 0; i < BP_SOCKETS_MAX; i++) {
            const bp_socket_t *s = &engine->sockets[i];
            if (s->fd < 0 || s->local.ss_family != from->ss_family) {
                continue;
            }
            const struct sockaddr_in *a = (const struct sockaddr_in *)&s->local;
            const struct sockaddr_in *b = (const struct sockaddr_in *)from;
            bool same_port = a->sin_port == b->sin_port; /* same offset in sockaddr_in6 */
            if (bp_address_equal(&s->local, from) || (s->wildcard && same_port)) {
                return i;
            }
        }
    }
    for (int i = 0; i < BP_SOCKETS_MAX; i++) {
        if (engine->sockets[i].fd >= 0 && engine->sockets[i].local.ss_family == to->ss_family) {
            return i;
        }
    }
    return -1;
}

/* The segment size of a train and, on a wildcard socket, the address it was sent to. */
static size_t
read_control(const bp_socket_t *s, struct msghdr *header, struct sockaddr_storage *to,
             int *interface)
{
    size_t segment = 0;
    *to = s->local;
    *interface = 0;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(header); c != NULL; c = CMSG_NXTHDR(header, c)) {
        if (c->cmsg_level == SOL_UDP && c->cmsg_type == UDP_GRO) {
            int value;
            memcpy(&value, CMSG_DATA(c), sizeof(value));
            segment = value > 0 ? (size_t)value : 0;
        } else if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) {
            struct in_pktinfo info;
            memcpy(&info, CMSG_DATA(c), sizeof(info));
            ((struct sockaddr_in *)to)->sin_addr = info.ipi_addr;
            *interface = info.ipi_ifindex;
        } else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO) {
            struct in6_pktinfo info;
            memcpy(&info, CMSG_DATA(c), sizeof(info));
            ((struct sockaddr_in6 *)to)->sin6_addr = info.ipi6_addr;
            *interface = (int)info.ipi6_ifindex;
        }
    }
    return segment;
}

/*
 * Change to another of the peer's connection ids, so that the library looks out for the
 * reset token of the one in use. The id a dialler chose for itself came without a token,
 * and after a path has changed the library still waits for the old one's: either way the
 * peer's restart could not be told from silence.
 */
static void
renew_id(bp_connection_t *connection)
{
    const bp_picoquic_t *pq = connection->engine->pq;
    bool renewed =
        pq->picoquic_refresh_path_connection_id(connection->cnx, connection->path_id) == 0;
    connection->renewals = renewed ? 0 : connection->renewals - 1;
}

/* Hand one datagram to picoquic and remember which connection it named. */
void
bp_udp_incoming(bp_engine_t *engine, uint8_t *bytes, size_t length,
                struct sockaddr_storage *from, struct sockaddr_storage *to, int interface)
{
    bp_pq_cnx_t *first = NULL;
    engine->stats.datagrams_in++;
    engine->stats.bytes_in += length;
    if (bp_events_crowded(engine)) {
        engine->stats.datagrams_dropped++;
        return;
    }
    (void)engine->pq->picoquic_incoming_packet_ex(
        engine->quic, bytes, length, (struct sockaddr *)from, (struct sockaddr *)to, interface,
        0, &first, engine->now_us);
    bp_connection_t *connection =
        first == NULL ? NULL : engine->pq->picoquic_get_callback_context(first);
    if (connection != NULL && connection->magic == BP_MAGIC_CONNECTION) {
        connection->suspected = false;
        if (connection->renewals > 0) {
            renew_id(connection);
        }
    }
}

static void
take_train(bp_engine_t *engine, const bp_socket_t *s, unsigned int i)
{
    struct bp_udp *udp = engine->udp;
    struct sockaddr_storage to;
    int interface;
    size_t segment = read_control(s, &udp->rx[i].msg_hdr, &to, &interface);
    uint8_t *bytes = udp->rx_bytes + (size_t)i * BP_MESSAGE_BYTES;
    size_t length = udp->rx[i].msg_len;
    size_t step = segment > 0 ? segment : length;
    for (size_t offset = 0; offset < length; offset += step) {
        size_t n = length - offset < step ? length - offset : step;
        bp_udp_incoming(engine, bytes + offset, n, &udp->rx_from[i], &to, interface);
    }
}

static bool
batch_has_room(const bp_engine_t *engine)
{
    return engine->event_count < engine->config.events_max &&
           engine->config.arena_bytes - engine->arena_used >= BP_RX_BYTES;
}

/* Returns true if more may wait on this socket. */
static bool
drain_socket(bp_engine_t *engine, int index)
{
    struct bp_udp *udp = engine->udp;
    const bp_socket_t *s = &engine->sockets[index];
    for (unsigned int call = 0; call < BP_RX_CALLS_MAX; call++) {
        if (!batch_has_room(engine)) {
            return true;
        }
        for (unsigned int i = 0; i < BP_RX_MESSAGES; i++) {
            udp->rx_iov[i] =
                (struct iovec){udp->rx_bytes + (size_t)i * BP_MESSAGE_BYTES, BP_MESSAGE_BYTES};
            udp->rx[i].msg_hdr = (struct msghdr){.msg_name = &udp->rx_from[i],
                                                 .msg_namelen = sizeof(udp->rx_from[i]),
                                                 .msg_iov = &udp->rx_iov[i],
                                                 .msg_iovlen = 1,
                                                 .msg_control = udp->rx_control[i].bytes,
                                                 .msg_controllen = BP_CONTROL_BYTES};
        }
        int n = recvmmsg(s->fd, udp->rx, BP_RX_MESSAGES, MSG_DONTWAIT, NULL);
        if (n < 0) {
            /* Nothing to read, or some peer's ICMP error: the error queue must be
             * emptied either way, or the descriptor stays ready for ever. */
            bool empty = errno == EAGAIN;
            bp_udp_read_errors(engine, index);
            if (empty) {
                return false;
            }
            continue;
        }
        for (unsigned int i = 0; i < (unsigned int)n; i++) {
            take_train(engine, s, i);
        }
        if ((unsigned int)n < BP_RX_MESSAGES) {
            return false;
        }
    }
    return true;
}

int
bp_engine_receive(bp_engine_t *engine)
{
    if (engine->config.simulated) {
        return 0;
    }
    bp_clock_refresh(engine);
    bp_timer_clear(engine);
    bool more = false;
    for (int i = 0; i < BP_SOCKETS_MAX; i++) {
        if (engine->sockets[i].fd >= 0) {
            more = drain_socket(engine, i) || more;
        }
    }
    return more ? 1 : 0;
}
