/* Engines on real sockets of the loopback interface: what the simulation leaves out. */
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "check.h"
#include "engine_pair.h"
#include "quic/internal.h"

#define DEADLINE_US (20u * PAIR_SECOND) /* far more than anything here takes */

static pair_t pair;

/* What the kernel may answer on a bad day; every = 3 fails each third call. */
typedef struct {
    int error; /* EIO: only trains fail, as on a device without segmentation */
    unsigned every;
    unsigned calls;
    unsigned injected;
} fault_t;

static fault_t fault;
static size_t longest; /* bytes of a message, since it was last set to 0 */

/* Takes the place of the C library's. */
int
sendmmsg(int fd, struct mmsghdr *messages, unsigned int count, int flags)
{
    bool train = messages[0].msg_hdr.msg_controllen > 0;
    for (unsigned int i = 0; i < count; i++) {
        size_t length = messages[i].msg_hdr.msg_iov->iov_len;
        longest = length > longest ? length : longest;
    }
    bool due = fault.every > 0 && ++fault.calls % fault.every == 0;
    if (due && (train || fault.error != EIO)) {
        fault.injected++;
        errno = fault.error;
        return -1;
    }
    return (int)syscall(SYS_sendmmsg, fd, messages, count, flags);
}

static uint64_t
clock_us(void)
{
    struct timespec t;
    CHECK(clock_gettime(CLOCK_MONOTONIC, &t) == 0);
    return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
}

static bp_engine_t *
engine(int side)
{
    return pair.sides[side].engine;
}

static bp_address_t
address_of(const char *text, uint16_t port)
{
    bp_address_t address = {.family = strchr(text, ':') == NULL ? 4 : 6, .port = port};
    CHECK(inet_pton(address.family == 4 ? AF_INET : AF_INET6, text, address.ip) == 1);
    return address;
}

static bp_config_t
live_config(void)
{
    bp_config_t config = pair_config();
    config.simulated = 0;
    config.spin_us = 20;
    return config;
}

/* Bind the side's first socket; its address is where the others dial. */
static void
add_at(int side, const bp_config_t *config, const char *host)
{
    bp_address_t address = address_of(host, 0);
    pair_add(&pair, side, config);
    CHECK_EQUAL(bp_engine_bind(engine(side), &address), 0);
    CHECK_EQUAL(bp_engine_address(engine(side), 0, &pair.sides[side].address), BP_OK);
    CHECK(pair.sides[side].address.port != 0);
}

static void
start(const char *host)
{
    bp_config_t config = live_config();
    pair_init(&pair, 1);
    add_at(0, &config, host);
    add_at(1, &config, host);
}

/* One wake-up of a side: receive, handle, write, send, until it is quiet. */
static void
wake(int side)
{
    int more = 1;
    for (int i = 0; more && i < 100; i++) {
        more = bp_engine_receive(engine(side));
        pair_read_events(&pair, side);
        pair_write(&pair, side);
        CHECK_EQUAL(bp_engine_send(engine(side)), BP_OK);
        pair_read_events(&pair, side);
    }
}

typedef bool (*condition_t)(const void *context);

/* Run both event loops until the condition holds. Returns false at the deadline. */
static bool
run_until(uint64_t for_us, condition_t condition, const void *context)
{
    uint64_t end_us = clock_us() + for_us;
    for (;;) {
        struct pollfd fds[PAIR_ENGINES_MAX];
        nfds_t count = 0;
        for (int side = 0; side < PAIR_ENGINES_MAX; side++) {
            if (engine(side) != NULL) {
                pair_write(&pair, side);
                CHECK_EQUAL(bp_engine_send(engine(side)), BP_OK);
                pair_read_events(&pair, side);
                fds[count++] =
                    (struct pollfd){.fd = bp_engine_fd(engine(side)), .events = POLLIN};
            }
        }
        if (condition != NULL && condition(context)) {
            return true;
        }
        uint64_t now_us = clock_us();
        if (now_us >= end_us) {
            return false;
        }
        (void)poll(fds, count, (int)((end_us - now_us) / 1000) + 1);
        for (int side = 0; side < PAIR_ENGINES_MAX; side++) {
            if (engine(side) != NULL) {
                wake(side);
            }
        }
    }
}

typedef struct {
    int side;
    uint64_t handle;
} which_t;

static bool
is_connected(const void *context)
{
    const which_t *which = context;
    const pair_connection_t *c = pair_connection(&pair, which->side, which->handle);
    return c->closed || (c->connected && pair_accepted(&pair, 1) != 0);
}

static bool
is_closed(const void *context)
{
    const which_t *which = context;
    return pair_connection(&pair, which->side, which->handle)->closed;
}

static uint64_t
connect_to(const bp_address_t *address)
{
    which_t which = {0, 0};
    CHECK_EQUAL(bp_connection_open(engine(0), address, 0, &which.handle), BP_OK);
    CHECK(run_until(DEADLINE_US, is_connected, &which));
    CHECK(!pair_connection(&pair, 0, which.handle)->closed);
    return which.handle;
}

static bool
is_finished(const void *context)
{
    const uint64_t *id = context;
    const pair_stream_t *stream = pair_stream_by_id(&pair, 1, *id);
    return stream != NULL && stream->fins == 1;
}

/* Send bytes on a new stream and compare what arrives. */
static void
transfer(uint64_t client, uint64_t bytes)
{
    uint64_t stream = pair_open(&pair, 0, client, 0);
    uint64_t id = pair_stream(&pair, 0, stream)->id;
    pair_source_t *source = pair_send(&pair, 0, stream, bytes, true);
    CHECK(run_until(DEADLINE_US, is_finished, &id));
    CHECK_EQUAL(pair_stream_by_id(&pair, 1, id)->received, bytes);
    CHECK(pair_stream_by_id(&pair, 1, id)->hash == source->hash);
}

static void
megabytes_cross_the_loopback_on_both_families(void)
{
    static const char *const hosts[] = {"127.0.0.1", "::1"};
    for (int i = 0; i < 2; i++) {
        start(hosts[i]);
        transfer(connect_to(&pair.sides[1].address), 8 << 20);
        bp_engine_stats_t stats;
        bp_engine_stats(engine(1), &stats);
        CHECK(stats.datagrams_in > 1000 && stats.bytes_in > 8 << 20);
        pair_free(&pair);
    }
}

/* Congestion control gives out 16 datagrams at a time. */
static void
bursts_that_follow_closely_leave_as_one_train(void)
{
    bp_config_t config = live_config();
    config.spin_us = 1000;
    pair_init(&pair, 1);
    add_at(0, &config, "127.0.0.1");
    add_at(1, &config, "127.0.0.1");
    uint64_t client = connect_to(&pair.sides[1].address);
    longest = 0;
    transfer(client, 8 << 20);
    CHECK(longest > 32 * 1440 && longest <= BP_GSO_BYTES_MAX);
    pair_free(&pair);
}

static void
without_trains_the_bytes_are_the_same(void)
{
    start("127.0.0.1");
    engine(0)->gso = false;
    transfer(connect_to(&pair.sides[1].address), 2 << 20);
    pair_free(&pair);
}

static void
a_wildcard_socket_answers_from_the_address_it_was_asked_at(void)
{
    bp_config_t config = live_config();
    pair_init(&pair, 1);
    add_at(0, &config, "127.0.0.1");
    add_at(1, &config, "0.0.0.0");
    bp_address_t other = address_of("127.0.0.2", pair.sides[1].address.port);
    uint64_t client = connect_to(&other);
    transfer(client, 100000);
    bp_path_stats_t stats;
    CHECK_EQUAL(bp_connection_stats(engine(0), client, &stats), BP_OK);
    CHECK_EQUAL(stats.remote.ip[3], 2);
    CHECK_EQUAL(bp_connection_stats(engine(1), pair_accepted(&pair, 1), &stats), BP_OK);
    CHECK_EQUAL(stats.local.ip[3], 2);
    pair_free(&pair);
}

/* The transfer of a megabyte while a share of all sends fails in one way. */
static bp_engine_stats_t
transfer_through(int error, unsigned every)
{
    start("127.0.0.1");
    uint64_t client = connect_to(&pair.sides[1].address);
    fault = (fault_t){.error = error, .every = every};
    transfer(client, 1 << 20);
    CHECK(fault.injected > 0);
    fault = (fault_t){0};
    bp_engine_stats_t stats;
    bp_engine_stats(engine(0), &stats);
    bool gso = engine(0)->gso;
    CHECK_EQUAL(gso, error != EIO);
    pair_free(&pair);
    return stats;
}

static void
a_full_kernel_buffer_only_delays(void)
{
    CHECK(transfer_through(EAGAIN, 3).sends_blocked > 0);
    CHECK(transfer_through(ENOBUFS, 3).sends_blocked > 0);
}

static void
interrupted_and_failing_sends_lose_packets_at_most(void)
{
    CHECK_EQUAL(transfer_through(EINTR, 2).sends_blocked, 0);
    CHECK_EQUAL(transfer_through(ECONNREFUSED, 3).sends_blocked, 0);
    CHECK_EQUAL(transfer_through(EPERM, 7).sends_blocked, 0);
    CHECK_EQUAL(transfer_through(EMSGSIZE, 7).sends_blocked, 0);
}

static void
a_device_that_takes_no_trains_gets_single_datagrams(void)
{
    (void)transfer_through(EIO, 1);
}

static void
a_dial_to_a_closed_port_ends_long_before_its_timeout(void)
{
    start("127.0.0.1");
    bp_address_t gone = pair.sides[1].address;
    pair_remove(&pair, 1);
    which_t which = {0, 0};
    uint64_t start_us = clock_us();
    CHECK_EQUAL(bp_connection_open(engine(0), &gone, 0, &which.handle), BP_OK);
    CHECK(run_until(DEADLINE_US, is_closed, &which));
    CHECK_EQUAL(pair_connection(&pair, 0, which.handle)->why, BP_CLOSED_UNREACHABLE);
    CHECK(clock_us() - start_us < 5 * PAIR_SECOND);
    pair_free(&pair);
}

static void
a_peer_that_is_gone_is_noticed_by_the_next_packet(void)
{
    start("127.0.0.1");
    which_t which = {0, connect_to(&pair.sides[1].address)};
    transfer(which.handle, 100000);
    pair_remove(&pair, 1);
    uint64_t start_us = clock_us();
    CHECK_EQUAL(bp_connection_ping(engine(0), which.handle), BP_OK);
    CHECK(run_until(DEADLINE_US, is_closed, &which));
    CHECK_EQUAL(pair_connection(&pair, 0, which.handle)->why, BP_CLOSED_UNREACHABLE);
    fprintf(stderr, "  after %llu ms\n",
            (unsigned long long)((clock_us() - start_us) / PAIR_MS));
    CHECK(clock_us() - start_us < 2 * PAIR_SECOND);
    pair_free(&pair);
}

static void
errors_about_dead_peers_fail_no_live_one(void)
{
    bp_config_t config = live_config();
    start("127.0.0.1");
    add_at(2, &config, "127.0.0.1");
    bp_address_t dead = pair.sides[2].address;
    pair_remove(&pair, 2);
    uint64_t live = connect_to(&pair.sides[1].address);
    uint64_t stream = pair_open(&pair, 0, live, 0);
    uint64_t id = pair_stream(&pair, 0, stream)->id;
    pair_source_t *source = pair_send(&pair, 0, stream, 4 << 20, true);
    which_t dials[20];
    for (int i = 0; i < 20; i++) {
        dials[i].side = 0;
        CHECK_EQUAL(bp_connection_open(engine(0), &dead, 0, &dials[i].handle), BP_OK);
    }
    CHECK(run_until(DEADLINE_US, is_finished, &id));
    CHECK(pair_stream_by_id(&pair, 1, id)->hash == source->hash);
    for (int i = 0; i < 20; i++) {
        CHECK(run_until(DEADLINE_US, is_closed, &dials[i]));
        CHECK_EQUAL(pair_connection(&pair, 0, dials[i].handle)->why, BP_CLOSED_UNREACHABLE);
    }
    CHECK(!pair_connection(&pair, 0, live)->closed);
    bp_engine_stats_t stats;
    bp_engine_stats(engine(0), &stats);
    CHECK(stats.icmp_seen >= 40 && stats.icmp_believed >= 40);
    pair_free(&pair);
}

static bool
is_piled_up(const void *context)
{
    uint32_t count;
    (void)context;
    (void)bp_engine_receive(engine(1));
    (void)bp_engine_events(engine(1), &count);
    CHECK_EQUAL(bp_engine_send(engine(1)), BP_OK);
    return count >= 10;
}

static void
receiving_pauses_while_events_wait(void)
{
    bp_config_t config = live_config();
    pair_init(&pair, 1);
    add_at(0, &config, "127.0.0.1");
    config.events_max = 10;
    add_at(1, &config, "127.0.0.1");
    uint64_t client = connect_to(&pair.sides[1].address);
    uint64_t streams[20];
    for (int i = 0; i < 20; i++) {
        streams[i] = pair_open(&pair, 0, client, 0);
        CHECK(bp_stream_write(engine(0), streams[i], (const uint8_t *)"first", 5, 0) > 0);
    }
    uint64_t end_us = clock_us() + DEADLINE_US;
    while (!is_piled_up(NULL)) {
        CHECK(clock_us() < end_us);
        wake(0);
    }
    uint32_t before;
    (void)bp_engine_events(engine(1), &before);
    for (int i = 0; i < 20; i++) {
        CHECK(bp_stream_write(engine(0), streams[i], (const uint8_t *)"second", 6, 1) > 0);
        wake(0);
        CHECK_EQUAL(bp_engine_receive(engine(1)), 1);
    }
    uint32_t after;
    (void)bp_engine_events(engine(1), &after);
    CHECK_EQUAL(after, before);
    for (uint64_t id = 0; id < 80; id += 4) {
        CHECK(run_until(DEADLINE_US, is_finished, &id));
        CHECK_EQUAL(pair_stream_by_id(&pair, 1, id)->received, 11);
    }
    pair_free(&pair);
}

static void
addresses_in_use_or_too_many_are_refused(void)
{
    start("127.0.0.1");
    CHECK_EQUAL(bp_engine_bind(engine(0), &pair.sides[1].address), BP_E_SYSTEM);
    CHECK_EQUAL(bp_engine_errno(engine(0)), EADDRINUSE);
    bp_address_t any = address_of("127.0.0.1", 0);
    for (int i = 1; i < BP_SOCKETS_MAX; i++) {
        CHECK_EQUAL(bp_engine_bind(engine(0), &any), i);
    }
    CHECK_EQUAL(bp_engine_bind(engine(0), &any), BP_E_LIMIT);
    CHECK_EQUAL(bp_engine_unbind(engine(0), 0), BP_E_STATE);
    CHECK_EQUAL(bp_engine_unbind(engine(0), 3), BP_OK);
    CHECK_EQUAL(bp_engine_unbind(engine(0), 3), BP_E_ARGUMENT);
    CHECK_EQUAL(bp_engine_unbind(engine(0), BP_SOCKETS_MAX), BP_E_ARGUMENT);
    CHECK_EQUAL(bp_engine_unbind(engine(0), -1), BP_E_ARGUMENT);
    CHECK_EQUAL(bp_engine_bind(engine(0), &any), 3);
    bp_address_t nowhere = {.family = 5};
    CHECK_EQUAL(bp_engine_bind(engine(0), &nowhere), BP_E_ARGUMENT);
    uint64_t handle;
    bp_address_t v6 = address_of("::1", 4433);
    CHECK_EQUAL(bp_connection_open(engine(0), &v6, 0, &handle), BP_E_STATE);
    CHECK_EQUAL(bp_connection_open(engine(0), &nowhere, 0, &handle), BP_E_ARGUMENT);
    pair_free(&pair);
}

static bool has_moved;

static void
note_move(pair_t *p, int side, const bp_event_t *event, void *context)
{
    (void)p;
    (void)context;
    has_moved |=
        side == 0 && event->type == BP_EVENT_PATH && (event->flags & BP_FLAG_MOVED) != 0;
}

static bool
is_moved(const void *context)
{
    (void)context;
    return has_moved;
}

static void
a_socket_in_use_by_a_path_is_not_closed(void)
{
    start("127.0.0.1");
    pair.on_event = note_move;
    uint64_t client = connect_to(&pair.sides[1].address);
    transfer(client, 100000);
    bp_address_t any = address_of("127.0.0.1", 0);
    CHECK_EQUAL(bp_engine_bind(engine(0), &any), 1);
    CHECK_EQUAL(bp_connection_migrate(engine(0), client, 1, PAIR_SECOND), BP_OK);
    CHECK_EQUAL(bp_connection_migrate(engine(0), client, 1, PAIR_SECOND), BP_E_STATE);
    CHECK_EQUAL(bp_engine_unbind(engine(0), 1), BP_E_STATE);
    CHECK(run_until(DEADLINE_US, is_moved, NULL));
    bp_path_stats_t stats;
    bp_address_t local;
    CHECK_EQUAL(bp_connection_stats(engine(0), client, &stats), BP_OK);
    CHECK_EQUAL(bp_engine_address(engine(0), 1, &local), BP_OK);
    CHECK_EQUAL(stats.local.port, local.port);
    CHECK_EQUAL(bp_engine_unbind(engine(0), 1), BP_E_STATE);
    transfer(client, 100000);
    CHECK_EQUAL(bp_connection_close(engine(0), client, 0, NULL), BP_OK);
    which_t which = {0, client};
    CHECK(run_until(DEADLINE_US, is_closed, &which));
    CHECK_EQUAL(bp_engine_unbind(engine(0), 1), BP_OK);
    has_moved = false;
    pair_free(&pair);
}

static void
a_restart_is_noticed_after_a_migration_too(void)
{
    for (int multipath = 0; multipath < 2; multipath++) {
        bp_config_t config = live_config();
        config.multipath = (uint8_t)multipath;
        pair_init(&pair, 1);
        add_at(0, &config, "127.0.0.1");
        add_at(1, &config, "127.0.0.1");
        bp_address_t any = address_of("127.0.0.1", 0);
        pair.on_event = note_move;
        which_t which = {0, connect_to(&pair.sides[1].address)};
        transfer(which.handle, 100000);
        CHECK_EQUAL(bp_engine_bind(engine(0), &any), 1);
        CHECK_EQUAL(bp_connection_migrate(engine(0), which.handle, 1, PAIR_SECOND), BP_OK);
        CHECK(run_until(DEADLINE_US, is_moved, NULL));
        has_moved = false;
        transfer(which.handle, 100000);
        (void)run_until(PAIR_SECOND, NULL, NULL); /* the old path is given up meanwhile */
        transfer(which.handle, 100000);

        bp_address_t same = pair.sides[1].address;
        pair_remove(&pair, 1);
        pair_add(&pair, 1, &config);
        CHECK_EQUAL(bp_engine_bind(engine(1), &same), 0);
        CHECK_EQUAL(bp_connection_ping(engine(0), which.handle), BP_OK);
        CHECK(run_until(PAIR_SECOND, is_closed, &which));
        CHECK_EQUAL(pair_connection(&pair, 0, which.handle)->why, BP_CLOSED_RESET);
        pair_free(&pair);
    }
}

int
main(void)
{
    RUN(megabytes_cross_the_loopback_on_both_families);
    RUN(bursts_that_follow_closely_leave_as_one_train);
    RUN(without_trains_the_bytes_are_the_same);
    RUN(a_wildcard_socket_answers_from_the_address_it_was_asked_at);
    RUN(a_full_kernel_buffer_only_delays);
    RUN(interrupted_and_failing_sends_lose_packets_at_most);
    RUN(a_device_that_takes_no_trains_gets_single_datagrams);
    RUN(a_dial_to_a_closed_port_ends_long_before_its_timeout);
    RUN(a_peer_that_is_gone_is_noticed_by_the_next_packet);
    RUN(errors_about_dead_peers_fail_no_live_one);
    RUN(receiving_pauses_while_events_wait);
    RUN(addresses_in_use_or_too_many_are_refused);
    RUN(a_socket_in_use_by_a_path_is_not_closed);
    RUN(a_restart_is_noticed_after_a_migration_too);
    return 0;
}
