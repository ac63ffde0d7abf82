/*
 * The sending half: ask picoquic for what is due, batch it, hand it to the kernel.
 *
 * Congestion control paces in bursts and then asks for waits of a few microseconds.
 * Leaving for the event loop would turn each into a sleep of fifty, so waits up to
 * spin_us are spun away after something was sent. Bursts that are so near to each other
 * leave as one train: the kernel's work is by the train, not by the byte.
 */
#include <errno.h>
#include <netinet/udp.h>
#include <string.h>

#include "udp.h"

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif

#define WAKE_DELAY_MAX_US 60000000

static void
add_control(struct msghdr *header, int level, int type, const void *data, size_t size)
{
    struct cmsghdr *c =
        (struct cmsghdr *)((uint8_t *)header->msg_control + header->msg_controllen);
    c->cmsg_level = level;
    c->cmsg_type = type;
    c->cmsg_len = CMSG_LEN(size);
    memcpy(CMSG_DATA(c), data, size);
    header->msg_controllen += CMSG_SPACE(size);
}

/* On a wildcard socket the source address must be chosen, or replies leave from another one. */
static void
add_source(struct msghdr *header, const struct sockaddr_storage *from)
{
    if (from->ss_family == AF_INET) {
        struct in_pktinfo info;
        memset(&info, 0, sizeof(info));
        info.ipi_spec_dst = ((const struct sockaddr_in *)from)->sin_addr;
        if (info.ipi_spec_dst.s_addr != INADDR_ANY) {
            add_control(header, IPPROTO_IP, IP_PKTINFO, &info, sizeof(info));
        }
    } else if (from->ss_family == AF_INET6) {
        struct in6_pktinfo info;
        memset(&info, 0, sizeof(info));
        info.ipi6_addr = ((const struct sockaddr_in6 *)from)->sin6_addr;
        if (!IN6_IS_ADDR_UNSPECIFIED(&info.ipi6_addr)) {
            add_control(header, IPPROTO_IPV6, IPV6_PKTINFO, &info, sizeof(info));
        }
    }
}

typedef struct {
    uint8_t *bytes;
    size_t length;
    size_t segment; /* size of its datagrams, but for the last; 0: it is one */
    struct sockaddr_storage from;
    bp_pq_cnx_t *cnx; /* NULL for a packet of no connection */
} train_t;

static void
describe(bp_engine_t *engine, unsigned int i, const train_t *train)
{
    struct bp_udp *udp = engine->udp;
    struct msghdr *header = &udp->tx[i].msg_hdr;
    size_t segment = train->segment;
    udp->tx_iov[i] = (struct iovec){train->bytes, train->length};
    udp->tx_segment[i] = segment;
    udp->tx_from[i] = train->from;
    *header = (struct msghdr){.msg_name = &udp->tx_to[i],
                              .msg_namelen = udp->tx_to[i].ss_family == AF_INET
                                                 ? (socklen_t)sizeof(struct sockaddr_in)
                                                 : (socklen_t)sizeof(struct sockaddr_in6),
                              .msg_iov = &udp->tx_iov[i],
                              .msg_iovlen = 1,
                              .msg_control = udp->tx_control[i].bytes};
    if (segment > 0 && segment < train->length) {
        uint16_t value = (uint16_t)segment;
        add_control(header, SOL_UDP, UDP_SEGMENT, &value, sizeof(value));
    }
    if (engine->sockets[udp->tx_socket].wildcard) {
        add_source(header, &train->from);
    }
    if (header->msg_controllen == 0) {
        header->msg_control = NULL;
    }
}

/* The kernel or device does not do GSO: send the train one segment at a time, now and later. */
static void
send_segments(bp_engine_t *engine, unsigned int i)
{
    struct bp_udp *udp = engine->udp;
    const uint8_t *bytes = udp->tx_iov[i].iov_base;
    size_t length = udp->tx_iov[i].iov_len;
    size_t step = udp->tx_segment[i];
    engine->gso = false;
    for (size_t offset = 0; offset < length; offset += step) {
        size_t n = length - offset < step ? length - offset : step;
        /* A loss here is a lost packet, which QUIC repairs. */
        (void)sendto(engine->sockets[udp->tx_socket].fd, bytes + offset, n, MSG_DONTWAIT,
                     udp->tx[i].msg_hdr.msg_name, udp->tx[i].msg_hdr.msg_namelen);
    }
}

/* Send what is batched. Returns false if the kernel's buffer is full. */
static bool
flush(bp_engine_t *engine)
{
    struct bp_udp *udp = engine->udp;
    bool retried = false;
    while (udp->tx_done < udp->tx_count) {
        int fd = engine->sockets[udp->tx_socket].fd;
        int n =
            sendmmsg(fd, udp->tx + udp->tx_done, udp->tx_count - udp->tx_done, MSG_DONTWAIT);
        if (n > 0) {
            udp->tx_done += (unsigned int)n;
            retried = false;
            continue;
        }
        if (errno == EAGAIN || errno == ENOBUFS) {
            engine->stats.sends_blocked++;
            bp_udp_watch_writable(engine, true);
            return false;
        }
        if (errno == EINTR) {
            continue;
        }
        unsigned int i = udp->tx_done;
        bool train = udp->tx_segment[i] > 0 && udp->tx_segment[i] < udp->tx_iov[i].iov_len;
        if ((errno == EIO || errno == EINVAL) && train) {
            send_segments(engine, i);
        } else if (!retried) {
            /* Most likely another peer's ICMP error, reported here: read it and try again. */
            bp_udp_read_errors(engine, udp->tx_socket);
            retried = true;
            continue;
        }
        udp->tx_done++;
        retried = false;
    }
    udp->tx_count = 0;
    udp->tx_done = 0;
    return true;
}

/*
 * How many bytes the newest train may grow by: it has several datagrams, all of one size,
 * and room for a burst more. 0 when it may not: the kernel refuses a train that has too
 * many datagrams, however short they are.
 */
static size_t
growth(const bp_engine_t *engine)
{
    const struct bp_udp *udp = engine->udp;
    if (udp->tx_count == 0) {
        return 0;
    }
    unsigned int newest = udp->tx_count - 1;
    size_t length = udp->tx_iov[newest].iov_len;
    size_t segment = udp->tx_segment[newest];
    if (segment == 0 || segment >= length || length % segment != 0) {
        return 0;
    }
    size_t bytes_max = BP_GSO_SEGMENTS_MAX * segment;
    if (bytes_max > BP_GSO_BYTES_MAX) {
        bytes_max = BP_GSO_BYTES_MAX;
    }
    size_t room = length < bytes_max ? bytes_max - length : 0;
    return room >= BP_TX_BURST * segment ? room : 0;
}

/* Whether the train that was written behind the newest one goes the same way. */
static bool
continues(const struct bp_udp *udp, const train_t *train, int socket)
{
    unsigned int i = udp->tx_count;
    size_t datagram = train->segment > 0 ? train->segment : train->length;
    bool same_size = datagram == udp->tx_segment[i - 1] ||
                     (datagram == train->length && datagram < udp->tx_segment[i - 1]);
    return same_size && socket == udp->tx_socket &&
           bp_address_equal(&udp->tx_to[i], &udp->tx_to[i - 1]) &&
           bp_address_equal(&train->from, &udp->tx_from[i - 1]);
}

/* Have the next train written. Returns false when nothing is due. */
static bool
next_train(bp_engine_t *engine, size_t room, uint32_t *empty, train_t *train)
{
    struct bp_udp *udp = engine->udp;
    for (;;) {
        int interface = 0;
        bp_pq_cid_t log_cid;
        train->length = 0;
        train->segment = 0;
        train->from.ss_family = AF_UNSPEC;
        train->cnx = NULL;
        int status = engine->pq->picoquic_prepare_next_packet_ex(
            engine->quic, engine->now_us, train->bytes, room, &train->length,
            &udp->tx_to[udp->tx_count], &train->from, &interface, &log_cid, &train->cnx,
            engine->gso ? &train->segment : NULL);
        if (status == 0 && train->length > 0) {
            return true;
        }
        /* Serving a connection may produce no packet; the bound guards against a library
         * that never says done. */
        bool due =
            engine->pq->picoquic_get_next_wake_delay(engine->quic, engine->now_us, 1) <= 0;
        if (!due || ++*empty > engine->config.connections_max) {
            return false;
        }
    }
}

static void
count_train(bp_engine_t *engine, const train_t *train)
{
    size_t datagram = train->segment > 0 ? train->segment : train->length;
    engine->stats.datagrams_out += (train->length + datagram - 1) / datagram;
    engine->stats.bytes_out += train->length;
    bp_connection_t *connection =
        train->cnx == NULL ? NULL : engine->pq->picoquic_get_callback_context(train->cnx);
    if (connection != NULL && connection->magic == BP_MAGIC_CONNECTION &&
        datagram > connection->mtu) {
        connection->mtu = datagram;
    }
}

/*
 * Batch until nothing is due or the batch is full. Returns the number of trains
 * prepared; *blocked when the kernel's buffer is full.
 */
static unsigned int
prepare(bp_engine_t *engine, bool *blocked, uint32_t *empty)
{
    struct bp_udp *udp = engine->udp;
    unsigned int prepared = 0;
    while (udp->tx_count < BP_TX_MESSAGES) {
        unsigned int i = udp->tx_count;
        size_t room = growth(engine);
        train_t train = {.bytes = udp->tx_bytes + (size_t)i * BP_MESSAGE_BYTES};
        if (room > 0) {
            train.bytes = (uint8_t *)udp->tx_iov[i - 1].iov_base + udp->tx_iov[i - 1].iov_len;
        }
        if (!next_train(engine, room > 0 ? room : BP_GSO_BYTES_MAX, empty, &train)) {
            break;
        }
        int socket = bp_udp_pick_socket(engine, &train.from, &udp->tx_to[i]);
        if (socket < 0) {
            continue; /* no socket of that family: the same as a lost packet */
        }
        count_train(engine, &train);
        prepared++;
        if (room > 0 && continues(udp, &train, socket)) {
            udp->tx_iov[i - 1].iov_len += train.length;
            continue;
        }
        if (i > 0 && socket != udp->tx_socket) {
            /* Move the train to the front once the others are out. */
            struct sockaddr_storage to = udp->tx_to[i];
            if (!flush(engine)) {
                *blocked = true;
                return prepared - 1; /* this train is lost; QUIC repairs it */
            }
            memmove(udp->tx_bytes, train.bytes, train.length);
            train.bytes = udp->tx_bytes;
            udp->tx_to[0] = to;
            i = 0;
        }
        udp->tx_socket = socket;
        describe(engine, i, &train);
        udp->tx_count = i + 1;
    }
    return prepared;
}

int
bp_engine_send(bp_engine_t *engine)
{
    if (engine->config.simulated) {
        return BP_OK;
    }
    bp_clock_refresh(engine);
    if (engine->probing > 0) {
        bp_path_expire(engine);
    }
    bool blocked = !flush(engine);
    bool sent = false;
    int64_t delay_us = 0;
    uint32_t empty = 0;
    for (unsigned int round = 0; !blocked && round < BP_TX_ROUNDS_MAX; round++) {
        /* An ICMP error read while flushing may have ended a connection. */
        bp_engine_reap(engine);
        unsigned int prepared = prepare(engine, &blocked, &empty);
        sent = sent || prepared > 0;
        delay_us = engine->pq->picoquic_get_next_wake_delay(engine->quic, engine->now_us,
                                                            WAKE_DELAY_MAX_US);
        bool spins = delay_us > 0 && sent && delay_us <= (int64_t)engine->config.spin_us;
        bool grows = spins && prepared > 0 && engine->udp->tx_count == 1 && growth(engine) > 0;
        if (!blocked && !grows) {
            blocked = !flush(engine);
        }
        if (delay_us <= 0 && prepared > 0) {
            continue;
        }
        if (spins) {
            bp_clock_spin(engine, engine->now_us + (uint64_t)delay_us);
            continue;
        }
        break;
    }
    if (blocked || !flush(engine)) {
        return BP_OK; /* the poll descriptor tells when there is room */
    }
    bp_udp_watch_writable(engine, false);
    if (engine->probing > 0 && delay_us > (int64_t)BP_PROBE_TICK_US) {
        delay_us = BP_PROBE_TICK_US;
    }
    bp_timer_arm(engine, delay_us > 0 ? (uint64_t)delay_us : 0);
    return BP_OK;
}
