/*
 * The QUIC engine: one picoquic context, its UDP sockets and one timer, driven
 * from one event loop. This header is all that cffi sees; the hot calls are also
 * exported as a table (hot.h) for compiled callers.
 *
 * One thread at a time may use an engine; engines are independent. No function
 * calls back into the caller: whatever picoquic reports becomes an event, read
 * with bp_engine_events and released with bp_engine_consume.
 *
 * Handles name connections and streams: an index in the low 32 bits, a generation
 * in the high ones, never 0. A stale handle is refused with BP_E_GONE.
 *
 * Functions return BP_OK (or a value >= 0) or a negative BP_E_*. After an error
 * nothing has changed unless the function says otherwise.
 */
#ifndef BP_QUIC_ENGINE_H
#define BP_QUIC_ENGINE_H

#include <stddef.h>
#include <stdint.h>

/* cffi reads from here. */

#define BP_OK 0
#define BP_E_ARGUMENT (-1)    /* a parameter is out of range */
#define BP_E_GONE (-2)        /* the handle names nothing alive */
#define BP_E_LIMIT (-3)       /* a configured maximum is reached */
#define BP_E_FULL (-4)        /* the stream's send buffer has no room */
#define BP_E_MEMORY (-5)      /* malloc failed */
#define BP_E_SYSTEM (-6)      /* a system call failed; see bp_engine_errno */
#define BP_E_STATE (-7)       /* not possible in the current state */
#define BP_E_LIBRARY (-8)     /* picoquic refused; see bp_engine_errno */
#define BP_E_DISABLED (-9)    /* the peer has disabled active migration */
#define BP_E_EXHAUSTED (-10)  /* no connection id left to migrate with */

#define BP_EVENT_CONNECTED 1    /* handshake complete; flag ACCEPTED on a server */
/* Last event of a connection; a = local code, b = remote code, length = app code. */
#define BP_EVENT_CLOSED 2
#define BP_EVENT_DATA 3 /* bytes, in order; flags NEW, FIN */
#define BP_EVENT_RESET 4 /* peer gave up sending; a = its code */
#define BP_EVENT_STOP_SENDING 5 /* peer gave up reading; a = its code */
#define BP_EVENT_WRITABLE 6 /* a stream that reported no room has room again */
#define BP_EVENT_RELEASED 7 /* last event of a stream; its handle is gone, as with CLOSED */
#define BP_EVENT_PATH 8 /* a = path id; flag MOVED when it answers a migrate */
#define BP_EVENT_PATH_FAILED 9 /* a migrate got no answer in time; the old path stays */

#define BP_FLAG_FIN 1
#define BP_FLAG_NEW 2 /* first event of a stream the peer opened */
#define BP_FLAG_ACCEPTED 4
#define BP_FLAG_MOVED 8

/* Why a connection ended, in the flags of BP_EVENT_CLOSED. */
#define BP_CLOSED_LOCAL 1 /* we closed it, or local_code says what failed */
#define BP_CLOSED_APPLICATION 2 /* the peer's application closed it */
#define BP_CLOSED_TRANSPORT 3 /* the peer's transport closed it */
#define BP_CLOSED_RESET 4 /* stateless reset: the peer has lost the connection */
#define BP_CLOSED_IDLE 5 /* nothing heard for the idle timeout */
#define BP_CLOSED_UNREACHABLE 6 /* verified ICMP errors, twice */
#define BP_CLOSED_HANDSHAKE 7 /* the handshake did not finish in time */

#define BP_SOCKETS_MAX 8
#define BP_RESET_SEED_BYTES 16
#define BP_REASON_BYTES_MAX 127

typedef struct bp_engine bp_engine_t;

typedef struct {
    uint8_t family; /* 4 or 6 */
    uint8_t ip[16]; /* network order; 4 bytes used for family 4 */
    uint16_t port; /* host order */
    uint32_t scope; /* IPv6 zone, else 0 */
} bp_address_t;

typedef struct {
    const char *certificate_file;
    const char *key_file;
    const char *alpn;
    const char *congestion; /* cubic, bbr1, newreno, ... */
    const uint8_t *reset_seed; /* BP_RESET_SEED_BYTES bytes */
    uint64_t idle_timeout_ms;
    uint64_t keep_alive_us; /* 0: none */
    uint64_t handshake_timeout_us;
    uint64_t stream_window; /* bytes a peer may send ahead on a stream that is read */
    uint64_t stream_window_first; /* the same before the first read */
    uint64_t connection_window; /* unread and promised bytes, beside first windows */
    uint64_t cwin_max; /* congestion window cap in bytes; 0: none */
    uint64_t start_us; /* clock of a simulated engine */
    uint32_t connections_max;
    uint32_t streams_max; /* streams of all connections */
    uint32_t streams_bidi_max; /* concurrent, a connection, opened by the peer */
    uint32_t streams_uni_max;
    uint32_t half_open_max; /* above it every Initial must answer a Retry */
    uint32_t events_max; /* receiving pauses while this many wait */
    uint32_t arena_bytes; /* room for received bytes of one batch */
    uint32_t send_high; /* queued bytes of a stream above which it has no room */
    uint32_t send_low; /* WRITABLE comes at or below it */
    uint32_t send_max; /* queued bytes of a stream beyond which a write is refused */
    /* of a connection: above it send_low is the mark of its streams */
    uint64_t connection_send_high;
    uint32_t spin_us; /* pacing waits up to this long are spun, not slept */
    uint32_t mtu_max; /* bytes of IP packet; 0: the library's */
    uint8_t simulated; /* no sockets, no timer, time set by the caller */
    uint8_t multipath; /* offer multipath */
    uint8_t migration_disabled; /* tell peers not to migrate towards us */
    uint8_t retry_always;
    uint8_t key_log; /* write TLS secrets to $SSLKEYLOGFILE */
} bp_config_t;

typedef struct {
    uint16_t type;
    uint16_t flags;
    uint32_t reserved;
    uint64_t connection;
    uint64_t stream; /* 0 when the event is the connection's */
    uint64_t stream_id; /* the QUIC stream id */
    uint64_t a;
    uint64_t b;
    const uint8_t *data; /* valid until bp_engine_consume */
    uint64_t length;
} bp_event_t;

typedef struct {
    uint64_t srtt_us;
    uint64_t rtt_latest_us;
    uint64_t rtt_min_us;
    uint64_t rtt_var_us;
    uint64_t cwnd;
    uint64_t in_flight;
    uint64_t mtu; /* largest datagram sent so far, bytes of UDP payload */
    uint64_t sent; /* packets */
    uint64_t lost; /* packets */
    uint64_t bytes_sent;
    uint64_t bytes_received;
    bp_address_t local;
    bp_address_t remote;
} bp_path_stats_t;

typedef struct {
    uint64_t datagrams_in;
    uint64_t datagrams_out;
    uint64_t bytes_in;
    uint64_t bytes_out;
    uint64_t datagrams_dropped; /* received while far too many events waited */
    uint64_t sends_blocked; /* the kernel's send buffer was full */
    uint64_t icmp_seen; /* error-queue entries read */
    uint64_t icmp_believed; /* entries that quoted our connection id */
    uint64_t arena_overflows; /* chunks that did not fit the arena */
    uint64_t connections_refused; /* no slot left */
    uint64_t streams_refused;
    uint32_t connections;
    uint32_t streams;
    uint32_t half_open;
} bp_engine_stats_t;

/*
 * bp_picoquic_load - bind picoquic from a shared object.
 *
 * Ensures   BP_OK: every symbol is resolved and kept for later engines.
 *           BP_E_LIBRARY: message names the file or the symbol that is missing.
 * Returns   BP_OK or BP_E_LIBRARY.
 */
int bp_picoquic_load(const char *path, char *message, size_t message_size);

/* A binding good for bp_engine_create, or NULL before a successful load. */
const void *bp_picoquic_table(void);

/*
 * bp_engine_create - make an engine with no socket yet.
 *
 * Requires  config and its strings stay alive for the call; picoquic from
 *           bp_picoquic_table or, in C tests, bp_picoquic_static.
 * Returns   BP_OK, BP_E_ARGUMENT, BP_E_MEMORY, BP_E_SYSTEM, BP_E_LIBRARY (the
 *           certificate or key file is not usable).
 * Owns      *engine belongs to the caller, who calls bp_engine_free once.
 */
int bp_engine_create(const bp_config_t *config, const void *picoquic, bp_engine_t **engine);
void bp_engine_free(bp_engine_t *engine);

/* errno of the last BP_E_SYSTEM, picoquic's code of the last BP_E_LIBRARY. */
int bp_engine_errno(const bp_engine_t *engine);

/* The sizes this object was compiled with: of bp_config_t, bp_event_t, bp_path_stats_t, bp_hot_t. */
void bp_engine_sizes(size_t sizes[4]);

/*
 * bp_engine_bind - open a UDP socket; port 0 lets the kernel choose.
 *
 * Returns   the socket's index (0 is the one new connections use), BP_E_LIMIT
 *           (BP_SOCKETS_MAX), BP_E_SYSTEM (address in use, no permission).
 */
int bp_engine_bind(bp_engine_t *engine, const bp_address_t *address);

/* Close socket index > 0 once no path uses it. Returns BP_OK, BP_E_ARGUMENT or BP_E_STATE. */
int bp_engine_unbind(bp_engine_t *engine, int socket);

/* The address socket index is bound to. Returns BP_OK or BP_E_ARGUMENT. */
int bp_engine_address(const bp_engine_t *engine, int socket, bp_address_t *address);

/* One descriptor that is readable whenever the engine wants bp_engine_receive and bp_engine_send. */
int bp_engine_fd(const bp_engine_t *engine);

void bp_engine_stats(const bp_engine_t *engine, bp_engine_stats_t *stats);

/*
 * bp_engine_receive - take datagrams from the sockets and turn them into events.
 *
 * Returns   1 if more may be waiting (a budget ran out), else 0.
 */
int bp_engine_receive(bp_engine_t *engine);

/*
 * bp_engine_send - send what is due, run expired timers, arm the timer.
 *
 * Returns   BP_OK. May add events.
 */
int bp_engine_send(bp_engine_t *engine);

/*
 * Events waiting; *count of them. Receive, send, consume and every call that ends a
 * connection or a stream's sending may add some, which may move the array.
 */
const bp_event_t *bp_engine_events(const bp_engine_t *engine, uint32_t *count);

/* Forget all events and the bytes they point to. Ends that found no room follow at once. */
void bp_engine_consume(bp_engine_t *engine);

/* The hot calls as a table (hot.h), as an integer address for compiled callers. */
uintptr_t bp_engine_hot(void);

/*
 * bp_connection_open - start a handshake with peer from socket index, 0 for the first.
 *
 * Returns   BP_OK and *connection, BP_E_LIMIT, BP_E_STATE (no socket of its family, or
 *           that index is not open or of another one), BP_E_LIBRARY.
 *           CONNECTED or CLOSED follows as an event.
 */
int bp_connection_open(bp_engine_t *engine, const bp_address_t *peer, int socket,
                       uint64_t *connection);

/* Close with an application code and a reason of at most BP_REASON_BYTES_MAX bytes (cut there). */
int bp_connection_close(bp_engine_t *engine, uint64_t connection, uint64_t code,
                        const char *reason);

/* Forget the connection without a word to the peer. CLOSED (local) follows at once. */
int bp_connection_abort(bp_engine_t *engine, uint64_t connection);

/* Copy the peer's certificate (DER). Returns its size, BP_E_GONE, BP_E_STATE (it sent none) or BP_E_LIMIT (capacity). */
int64_t bp_connection_certificate(bp_engine_t *engine, uint64_t connection, uint8_t *der,
                                  size_t capacity);

/* TLS exporter (RFC 8446, 7.5) with an empty context. Returns BP_OK, BP_E_GONE, BP_E_STATE or BP_E_LIBRARY. */
int bp_connection_export(bp_engine_t *engine, uint64_t connection, const char *label,
                         uint8_t *secret, size_t size);

/* Statistics of the path in use. */
int bp_connection_stats(bp_engine_t *engine, uint64_t connection, bp_path_stats_t *stats);

/* Queue a PING. */
int bp_connection_ping(bp_engine_t *engine, uint64_t connection);

/*
 * bp_connection_migrate - move a connection we dialled to another local socket.
 *
 * Ensures   BP_OK: PATH with flag MOVED or, after timeout_us, PATH_FAILED follows;
 *           the old path stays in use meanwhile.
 * Returns   BP_OK, BP_E_GONE, BP_E_ARGUMENT (no such socket), BP_E_STATE (accepted
 *           side, handshake unfinished, or a migrate under way), BP_E_DISABLED,
 *           BP_E_EXHAUSTED, BP_E_LIBRARY.
 */
int bp_connection_migrate(bp_engine_t *engine, uint64_t connection, int socket,
                          uint64_t timeout_us);

/* Open a stream. Returns BP_OK and *stream, BP_E_GONE, BP_E_STATE, BP_E_LIMIT. */
int bp_stream_open(bp_engine_t *engine, uint64_t connection, int uni, uint64_t *stream,
                   uint64_t *stream_id);

/*
 * bp_stream_write - copy bytes to the send buffer; fin ends the stream after them.
 *
 * Returns   room left below the high-water mark (0: taken, but wait for WRITABLE
 *           before writing more), BP_E_GONE, BP_E_STATE (finished, reset or receive
 *           only), BP_E_FULL (send_max would be exceeded), BP_E_MEMORY.
 */
int64_t bp_stream_write(bp_engine_t *engine, uint64_t stream, const uint8_t *data,
                        size_t length, int fin);

/*
 * Tell how many delivered bytes the application has used up; the peer may send as many more.
 * Returns BP_OK, BP_E_GONE (released: no matter any more) or BP_E_ARGUMENT (more than was
 * delivered; stop_sending counts all of it as used up).
 */
int bp_stream_consumed(bp_engine_t *engine, uint64_t stream, uint64_t length);

/*
 * Give up sending, or reading. What is queued is dropped; what is already in packets still
 * arrives before the RESET if the peer knows RESET_STREAM_AT. A stream the peer has not
 * heard of yet is stopped when it has. Return BP_OK, BP_E_GONE or BP_E_STATE (that
 * direction has ended, or never was).
 */
int bp_stream_reset(bp_engine_t *engine, uint64_t stream, uint64_t code);
int bp_stream_stop_sending(bp_engine_t *engine, uint64_t stream, uint64_t code);

/* Lower goes first; strict between levels, round robin within an even one. */
int bp_stream_priority(bp_engine_t *engine, uint64_t stream, uint8_t priority);

/* Bytes written but not yet handed to a packet. */
int64_t bp_stream_queued(const bp_engine_t *engine, uint64_t stream);

/* Simulated engines only: set the clock, hand in one datagram, take one out (0: none due). */
int bp_sim_set_time(bp_engine_t *engine, uint64_t now_us);
int bp_sim_deliver(bp_engine_t *engine, const uint8_t *datagram, size_t length,
                   const bp_address_t *from, const bp_address_t *to);
int64_t bp_sim_take(bp_engine_t *engine, uint8_t *datagram, size_t capacity, bp_address_t *from,
                    bp_address_t *to);
/* Microseconds until the engine wants to run again. */
uint64_t bp_sim_delay(bp_engine_t *engine);
/* An ICMP destination-unreachable about a datagram to peer, quoting the start of its payload. */
int bp_sim_unreachable(bp_engine_t *engine, const bp_address_t *peer, const uint8_t *quoted,
                       size_t length);

/* cffi reads to here. */

#endif
