/* What the files of the engine share. Nothing here is visible outside csrc/quic. */
#ifndef BP_QUIC_INTERNAL_H
#define BP_QUIC_INTERNAL_H

#include <netinet/in.h>
#include <stdbool.h>
#include <sys/socket.h>

#include "engine.h"
#include "picoquic_symbols.h"

#define BP_RX_MESSAGES 16u        /* datagrams (GRO trains) read per system call */
#define BP_TX_MESSAGES 16u        /* datagrams (GSO trains) sent per system call */
#define BP_MESSAGE_BYTES 65536u   /* the largest train */
#define BP_RX_BYTES (BP_RX_MESSAGES * BP_MESSAGE_BYTES)
#define BP_RX_CALLS_MAX 4u        /* recvmmsg calls per bp_engine_receive and socket */
#define BP_TX_ROUNDS_MAX 64u      /* sendmmsg calls per bp_engine_send */
#define BP_GSO_BYTES_MAX 65507u
#define BP_GSO_SEGMENTS_MAX 64u   /* UDP_MAX_SEGMENTS of the oldest kernels that know GSO */
#define BP_TX_BURST 4u            /* datagrams that a train must have room for to grow */
#define BP_CONTROL_BYTES 128u     /* ancillary data of one message */
#define BP_CONNECTIONS_MAX (1u << 20)
#define BP_STREAMS_MAX (1u << 24)
#define BP_EVENTS_MAX (1u << 20)
#define BP_EVENTS_SLACK 8192u /* events beyond events_max after which datagrams are dropped */
#define BP_WINDOW_MAX (UINT64_C(1) << 40)
#define BP_ICMP_BATCH_MAX 64u     /* error-queue entries looked at per call */
#define BP_ICMP_WINDOW_US 100000u
/* Each path id prepared ahead costs 2.6 KB a side; retired ones are replaced. */
#define BP_PATH_IDS 1u
#define BP_PROBE_TICK_US 20000u /* how often deadlines of migrates are looked at */
#define BP_RESET_INTERVAL_US 1000u /* least time between two stateless resets */
#define BP_RENEWALS_MAX 32u        /* datagrams after which a new connection id is given up */
#define BP_STREAM_BUFFER_FIRST 512u
#define BP_STREAM_BUFFER_KEEP 65536u /* a drained buffer larger than this is given back */
#define BP_SPARE_BUFFERS_MAX 8u
#define BP_SLAB_SLOTS 64u
#define BP_MAGIC_ENGINE 0x62703251u
#define BP_MAGIC_CONNECTION 0x62703243u

typedef struct bp_connection bp_connection_t;
typedef struct bp_stream bp_stream_t;

struct bp_stream {
    uint32_t index;
    uint32_t generation;
    bp_connection_t *connection; /* NULL while the slot is free */
    bp_stream_t *next;           /* in its connection, or in the free or limbo list */
    bp_stream_t *previous;
    uint64_t id;
    uint8_t *buffer;   /* queued bytes are [head, tail) */
    uint32_t capacity;
    uint32_t head;
    uint32_t tail;
    uint64_t sent;      /* bytes handed to packets */
    uint64_t delivered; /* bytes handed to the application as events */
    uint64_t consumed;  /* of these, bytes it has used up */
    uint64_t limit;     /* flow-control limit last given to the peer */
    uint64_t share;     /* bytes it may come to hold: see bp_stream_settle */
    uint64_t stop_code; /* of a STOP_SENDING to send once the peer knows the stream */
    bool known;         /* the peer has heard of it */
    bool stop_due;
    uint64_t reset_code; /* of a reset to send once the peer has room for the stream */
    bool reset_due;
    bool controlled;    /* its flow control is ours */
    bool can_send;
    bool can_receive;
    bool fin_queued;
    bool active;        /* marked active in picoquic */
    bool waiting;       /* reported no room; owes a WRITABLE */
};

struct bp_connection {
    uint32_t magic; /* first, so that a callback can tell its contexts apart */
    uint32_t index;
    uint32_t generation;
    bool used;
    bool dialled;
    bool connected;
    bool starved;       /* credit was withheld: the connection window is promised */
    bool closing;       /* the application has closed it */
    bool close_pending; /* its CLOSED event found no room */
    bp_connection_t *next; /* in the free or limbo list */
    bp_engine_t *engine;
    bp_pq_cnx_t *cnx;
    bp_stream_t *streams;
    uint64_t queued; /* bytes in all send buffers */
    uint64_t promised; /* sum of its streams' shares */
    uint64_t mtu;
    uint64_t path_id; /* path in use, without multipath always 0 */
    struct sockaddr_storage peer;
    uint8_t *certificate;
    size_t certificate_size;
    uint32_t renewals;    /* attempts left to change to an id whose reset token is known */
    bool suspected;       /* an ICMP error was believed and nothing was heard since */
    uint64_t icmp_us;     /* when */
    int probe_socket;     /* target of a migrate under way, else -1 */
    uint64_t probes;      /* sent so far */
    bool probe_waits;     /* its probe could not be sent yet: retired paths still count */
    uint64_t probe_deadline_us;
    bp_event_t closed;
    char reason[BP_REASON_BYTES_MAX + 1];
};

typedef struct {
    int fd; /* -1: unused */
    bool wildcard;
    struct sockaddr_storage local;
    socklen_t local_size;
} bp_socket_t;

/* Overflow of the arena: a chunk that did not fit, freed on consume. */
typedef struct bp_block bp_block_t;
struct bp_block {
    bp_block_t *next;
    uint8_t bytes[];
};

struct bp_udp; /* buffers of udp.c */

struct bp_engine {
    uint32_t magic;
    bool freeing;
    const bp_picoquic_t *pq;
    bp_pq_quic_t *quic;
    bp_config_t config;
    char *alpn;
    uint64_t now_us;         /* picoquic's clock; advanced on every entry */
    uint64_t wall_offset_us; /* wall clock minus monotonic clock, fixed at creation */
    int last_error;

    bp_pq_openssl_verify_t verify;
    bp_pq_override_t verify_override;

    bp_connection_t *connections; /* connections_max slots */
    bp_connection_t *connection_free;
    bp_connection_t *connection_limbo; /* reusable after the next consume */
    uint32_t connection_count;
    uint32_t connection_top; /* slots ever used */
    uint32_t close_pending;
    uint32_t probing;

    bp_stream_t **slabs;
    uint32_t slab_count;
    bp_stream_t *stream_free;
    bp_stream_t *stream_limbo;
    uint32_t stream_count;

    uint8_t *spares[BP_SPARE_BUFFERS_MAX]; /* large send buffers, see buffer.c */
    uint32_t spare_count;

    bp_pq_cnx_t **reap; /* contexts to delete outside callbacks */
    uint32_t reap_count;

    bp_event_t *events;
    uint32_t event_count;
    uint32_t event_capacity;
    uint32_t event_limit; /* no batch is larger */
    uint8_t *arena;
    size_t arena_used;
    bp_block_t *blocks;

    bp_socket_t sockets[BP_SOCKETS_MAX];
    struct bp_udp *udp;
    int poll_fd;
    int timer_fd;
    uint64_t armed_us; /* when the timer fires; UINT64_MAX: not armed */
    bool write_blocked;
    bool gso;

    bp_engine_stats_t stats;
};

/* clock.c */
void bp_clock_refresh(bp_engine_t *engine);
void bp_clock_spin(bp_engine_t *engine, uint64_t until_us);
int bp_timer_open(bp_engine_t *engine);
void bp_timer_arm(bp_engine_t *engine, uint64_t delay_us);
void bp_timer_clear(bp_engine_t *engine);

/* address.c */
socklen_t bp_address_to_native(const bp_address_t *address, struct sockaddr_storage *native);
void bp_address_from_native(const struct sockaddr_storage *native, bp_address_t *address);
bool bp_address_equal(const struct sockaddr_storage *a, const struct sockaddr_storage *b);

/* events.c */
bool bp_events_crowded(const bp_engine_t *engine);
bp_event_t *bp_event_push(bp_engine_t *engine, uint16_t type, const bp_connection_t *connection,
                          const bp_stream_t *stream);
int bp_event_push_data(bp_engine_t *engine, bp_stream_t *stream, const uint8_t *data,
                       size_t length, uint16_t flags);

/* buffer.c */
uint8_t *bp_buffer_take(bp_engine_t *engine, size_t wanted, uint32_t *capacity);
void bp_buffer_give(bp_engine_t *engine, uint8_t *buffer, uint32_t capacity);
void bp_buffer_free_spares(bp_engine_t *engine);

/* callback.c */
int bp_callback(bp_pq_cnx_t *cnx, uint64_t stream_id, uint8_t *bytes, size_t length, int event,
                void *context, void *stream_context);

/* certificate.c */
int bp_certificate_setup(bp_engine_t *engine);

/* connection.c */
uint64_t bp_connection_handle(const bp_connection_t *connection);
bp_connection_t *bp_connection_find(const bp_engine_t *engine, uint64_t handle);
bp_connection_t *bp_connection_take(bp_engine_t *engine, bp_pq_cnx_t *cnx);
/* End it: CLOSED is queued, streams and slot are freed, picoquic's context is detached. */
void bp_connection_end(bp_connection_t *connection, uint16_t why, uint64_t local,
                       uint64_t remote, uint64_t application);
void bp_connection_kill(bp_connection_t *connection, uint16_t why);
void bp_connection_flush_closed(bp_engine_t *engine);
void bp_connection_recycle(bp_engine_t *engine);
void bp_engine_reap(bp_engine_t *engine);

/* stream.c */
uint64_t bp_stream_handle(const bp_stream_t *stream);
bp_stream_t *bp_stream_find(const bp_engine_t *engine, uint64_t handle);
bp_stream_t *bp_stream_take(bp_connection_t *connection, uint64_t id);
void bp_stream_drop(bp_stream_t *stream);
void bp_stream_stop(bp_stream_t *stream);
void bp_stream_give_up(bp_stream_t *stream, uint64_t code);
void bp_stream_settle(bp_stream_t *stream);
void bp_stream_give_credits(bp_connection_t *connection);
void bp_stream_recycle(bp_engine_t *engine);
void bp_stream_free_slabs(bp_engine_t *engine);
int bp_stream_prepare(bp_stream_t *stream, void *packet, size_t room);

/* path.c */
void bp_path_available(bp_connection_t *connection, uint64_t path_id);
void bp_path_expire(bp_engine_t *engine);

/* unreachable.c */
void bp_unreachable(bp_engine_t *engine, const struct sockaddr_storage *peer,
                    const uint8_t *quoted, size_t length);

/* udp.c */
int bp_udp_open(bp_engine_t *engine);
void bp_udp_close(bp_engine_t *engine);
void bp_udp_read_errors(bp_engine_t *engine, int socket);

#endif
